"""``trunkline run``: chat with a model in the terminal, or answer one prompt."""

from __future__ import annotations

import logging
import os
import signal
import stat
import sys
from collections.abc import Sequence
from types import FrameType
from typing import TextIO

from trunkline.cli.chat import Chat, ChatOptions
from trunkline.cli.engine import LocalChatEngine
from trunkline.cli.errors import UsageError
from trunkline.cli.models import FROM_MODEL, engine_config
from trunkline.cli.options import Parser, add_options, new_parser, read_options
from trunkline.cli.repl import Repl
from trunkline.cli.terminal import write_text
from trunkline.engine.config import EngineConfig
from trunkline.store.resolve import DEFAULT_MODEL

# Most bytes of standard input that become a prompt; no context is as long as this.
_MAX_INPUT = 16 << 20

_EPILOG = """\
examples:
  trunkline run                                  chat with the bundled model
  trunkline run ./model.gguf                     chat with a model of your own
  trunkline run caboose "What is 17 + 25?"       one answer
  trunkline run caboose "Sum this up:" < a.txt   standard input follows the prompt

Options can be set in the environment as well: --ctx-size as TRUNKLINE_CTX_SIZE.
"""


def _parser() -> Parser:
    parser = new_parser(
        "run",
        "Chat with a model in the terminal, or answer one prompt.",
        usage="trunkline run [MODEL] [PROMPT] [OPTIONS]",
        epilog=_EPILOG,
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="MODEL PROMPT",
        help="A bundled name, or the path of a GGUF file or of a folder of safetensors (default: "
        f"{DEFAULT_MODEL}), and what to ask. Without a prompt: chat, or on a pipe, what it brings.",
    )
    parser.add_argument(
        "--verbose", action="store_true", help="Print token counts and speed after each answer."
    )
    add_options(parser, ChatOptions, "chat")
    add_options(parser, EngineConfig, "engine", skip=FROM_MODEL)
    return parser


def split_words(words: Sequence[str]) -> tuple[str, str]:
    """(model, prompt) of the positional arguments.

    A first argument with a space in it that is no file is a prompt: no bundled name has one.
    """
    if not words:
        return DEFAULT_MODEL, ""
    if " " in words[0] and not os.path.exists(words[0]):
        return DEFAULT_MODEL, " ".join(words)
    return words[0], " ".join(words[1:])


def piped_text(stream: TextIO) -> str:
    """What a pipe or a file brings on `stream`; "" for a terminal or /dev/null.

    Raises `UsageError` when it is too long or not UTF-8.
    """
    mode = os.fstat(stream.fileno()).st_mode
    if stat.S_ISCHR(mode):
        return ""
    data = stream.buffer.read(_MAX_INPUT + 1)
    if len(data) > _MAX_INPUT:
        raise UsageError(f"standard input is longer than {_MAX_INPUT >> 20} MiB")
    try:
        return data.decode().strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"standard input is not UTF-8 text: {error}") from error


def _on_terminate(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def run(argv: Sequence[str]) -> int:
    """Chat or answer. Returns the exit status."""
    arguments = _parser().parse_intermixed_args(argv)
    model, prompt = split_words(arguments.words)
    options = read_options(ChatOptions, arguments, os.environ)
    config, _ = engine_config(model, arguments, os.environ)
    interactive = not prompt and sys.stdin.isatty()
    if not interactive:
        prompt = "\n\n".join(part for part in (prompt, piped_text(sys.stdin)) if part)
        if not prompt:
            raise UsageError("nothing to ask: no prompt, and standard input is empty")
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    # End like any other way out: the engine's processes are stopped, and waited for.
    signal.signal(signal.SIGTERM, _on_terminate)
    with LocalChatEngine(config) as engine:
        chat = Chat(engine, config.name, options)
        if interactive:
            return Repl(chat, arguments.verbose).run()
        return _answer_once(chat, prompt, arguments.verbose)


def _answer_once(chat: Chat, prompt: str, verbose: bool) -> int:
    written = ""

    def write(text: str) -> None:
        nonlocal written
        written = text or written
        write_text(text)

    try:
        answer = chat.ask(prompt, write)
    finally:
        # Whatever follows, an error included, begins on a line of its own.
        if written and not written.endswith("\n"):
            write_text("\n")
    if verbose:
        print(answer.summary(), file=sys.stderr)
    return 130 if answer.interrupted else 0
