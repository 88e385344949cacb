"""`trunkline run` at a real terminal, and on pipes, with the scripted executor."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import pytest

RULES = {
    "rules": [
        {"contains": "slow", "text": "on and on " * 500, "ms_per_token": 10},
        {"contains": "crash", "text": "so far so good", "action": "crash", "after": 8},
    ],
    "default": {"text": "Hello from the rails."},
}


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    rules = tmp_path / "rules.json"
    rules.write_text(json.dumps(RULES))
    program = [sys.executable, "-m", "trunkline", "run", str(rules)]
    return [*program, "--executor", "scripted"]


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return os.environ | {"TRUNKLINE_HOME": str(tmp_path / "home"), "TERM": "dumb"}


def _at_terminal() -> None:
    """A session of its own, with the pseudo-terminal as what Ctrl-C is typed on."""
    os.close(os.open(os.ttyname(0), os.O_RDWR))
    # Shells start what runs in the background with Ctrl-C ignored, and that is inherited.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, command: list[str], environ: dict[str, str]) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env=environ,
            start_new_session=True,
            preexec_fn=_at_terminal,  # noqa: PLW1509
        )
        os.close(slave)
        self.screen = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)

    def type(self, text: str) -> None:
        """Press keys."""
        os.write(self._master, text.encode())

    def wait_for(self, text: str, timeout: float = 90.0) -> str:
        """Read until `text` appears; returns what came up to its end."""
        deadline = time.monotonic() + timeout
        while text not in self.screen:
            left = deadline - time.monotonic()
            assert left > 0, f"no {text!r} in {self.screen!r}"
            if select.select([self._master], [], [], left)[0]:
                self.screen += os.read(self._master, 65536).decode()
        end = self.screen.index(text) + len(text)
        seen, self.screen = self.screen[:end], self.screen[end:]
        return seen

    def interrupt_prompt(self, text: str) -> None:
        """Press Ctrl-C at a prompt, again where nothing follows, until `text` appears.

        Python notices none between the moment when the prompt is shown and that in which it waits
        for a key (`readline_until_enter_or_signal` of its readline module) before the next one.
        """
        for _ in range(20):
            self.type("\x03")
            with contextlib.suppress(AssertionError):
                self.wait_for(text, timeout=5.0)
                return
        raise AssertionError(f"no {text!r} in {self.screen!r}")


@pytest.fixture
def terminal(command: list[str], environ: dict[str, str]) -> Iterator[Terminal]:
    with Terminal(command, environ) as terminal:
        terminal.wait_for(">>> ")
        yield terminal


def test_a_chat(terminal: Terminal, tmp_path: Path) -> None:
    terminal.type("hi\n")
    terminal.wait_for("Hello from the rails.")
    terminal.wait_for(">>> ")
    terminal.type("/bye\n")
    assert terminal.process.wait(timeout=90) == 0
    history = tmp_path / "home" / "history"
    assert "hi" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(terminal: Terminal) -> None:
    terminal.type("be slow\n")
    terminal.wait_for("on and on")
    terminal.type("\x03")
    terminal.wait_for("[stopped]")
    terminal.wait_for(">>> ")
    terminal.interrupt_prompt("/bye or Ctrl-D leaves.")
    terminal.type("/clear\n")
    terminal.wait_for("The conversation is forgotten.")
    terminal.type("and now?\n")
    terminal.wait_for("Hello from the rails.")
    terminal.wait_for(">>> ")
    terminal.type("\x04")
    assert terminal.process.wait(timeout=90) == 0


def test_an_engine_that_dies_ends_the_answer_and_not_the_chat(terminal: Terminal) -> None:
    terminal.type("crash\n")
    terminal.wait_for("error: ")
    terminal.wait_for(">>> ")
    terminal.type("again\n")
    terminal.wait_for("Hello from the rails.")


def pipe(
    command: list[str], environ: dict[str, str], text: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, input=text, env=environ, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_pipe_brings_the_prompt(command: list[str], environ: dict[str, str]) -> None:
    result = pipe(command, environ, "hi\n")
    assert (result.returncode, result.stdout) == (0, "Hello from the rails.\n")
    assert result.stderr == ""


def test_a_failure_is_one_line_and_a_status(command: list[str], environ: dict[str, str]) -> None:
    result = pipe([*command, "crash"], environ, "")
    assert result.returncode == 1
    assert result.stdout.startswith("so far")
    assert result.stdout.endswith("\n")
    assert result.stderr.splitlines()[-1].startswith("trunkline run: the engine process was killed")


def test_a_reader_that_leaves_ends_the_program(command: list[str], environ: dict[str, str]) -> None:
    with subprocess.Popen(
        [*command, "be slow"], env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.read(5) == b"on an"
        process.stdout.close()
        assert process.wait(timeout=90) == 1
        assert process.stderr.read() == b""
