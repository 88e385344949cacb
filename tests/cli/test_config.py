"""`trunkline config`, and `trunkline serve --config` up to the server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import uvloop
import yaml

from trunkline.cli import serve
from trunkline.cli.config import run
from trunkline.cli.errors import UsageError
from trunkline.cli.serve import load_with_flags, new_serve_parser
from trunkline.server import compose
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import Loaded
from trunkline.server.file.problems import FileError

ROOT = Path(__file__).resolve().parents[2]
GOOD = """\
server: {port: 81, drain_timeout: 5}
keys: [one]
engines: [caboose]
routes: {chat: [caboose, openai/gpt-4o], "a/*": "groq/*"}
"""
LITELLM = """\
model_list: [{model_name: m, litellm_params: {model: openai/x, tags: [a]}}]
"""


def write(tmp_path: Path, text: str) -> str:
    path = tmp_path / "trunkline.yaml"
    path.write_text(text)
    return str(path)


def test_check_says_what_a_file_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    path = write(tmp_path, GOOD)
    assert run(["check", path]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert out.splitlines()[:2] == [
        f"{path}: good",
        "listens on 127.0.0.1:81; clients need a key (1 known)",
    ]
    assert "  chat  ->  caboose  (weighted)\n" in out
    assert "            openai/gpt-4o\n" in out
    assert "  a/*   ->  groq/*\n" in out
    assert "  caboose: built-in engine, caboose\n" in out
    assert "  openai: OpenAI, https://api.openai.com, no key (OPENAI_API_KEY)\n" in out


def test_check_says_what_is_loaded_on_demand(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = """
residency: {memory: 8G}
engines:
  big: {model: big.gguf, on_demand: true}
backends:
  mine: {kind: vllm, launch: {model: m, on_demand: true, keep_alive: -1, memory: 4G}}
  ours: {kind: vllm, models: [x], launch: {model: m}}
"""
    assert run(["check", write(tmp_path, text)]) == 0
    out = capsys.readouterr().out
    assert "  big: built-in engine, big.gguf, on demand, kept for 300 s\n" in out
    assert "  mine: vLLM, launched here, on demand, kept\n" in out
    assert "  ours: vLLM, launched here\n" in out
    assert "  what is built in or launched here shares 8G of memory\n" in out


def test_check_lists_every_error_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, "server: {prt: 1}\nrouts: {}\n")
    assert run(["check", path]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        f"{path}:1:10: server.prt: no field is called 'prt'; did you mean 'port'?",
        f"{path}:2:1: routs: no section is called 'routs'; did you mean 'routes'?",
    ]


def test_check_lists_what_of_litellms_file_is_not_supported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path, LITELLM)
    assert run(["check", path]) == 0
    assert run(["check", "--strict", path]) == 1
    out = capsys.readouterr().out
    assert f"{path}: LiteLLM's config.yaml" in out
    assert "model_list[0].litellm_params.tags: tags do not choose among targets" in out


def test_show_prints_the_long_form_without_secrets(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GROQ_API_KEY", "gsk-secret")
    assert run(["show", write(tmp_path, GOOD)]) == 0
    out = capsys.readouterr().out
    assert "gsk-secret" not in out
    shown = yaml.safe_load(out)
    assert shown["keys"] == ["********"]
    assert shown["routes"][0]["targets"][1] == {"backend": "openai", "model": "gpt-4o"}
    assert {backend["name"] for backend in shown["backends"]} == {"openai", "groq"}


def test_the_pages_are_those_that_are_committed(capsys: pytest.CaptureFixture[str]) -> None:
    for command, path in (
        ("schema", "docs/trunkline.schema.json"),
        ("reference", "docs/config.md"),
    ):
        assert run([command]) == 0
        assert capsys.readouterr().out == (ROOT / path).read_text()


def test_options_are_listed_by_engine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["options", "vllm"]) == 0
    out = capsys.readouterr().out
    assert "  vllm                   --max-model-len\n" in out
    assert "sglang" not in out
    assert run(["options"]) == 0
    assert "  sglang                 --context-length\n" in capsys.readouterr().out


@pytest.mark.parametrize("argv", [[], ["chek"], ["check"], ["options", "nothing"]])
def test_wrong_usage_is_told(argv: list[str]) -> None:
    with pytest.raises(UsageError):
        run(argv)


def merged(path: str, *argv: str, **environ: str) -> ServerConfig:
    arguments = new_serve_parser().parse_args(["--config", path, *argv])
    return load_with_flags(arguments, environ).config.server


def test_flags_win_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    path = write(tmp_path, GOOD)
    assert merged(path).port == 81
    assert merged(path, TRUNKLINE_PORT="82").port == 82
    assert merged(path, "--port", "83", TRUNKLINE_PORT="82").port == 83
    assert merged(path, "--port", "83").drain_timeout == 5
    assert merged(path).api_key == ("one",)
    assert merged(path, "--api-key", "two").api_key == ("two", "one")
    assert merged(path, LITELLM_MASTER_KEY="x").api_key == ("one",)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["./m.gguf"], "--config serves what the file names; put './m.gguf' into it"),
        (["--ctx-size", "9"], "--ctx-size: set it for an engine in"),
        (["--max-model-len", "9"], "--ctx-size: set it for an engine in"),
    ],
)
def test_a_file_names_its_models_itself(tmp_path: Path, argv: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        serve.run(["--config", write(tmp_path, GOOD), *argv])
    assert str(caught.value).startswith(message)


def test_a_wrong_file_starts_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"trunkline.yaml:1:10: server.prt"):
        serve.run(["--config", write(tmp_path, "server: {prt: 1}\n")])


def test_what_the_file_says_reaches_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[tuple[Loaded, ServerConfig, Callable[[], Loaded]]] = []

    async def serve_file(
        loaded: Loaded, server: ServerConfig, *, reload: Callable[[], Loaded], **callbacks: Any
    ) -> None:
        callbacks["on_listening"](("http://127.0.0.1:82",))
        seen.append((loaded, server, reload))

    monkeypatch.setattr(compose, "serve_file", serve_file)
    path = write(tmp_path, LITELLM)
    # Whatever loop pytest has stays as it is.
    monkeypatch.setattr(uvloop, "run", asyncio.run)
    assert serve.run(["--config", path, "--port", "82"]) == 0
    ((loaded, server, reload),) = seen
    assert server == loaded.config.server
    assert server.port == 82
    assert "note: " + path + ":1:" in capsys.readouterr().err
    (tmp_path / "trunkline.yaml").write_text(GOOD)
    again = reload()
    assert again.config.routes[0].name == "chat"
    assert again.config.server == msgspec.structs.replace(
        again.config.server, port=82, api_key=("one",)
    )
