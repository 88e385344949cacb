"""Tool calls of a stream, one after the other.

Blocks of a stream follow each other, and none is opened again; servers in other dialects may tell
of several calls in turns (`index` of OpenAI's deltas).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.types import ToolCallDelta

# Most characters of calls that wait for an earlier one.
_MOST_HELD = 1 << 20

_arguments: msgspec.json.Decoder[Any] = msgspec.json.Decoder(dict[str, Raw])


def is_whole(arguments: str) -> bool:
    """Whether these are all arguments of a call: one JSON object."""
    try:
        _arguments.decode(arguments)
    except (msgspec.DecodeError, RecursionError):
        return False
    return True


class InTurn:
    """Holds pieces of later calls back until the call that is open has all its arguments."""

    def __init__(self) -> None:
        # The call that is open, and its arguments so far; -1 = none is.
        self._open = -1
        self._said: list[str] = []
        # Calls that wait, in the order in which they began: id, name, arguments.
        self._held: dict[int, tuple[str, str, list[str]]] = {}
        self._size = 0
        self._closed: set[int] = set()

    def take(self, call: ToolCallDelta) -> Sequence[ToolCallDelta]:
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
        if (held := self._held.get(call.index)) is not None:
            held[2].append(call.arguments)
        elif call.name is None:
            # Of a call that never began.
            return ()
        else:
            self._held[call.index] = call.id or "", call.name, [call.arguments]
        self._size += len(call.arguments)
        return self.rest() if self._size > _MOST_HELD else self._next()

    def rest(self) -> Sequence[ToolCallDelta]:
        """All that waits; no more comes of the call that is open."""
        found: list[ToolCallDelta] = []
        while self._held:
            found.append(self._begin())
        return found

    def close(self) -> None:
        """Something else follows the call that is open."""
        self._closed.add(self._open)
        self._open = -1

    def _next(self) -> Sequence[ToolCallDelta]:
        """Calls that need not wait any more."""
        found: list[ToolCallDelta] = []
        while self._held and (self._open < 0 or is_whole("".join(self._said))):
            found.append(self._begin())
        return found

    def _begin(self) -> ToolCallDelta:
        self._closed.add(self._open)
        self._open = index = next(iter(self._held))
        call_id, name, pieces = self._held.pop(index)
        text = "".join(pieces)
        self._size -= len(text)
        self._said = [text]
        return ToolCallDelta(index, call_id, name, text)
