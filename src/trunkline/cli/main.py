"""The command line. This module finds the command and reports what went wrong, nothing else.

Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NamedTuple

from trunkline.cli.errors import UsageError

PROGRAM = "trunkline"


class Command(NamedTuple):
    """One command: ``trunkline NAME``. Its module is imported when it runs, not before."""

    name: str
    # Has `run(arguments) -> exit status`.
    module: str
    summary: str


COMMANDS = (
    Command("serve", "trunkline.cli.serve", "serve a model over HTTP"),
    Command("run", "trunkline.cli.run", "chat with a model in the terminal, or answer one prompt"),
    Command("status", "trunkline.cli.status", "how a server's models and backends do"),
    Command("config", "trunkline.cli.config", "check and explain configuration files"),
    Command("version", "trunkline.cli.version", "say which version this is"),
)


def usage() -> str:
    """The text of ``trunkline --help``."""
    lines = [
        f"usage: {PROGRAM} COMMAND [OPTIONS]",
        "",
        "One LLM server: it runs models itself, and stands in front of every other engine and API.",
        "",
        "commands:",
        *(f"  {command.name:<10} {command.summary}" for command in COMMANDS),
        "",
        f"`{PROGRAM} COMMAND --help` explains a command. State lives under TRUNKLINE_HOME",
        "(default ~/.trunkline).",
    ]
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that `argv` (default: ``sys.argv``) names; returns the exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        status = _dispatch(arguments)
        sys.stdout.flush()
        return status
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read us has seen enough. Python would complain again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _dispatch(arguments: list[str]) -> int:
    name = arguments.pop(0) if arguments else "--help"
    if name in ("-h", "--help", "help"):
        print(usage())
        return 0
    if name in ("-V", "--version"):
        name = "version"
    command = next((command for command in COMMANDS if command.name == name), None)
    if command is None:
        known = ", ".join(command.name for command in COMMANDS)
        return _fail(PROGRAM, f"no command {name!r}; there are: {known}", 2)
    debug = "--debug" in arguments or os.environ.get("TRUNKLINE_DEBUG", "") not in ("", "0")
    return _run(command, arguments, debug)


def _run(command: Command, arguments: list[str], debug: bool) -> int:
    """Run one command; whatever goes wrong becomes one line, with `debug` a traceback."""
    program = f"{PROGRAM} {command.name}"
    try:
        status: int = importlib.import_module(command.module).run(arguments)
        return status
    except UsageError as error:
        return _fail(program, f"{error} (see {program} --help)", 2)
    except BrokenPipeError:
        raise
    except Exception as error:
        if debug:
            raise
        return _fail(program, describe(error), 1)


def describe(error: Exception) -> str:
    """One line for a person; our own errors have it in `message`."""
    message: str | None = getattr(error, "message", None)
    if message is not None:
        return message
    return f"{type(error).__name__}: {error} (TRUNKLINE_DEBUG=1 shows where)"


def _fail(program: str, message: str, status: int) -> int:
    print(f"{program}: {message}", file=sys.stderr)
    return status
