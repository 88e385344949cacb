"""The structure check passes on this tree, and catches each fault in a tree that has it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.check_structure import EXCEPTIONS, LAYERS, check

ROOT = Path(__file__).resolve().parents[2]

Grow = Callable[..., list[str]]


@pytest.fixture
def grow(tmp_path: Path) -> Grow:
    """Checks a small tree: path below src/trunkline (or with "/" in front: of the root) -> text."""

    def grow(files: dict[str, str]) -> list[str]:
        for name, text in {"__init__.py": "", **files}.items():
            path = tmp_path / name[1:] if name[0] == "/" else tmp_path / "src/trunkline" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return [str(problem) for problem in check(tmp_path)]

    return grow


def test_this_tree_is_sound() -> None:
    assert check(ROOT) == []


def test_every_package_of_this_tree_has_a_layer() -> None:
    packages = {path.parent.name for path in ROOT.glob("src/trunkline/*/__init__.py")}
    assert packages <= {name for row in LAYERS for name in row}


def test_every_exception_still_has_something_to_excuse() -> None:
    for kind, name in EXCEPTIONS:
        path = name if "/" in name else f"src/{name.replace('.', '/')}"
        module = (ROOT / path).with_suffix(".py")
        assert (ROOT / path).exists() or module.exists(), f"({kind!r}, {name!r}) can go"


def test_arrows_that_go_down_are_fine(grow: Grow) -> None:
    assert grow({"server/a.py": "from trunkline.core import b\n", "core/b.py": ""}) == []


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (
            {"core/a.py": "from trunkline.engine.b import c\n", "engine/b.py": "c = 1\n"},
            "src/trunkline/core/a.py:1: core must not import trunkline.engine.b",
        ),
        (
            {"core/a.py": "def f():\n    import trunkline.engine.b\n", "engine/b.py": ""},
            "src/trunkline/core/a.py:2: core must not import trunkline.engine.b",
        ),
        (
            {"bench/a.py": "import trunkline.advise.b\n", "advise/b.py": ""},
            "src/trunkline/bench/a.py:1: bench must not import trunkline.advise.b",
        ),
        (
            {"wire/a.py": "from trunkline.engine import b\n", "engine/b.py": ""},
            "src/trunkline/wire/a.py:1: wire must not import trunkline.engine.b",
        ),
        (
            {"engine/a.py": "import httptools\n"},
            "src/trunkline/engine/a.py:1: engine must not import httptools",
        ),
        (
            {"core/a.py": "import numpy\n"},
            "src/trunkline/core/a.py:1: core must not import numpy",
        ),
        (
            {"utils/a.py": ""},
            "src/trunkline/utils/a.py:1: package 'utils' stands in no layer",
        ),
        (
            {"server/a.py": "def f():\n    import trunkline.core.b\n", "core/b.py": ""},
            "src/trunkline/server/a.py:2: import trunkline.core.b at the top of the module",
        ),
        (
            {"__init__.py": "import trunkline.core.b\n", "core/b.py": "import torch\n"},
            "src/trunkline/core/b.py:1: import trunkline must not load torch",
        ),
        (
            {"/tests/test_a.py": "\n" * 501},
            "tests/test_a.py:1: 501 lines, at most 500",
        ),
        (
            {"/tools/a.py": "def f():\n" + "    print()\n" * 80},
            "tools/a.py:1: f has 81 lines, at most 80",
        ),
        (
            {"/docs/a.md": "one\nsee ../shared/DESIGN.md\n"},
            "docs/a.md:2: names '../shared'",
        ),
    ],
)
def test_a_fault_is_found(grow: Grow, files: dict[str, str], message: str) -> None:
    assert message in grow(files)


def test_a_cycle_is_found_and_drawn(grow: Grow) -> None:
    problems = grow(
        {
            "core/a.py": "from trunkline.core.b import x\n",
            "core/b.py": "import trunkline.core.c\nx = 1\n",
            "core/c.py": "from trunkline.core import a\n",
        }
    )
    assert problems == [
        (
            "src/trunkline/core/a.py:1: import cycle: trunkline.core.a -> trunkline.core.b"
            " -> trunkline.core.c -> trunkline.core.a"
        )
    ]


def test_lazy_imports_are_the_right_of_commands(grow: Grow) -> None:
    assert grow({"cli/a.py": "def f():\n    import trunkline.core.b\n", "core/b.py": ""}) == []


@pytest.mark.parametrize("module", ["trunkline", "trunkline.__main__", "trunkline.cli.main"])
def test_importing_is_light(module: str) -> None:
    program = (
        f"import {module}, sys;"
        "print(sorted({n.split('.')[0] for n in sys.modules} & "
        "{'torch', 'numpy', 'uvloop', 'httptools', 'starlette', 'asyncio', 'msgspec'}))"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert out.stdout == "[]\n"
