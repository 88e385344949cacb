"""Tool calls of a stream, one after the other, and their arguments.

Blocks of a stream follow each other, and none is opened again; servers in other dialects may tell
of several calls in turns (`index` of OpenAI's deltas), and of text between the pieces of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw

from trunkline.core.types import Thought, ToolCallDelta

# Most characters that wait for a call to end.
_MOST_HELD = 1 << 20
# How the decoder puts it.
_CUT = "truncated"

_arguments: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, Raw])


def is_whole(arguments: str) -> bool:
    """Whether these are all arguments of a call: one JSON object."""
    try:
        _arguments.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


def as_object(arguments: str) -> bytes:
    """Arguments as one JSON object: of those that are cut short none, others as an "input"."""
    try:
        _arguments.decode(arguments)
    except msgspec.DecodeError:
        if arguments.strip() == "null" or _is_cut(arguments):
            return b"{}"
        return msgspec.json.encode({"input": arguments.strip()})
    except RecursionError:
        return b"{}"
    return arguments.encode()


def _is_cut(arguments: str) -> bool:
    """Whether an object begins there, and nothing is wrong but that it does not end."""
    try:
        # Half a number is malformed.
        _arguments.decode(arguments.rstrip("-+.eE0123456789"))
    except msgspec.DecodeError as error:
        return _CUT in str(error)
    return False


class Said(msgspec.Struct):
    """Text or a thought that has waited."""

    kind: Literal["text", "thinking"]
    pieces: list[str]

    def text(self) -> str:
        """All of it."""
        return "".join(self.pieces)


class _Call(msgspec.Struct):
    index: int
    id: str
    name: str
    pieces: list[str]


# What goes out at once.
Piece = ToolCallDelta | Said | Thought


class InTurn:
    """Holds what follows back until the call that is open has all its arguments.

    What came later comes out later; at most so much is held that a call which never ends costs no
    more than its own rest.
    """

    def __init__(self) -> None:
        # The call that is open, and its arguments so far; -1 = none is.
        self._open = -1
        self._said: list[str] = []
        # What waits, in the order in which it began; and the calls in it, by their index.
        self._held: deque[_Call | Said | Thought] = deque()
        self._calls: dict[int, _Call] = {}
        self._size = 0
        self._closed: set[int] = set()

    def take(self, call: ToolCallDelta) -> Sequence[Piece]:
        """What may go out now. What belongs to a call that has been closed is lost."""
        if call.index == self._open:
            if call.name is not None:
                call = ToolCallDelta(call.index, None, None, call.arguments)
            self._said.append(call.arguments)
            if self._held and call.arguments.rstrip().endswith("}"):
                return (call, *self._next())
            return (call,)
        if call.index in self._closed:
            return ()
        if (held := self._calls.get(call.index)) is not None:
            held.pieces.append(call.arguments)
        elif call.name is None:
            # Of a call that never began.
            return ()
        else:
            held = _Call(call.index, call.id or "", call.name, [call.arguments])
            self._calls[call.index] = held
            self._held.append(held)
        return self._more(len(call.arguments))

    def waits(self) -> bool:
        """Whether text and thoughts must be held. Else the call that was open is closed."""
        if self._held or (self._open >= 0 and not is_whole("".join(self._said))):
            return True
        self.close()
        return False

    def hold(self, said: Said | Thought) -> Sequence[Piece]:
        """Have `said` wait; what may go out now instead."""
        if isinstance(said, Thought):
            self._held.append(said)
            return self._more(len(said.sealed) + len(said.signature))
        last = self._held[-1] if self._held else None
        if isinstance(last, Said) and last.kind == said.kind:
            last.pieces += said.pieces
        else:
            self._held.append(said)
        return self._more(len(said.text()))

    def rest(self) -> Sequence[Piece]:
        """All that waits; no more comes of the call that is open."""
        found: list[Piece] = []
        while self._held:
            found.append(self._begin())
        return found

    def close(self) -> None:
        """Something else follows the call that is open."""
        self._closed.add(self._open)
        self._open = -1

    def _more(self, size: int) -> Sequence[Piece]:
        self._size += size
        return self.rest() if self._size > _MOST_HELD else self._next()

    def _next(self) -> Sequence[Piece]:
        """What need not wait any more."""
        found: list[Piece] = []
        while self._held and (self._open < 0 or is_whole("".join(self._said))):
            found.append(self._begin())
        return found

    def _begin(self) -> Piece:
        self.close()
        held = self._held.popleft()
        if isinstance(held, Thought):
            self._size -= len(held.sealed) + len(held.signature)
            return held
        text = "".join(held.pieces)
        self._size -= len(text)
        if isinstance(held, Said):
            return held
        del self._calls[held.index]
        self._open, self._said = held.index, [text]
        return ToolCallDelta(held.index, held.id, held.name, text)
