"""The chat at the terminal: reading what is typed, commands that begin with a slash."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from trunkline.cli.chat import Chat, ChatOptions
from trunkline.cli.options import Option, options_of
from trunkline.cli.terminal import write_text
from trunkline.core.errors import TrunklineError
from trunkline.store.home import home

_PROMPT = ">>> "
_MORE = "... "
_FENCE = '"""'
_HISTORY_LINES = 1000

_HELP = """\
  /set NAME VALUE   change an option: {names}
  /set NAME         back to its default
  /show             the options as they are
  /clear            forget the conversation
  /bye              leave, as Ctrl-D does
  {fence}               begins and ends a message of several lines
  Ctrl-C            stops an answer"""


class Repl:
    """One session at the terminal. `read` is given a prompt and returns a line, as `input` does."""

    def __init__(self, chat: Chat, verbose: bool, read: Callable[[str], str] = input) -> None:
        self._chat = chat
        self._verbose = verbose
        self._read = read
        self._options: dict[str, Option] = {
            option.field: option for option in options_of(ChatOptions)
        }

    def run(self) -> int:
        """Until /bye or the end of input. Returns the exit status."""
        print(f"{self._chat.model} listens. /? for help, /bye or Ctrl-D to leave.")
        with _line_editing():
            while True:
                try:
                    text = self._message()
                except KeyboardInterrupt:
                    print("\n/bye or Ctrl-D leaves.")
                    continue
                except EOFError:
                    print()
                    return 0
                if text in ("/bye", "/exit", "/quit"):
                    return 0
                if text.startswith("/"):
                    print(self._command(text))
                elif text:
                    self._ask(text)

    def _message(self) -> str:
        """One message: a line, or several between triple quotes."""
        line = self._read(_PROMPT).strip()
        if not line.startswith(_FENCE):
            return line
        lines = [line.removeprefix(_FENCE)]
        while not lines[-1].rstrip().endswith(_FENCE):
            lines.append(self._read(_MORE))
        lines[-1] = lines[-1].rstrip().removesuffix(_FENCE)
        return "\n".join(lines).strip()

    def _ask(self, text: str) -> None:
        try:
            answer = self._chat.ask(text, write_text)
        except TrunklineError as error:
            print(f"\nerror: {error.message}", file=sys.stderr)
            return
        print(" [stopped]" if answer.interrupted else "", end="\n\n", flush=True)
        if self._verbose:
            print(answer.summary(), file=sys.stderr)

    def _command(self, text: str) -> str:
        """Obey a line that begins with a slash; returns what to print."""
        name, _, rest = text.partition(" ")
        match name:
            case "/set":
                return self._set(*rest.strip().partition(" ")[::2])
            case "/show":
                return "\n".join(
                    f"  {field} {getattr(self._chat.options, field)}" for field in self._options
                )
            case "/clear":
                self._chat.clear()
                return "The conversation is forgotten."
            case "/?" | "/help":
                return _HELP.format(names=", ".join(self._options), fence=_FENCE)
        return f"no command {name}; /? lists them"

    def _set(self, field: str, value: str) -> str:
        option = self._options.get(field)
        if option is None:
            return f"no option {field!r}; there are: {', '.join(self._options)}"
        try:
            parsed = option.parse(value.strip().strip('"')) if value.strip() else option.default
        except ValueError as error:
            return f"{field}: {error}"
        self._chat.options = msgspec.structs.replace(self._chat.options, **{field: parsed})
        return f"{field} = {parsed}"


@contextlib.contextmanager
def _line_editing() -> Iterator[None]:
    """Editing and a history that outlives the session, where this Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    path: Path = home(os.environ) / "history"
    with contextlib.suppress(OSError):
        readline.read_history_file(path)
    readline.set_history_length(_HISTORY_LINES)
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            readline.write_history_file(path)
            path.chmod(0o600)
