"""The documents say what is there: commands, flags, endpoints, packages, links."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest

from tools.caboose.corpus.base import README_PROMPTS
from trunkline.cli.main import COMMANDS
from trunkline.cli.serve import new_serve_parser
from trunkline.server.config import ServerConfig
from trunkline.wire.table import ROUTES

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
STRUCTURE = (ROOT / "docs/structure.md").read_text()
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]
DOCUMENTS += sorted((ROOT / "docs").rglob("*.md"))


def _section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def _blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def test_the_scripts_that_are_named_can_be_run() -> None:
    named = {name for path in DOCUMENTS for name in re.findall(r"scripts/\w+", path.read_text())}
    assert {"scripts/run", "scripts/test", "scripts/soak"} <= named
    for name in named - {"scripts/check_structure", "scripts/docs"}:
        assert os.access(ROOT / name, os.X_OK), name


def test_ci_runs_the_test_command_and_nothing_else() -> None:
    lines = (ROOT / ".ci/run").read_text().splitlines()
    code = [line for line in lines if line and not line.startswith("#")]
    assert code[0] == "set -euo pipefail"
    assert code[-1] == "exec scripts/test"
    assert not any("pytest" in line or "pip install" in line for line in code)


def test_commands() -> None:
    named = re.findall(r"^\| `trunkline (\w+)", _section(README, "Commands"), re.MULTILINE)
    assert named == [command.name for command in COMMANDS]


def test_flags_and_variables() -> None:
    known = {flag for action in new_serve_parser()._actions for flag in action.option_strings}
    named = set(re.findall(r"--[a-z][a-z-]+", _section(README, "Commands")))
    assert len(named) > 10
    assert named <= known
    for variable in re.findall(r"TRUNKLINE_[A-Z_]+", README):
        flag = "--" + variable.removeprefix("TRUNKLINE_").lower().replace("_", "-")
        assert flag in known or variable == "TRUNKLINE_HOME", variable


def test_endpoints() -> None:
    named = set(re.findall(r"`([A-Z]+) (/[^`]*)`", _section(README, "Endpoints")))
    routes = {(route.method, re.sub(r":\w+\}", "}", route.path)) for route in ROUTES}
    assert named == routes


def test_packages() -> None:
    named = set(re.findall(r"^\| `(\w+)` \|", _section(STRUCTURE, "Packages"), re.MULTILINE))
    there = {path.parent.name for path in ROOT.glob("src/trunkline/*/__init__.py")}
    assert named == there | {"models_bundled"}


def test_modules_that_the_structure_names() -> None:
    roots = {path.parent.name for path in ROOT.glob("src/trunkline/*/__init__.py")}
    for name in re.findall(r"`([a-z_]+(?:/[a-z_]+)+)`", STRUCTURE):
        if name.split("/")[0] in roots:
            base = ROOT / "src/trunkline" / name
            assert base.is_dir() or base.with_suffix(".py").is_file(), name


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_links(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", path.read_text()):
        assert target.startswith("https://") or (path.parent / target).exists(), target


def test_prompts_are_held_out() -> None:
    asked = re.findall(r'^- "(.*)"$', README, re.MULTILINE)
    asked += re.findall(r'"content": "(.*?)"', README) + re.findall(r'echo "(.*?)"', README)
    assert len(asked) >= 5
    assert set(asked) <= set(README_PROMPTS)


def test_the_client_example_fits_the_defaults() -> None:
    (example,) = _blocks("python")
    assert len(example.strip().splitlines()) == 6
    ast.parse(example)
    config = ServerConfig()
    assert f'base_url="http://{config.host}:{config.port}/v1"' in example
    assert f"http://{config.host}:{config.port}" in _blocks("sh")[0]


def test_the_changelog_keeps_its_form() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert headings[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", item) for item in headings[1:])
    kinds = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert kinds <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
