"""Tool calls of a stream that tells of each where it begins and ends, by a number.

Such streams may send pieces of several calls in turns; the core gets one after the other. The order
is `openai.client_answer.Row`'s, which holds the pieces of later calls back until the earlier one is
complete; here a call is so at its end, too, whatever its arguments look like.
"""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Request, ToolCallDelta
from trunkline.wire.openai.client_answer import Row


class Calls:
    """What may go out of the calls. All raise `UpstreamFailed` where too much is to be held back.

    `index` is the stream's own: any number, which may come again once its call has ended.
    """

    def __init__(self, request: Request) -> None:
        self._row = Row(request, 0)
        self._begun = 0
        # Calls that go on, by the stream's number: which call, and whether it has any arguments.
        self._open: dict[int, tuple[int, bool]] = {}

    def begin(
        self, index: int, call_id: str | None, name: str | None, arguments: str
    ) -> Sequence[ToolCallDelta]:
        """A call begins; if one with this number goes on, it ends."""
        ended = self.end(index)
        number, self._begun = self._begun, self._begun + 1
        self._open[index] = number, bool(arguments)
        return (*ended, *self._row.call(number, call_id or "", name or "", arguments))

    def more(self, index: int, arguments: str) -> Sequence[ToolCallDelta]:
        """More of a call. Raises `UpstreamFailed` where there is none with this number."""
        if not arguments:
            return ()
        if index not in self._open:
            raise UpstreamFailed("The backend went on with a tool call that is not open.")
        number, argued = self._open[index]
        if not argued:
            self._open[index] = number, True
        return self._row.call(number, "", "", arguments)

    def end(self, index: int) -> Sequence[ToolCallDelta]:
        """A call ends, if one goes on: arguments are an object, if need be an empty one."""
        number, argued = self._open.pop(index, (-1, True))
        if number < 0:
            return ()
        last = () if argued else self._row.call(number, "", "", "{}")
        self._row.close(number)
        return (*last, *self._row.call(number, "", "", ""))

    def rest(self) -> Sequence[ToolCallDelta]:
        """All that is left, of calls that have not ended."""
        return [call for index in tuple(self._open) for call in self.end(index)]
