"""`trunkline serve` up to the server: keys, addresses, what the terminal shows."""

from __future__ import annotations

import errno
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from trunkline.cli import serve
from trunkline.cli.errors import CommandFailed, UsageError
from trunkline.cli.serve import Announcer, is_exposed, new_serve_parser, read_keys, server_config
from trunkline.core.types import ModelCard
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import CoreStats, FrontStatus
from trunkline.server.config import ServerConfig

ENGINE = EngineConfig(name="wagon", model="wagon.gguf")
READY = FrontStatus("ready", "", ModelCard("wagon", context_length=4096), CoreStats())


def configure(*argv: str, **environ: str) -> ServerConfig:
    return server_config(new_serve_parser().parse_args(argv), environ)


def test_keys_come_from_flags_files_and_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("# ours\none\n\n  two \n")
    assert read_keys(str(file)) == ("one", "two")
    assert configure("--api-key", "zero", "--api-key-file", str(file)).api_key == (
        "zero",
        "one",
        "two",
    )
    assert configure(TRUNKLINE_API_KEY="a,b").api_key == ("a", "b")
    assert configure(TRUNKLINE_API_KEY_FILE=str(file)).api_key == ("one", "two")
    assert configure().api_key == ()


@pytest.mark.parametrize("content", ["", "# none\n", "\n\n"])
def test_a_file_without_keys_does_not_open_the_server(tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    with pytest.raises(UsageError, match="has no keys"):
        configure("--api-key-file", str(file))


@pytest.mark.parametrize("argv", [["--api-key", ""], ["--api-key", " "]])
def test_an_empty_key_does_not_open_the_server(argv: list[str]) -> None:
    with pytest.raises(UsageError, match="--api-key: expected a key"):
        configure(*argv)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--api-key-file: cannot read .*nothing"):
        configure("--api-key-file", str(tmp_path / "nothing"))


def test_a_bad_address_is_refused_before_anything_starts() -> None:
    with pytest.raises(UsageError, match="--listen: 'localhost': expected HOST:PORT"):
        configure("--listen", "127.0.0.1:80", "--listen", "localhost")


@pytest.mark.parametrize(
    ("address", "exposed"),
    [
        ("127.0.0.1:8000", False),
        ("localhost:8000", False),
        ("[::1]:8000", False),
        ("unix:/run/x.sock", False),
        ("0.0.0.0:8000", True),
        ("[::]:8000", True),
        (":8000", True),
        ("example.org:8000", True),
    ],
)
def test_what_other_machines_can_reach(address: str, exposed: bool) -> None:
    assert is_exposed(address) is exposed


def announce(config: ServerConfig, *urls: str) -> None:
    announcer = Announcer(ENGINE.name, config)
    announcer.begin()
    announcer.on_listening(urls)
    announcer.on_status(READY)
    announcer.on_ready(("wagon",))
    announcer.end()


def test_the_banner_says_model_address_context_and_a_first_question(
    capsys: pytest.CaptureFixture[str],
) -> None:
    announce(ServerConfig(), "http://127.0.0.1:8000")
    out, err = capsys.readouterr()
    assert "serves wagon" in out
    assert "  http://127.0.0.1:8000/v1\n" in out
    assert "context of 4096 tokens" in out
    assert "curl http://127.0.0.1:8000/v1/chat/completions -d '{" in out
    assert "Authorization" not in out
    assert err == ""


def test_the_banner_of_a_socket_with_keys_shows_none_of_them(
    capsys: pytest.CaptureFixture[str],
) -> None:
    config = ServerConfig(listen=("unix:/tmp/a b",), api_key=("secret",))
    announce(config, "unix:/tmp/a b")
    out, err = capsys.readouterr()
    assert "curl --unix-socket '/tmp/a b' http://localhost/v1/chat/completions" in out
    assert "Bearer $TRUNKLINE_API_KEY" in out
    assert "secret" not in out + err


@pytest.mark.parametrize(
    ("config", "warned"),
    [
        (ServerConfig(host="0.0.0.0"), True),
        (ServerConfig(host="0.0.0.0", api_key=("k",)), False),
        (ServerConfig(), False),
    ],
)
def test_an_open_server_is_warned_about(
    config: ServerConfig, warned: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    announce(config, "http://0.0.0.0:8000")
    assert ("warning: other machines" in capsys.readouterr().err) is warned


def test_a_port_in_use_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(config: ServerConfig, engines: Sequence[EngineConfig], **callbacks: Any) -> None:
        raise OSError(errno.EADDRINUSE, "address already in use")

    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    monkeypatch.setattr(serve, "run_server", refuse)
    with pytest.raises(CommandFailed) as caught:
        serve.run([str(rules), "--executor", "scripted", "--port", "81"])
    assert caught.value.message == (
        "cannot listen on 127.0.0.1:81: address already in use; choose another --port or --listen"
    )


def test_what_is_asked_for_reaches_the_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[ServerConfig, Sequence[EngineConfig]]] = []
    rules = tmp_path / "rules.json"
    rules.write_text("{}")
    monkeypatch.setattr(
        serve, "run_server", lambda config, engines, **callbacks: seen.append((config, engines))
    )
    argv = ["--executor", "scripted", "--port", "81", "--ctx-size", "512", "--kv-memory", "1G"]
    assert serve.run([str(rules), *argv]) == 0
    ((config, engines),) = seen
    assert config.port == 81
    assert engines == [
        EngineConfig(
            name="rules", model=str(rules), executor="scripted", ctx_size=512, kv_memory=1 << 30
        )
    ]
