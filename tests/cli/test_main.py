"""The command line as a whole, run as a program."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from trunkline import __version__
from trunkline.cli.main import COMMANDS, main
from trunkline.core.errors import ModelNotFound


def trunkline(*arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trunkline", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={"PATH": "/usr/bin:/bin", **more},
        check=False,
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"], ["help"]])
def test_help_lists_the_commands(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert all(f"  {command.name} " in out for command in COMMANDS)


def test_help_is_instant() -> None:
    """Under 0.3 s; processor time, since a busy machine says nothing about us."""

    def once() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert trunkline("--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(once() for _ in range(3)) < 0.3


@pytest.mark.parametrize("arguments", [["version"], ["--version"], ["-V"]])
def test_version(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    assert capsys.readouterr().out == f"trunkline {__version__}\n"


@pytest.mark.parametrize("command", [command.name for command in COMMANDS])
def test_each_command_explains_itself(command: str) -> None:
    result = trunkline(command, "--help")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(f"usage: trunkline {command}")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["fly"], 2, "trunkline: no command 'fly'; there are: serve, run, "),
        (
            ["serve", "--port", "70000"],
            2,
            (
                "trunkline serve: --port: expected a whole number from 0 to 65535, not '70000' "
                "(see trunkline serve --help)\n"
            ),
        ),
        (
            ["run", "--nonsense"],
            2,
            "trunkline run: unrecognized arguments: --nonsense (see trunkline run --help)\n",
        ),
        (["run"], 2, "trunkline run: nothing to ask: no prompt, and standard input is empty"),
    ],
)
def test_wrong_usage_is_one_line(arguments: list[str], status: int, message: str) -> None:
    result = trunkline(*arguments)
    assert (result.returncode, result.stdout) == (status, "")
    assert result.stderr.startswith(message)
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("command", ["serve", "run"])
def test_an_unknown_model_is_named(command: str) -> None:
    result = trunkline(command, "gpt-9", "hello" if command == "run" else "--port=0")
    assert result.returncode == 1
    assert result.stderr.startswith(f"trunkline {command}: no model 'gpt-9'; in the box: ")
    assert result.stderr.count("\n") == 1


def test_a_traceback_only_on_demand(monkeypatch: pytest.MonkeyPatch) -> None:
    error = ModelNotFound("no model 'x'")

    def fail(arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr("importlib.import_module", lambda name: _Module(fail))
    assert main(["version"]) == 1
    with pytest.raises(ModelNotFound):
        main(["version", "--debug"])
    monkeypatch.setenv("TRUNKLINE_DEBUG", "1")
    with pytest.raises(ModelNotFound):
        main(["version"])
    monkeypatch.setenv("TRUNKLINE_DEBUG", "0")
    assert main(["version"]) == 1


class _Module:
    def __init__(self, run: object) -> None:
        self.run = run


def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m trunkline --help | true; exit ${{PIPESTATUS[0]}}"
    result = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.stderr == ""
