"""What the readers of answers with one row share: bodies in pieces, and the events of a row.

A dialect gives a `Body`: what one piece of its stream means, and what a whole body means. The rest
is here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, TypeVar

import msgspec

from trunkline.core.errors import TrunklineError, UpstreamFailed
from trunkline.core.outline import FAULTS
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    FinishReason,
    Request,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.client import Head, media_type

# Bytes of a body that is read whole.
MAX_WHOLE = 64 << 20

Piece_co = TypeVar("Piece_co", covariant=True)
Piece = TypeVar("Piece")
Piece_contra = TypeVar("Piece_contra", contravariant=True)
T = TypeVar("T")


class Frames(Protocol[Piece_co]):
    """Cuts a stream into its pieces."""

    def feed(self, data: bytes) -> Iterable[Piece_co]:
        """Pieces that `data` completes."""

    def end(self) -> Iterable[Piece_co]:
        """What is left when the stream is over. May raise `UpstreamFailed`."""


class Body(Protocol[Piece_contra]):
    """What a dialect's answer means."""

    def piece(self, piece: Piece_contra) -> Iterable[Event]:
        """Events of one piece of a stream."""

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of a body that is no stream."""

    def end(self) -> Sequence[Event]:
        """The last events; raises where the answer is cut off."""


class StreamReader:
    """A `Reader` of a stream."""

    def __init__(self, frames: Frames[Piece], body: Body[Piece]) -> None:
        self._frames = frames
        self._body = body

    def feed(self, data: bytes) -> Sequence[Event]:
        """Events that `data` completes."""
        return self._read(self._frames.feed(data))

    def end(self) -> Sequence[Event]:
        """The last events."""
        half: UpstreamFailed | None = None
        try:
            found = self._read(self._frames.end())
        except UpstreamFailed as error:
            # Half a piece; the answer may be whole without it.
            found, half = error.before, error
        try:
            return [*found, *self._body.end()]
        except UpstreamFailed as error:
            fault = half or error
            fault.before = found
            raise fault from None

    def _read(self, pieces: Iterable[Any]) -> Sequence[Event]:
        found: list[Event] = []
        body = self._body
        try:
            for piece in pieces:
                found += body.piece(piece)
        except TrunklineError as error:
            error.before = found
            raise
        return found


class WholeReader:
    """A `Reader` of a body that is no stream."""

    def __init__(self, body: Body[Piece]) -> None:
        self._body = body
        self._kept = bytearray()

    def feed(self, data: bytes) -> Sequence[Event]:
        """Keeps `data`. Raises `UpstreamFailed` for a body without end."""
        keep(self._kept, data)
        return ()

    def end(self) -> Sequence[Event]:
        """All events."""
        return [*self._body.whole(bytes(self._kept)), *self._body.end()]


class Row:
    """The one row of an answer: makes its events, and knows whether it has ended."""

    def __init__(self, request: Request) -> None:
        self._id = request.id
        self._shown = request.stop if request.include_stop else ()
        self._calls = 0
        self._finished = False
        self.usage = Usage(0, 0)
        self.timing = Timing()

    @property
    def calls(self) -> int:
        """Tool calls so far."""
        return self._calls

    def delta(
        self,
        text: str = "",
        *,
        reasoning: str = "",
        calls: Sequence[ToolCallDelta] = (),
        token_ids: tuple[int, ...] = (),
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> list[Event]:
        """More of the row, if it is anything."""
        for call in calls:
            self._calls = max(self._calls, call.index + 1)
        if not (text or reasoning or calls or token_ids or logprobs):
            return []
        if logprobs is not None and not logprobs:
            logprobs = None
        return [Delta(self._id, 0, text, token_ids, logprobs, reasoning, tuple(calls))]

    @property
    def finished(self) -> bool:
        """Whether the row is complete."""
        return self._finished

    def finish(
        self, reason: FinishReason, stop: str | None = None, hidden: TokenLogprob | None = None
    ) -> list[Event]:
        """The row is complete; a second time it is nothing. `hidden` ended it and is not shown."""
        if self._finished:
            return []
        self._finished = True
        if reason == "stop" and self._calls:
            reason = "tool_calls"
        events: list[Event] = []
        if stop is not None and stop in self._shown:
            # The server cut what the client wants to see.
            events += self.delta(stop)
        token_id = None if hidden is None else hidden.token_id
        return [*events, RowFinished(self._id, 0, reason, stop, token_id, hidden)]

    def completed(self) -> Sequence[Event]:
        """The last event. Raises `UpstreamFailed` where the row has not ended."""
        if not self._finished:
            raise UpstreamFailed("The backend's answer is cut off.")
        return (Completed(self._id, self.usage, self.timing),)


def is_whole(head: Head) -> bool:
    """Whether a response is one JSON value, by its content type."""
    kind = media_type(head.headers.get("content-type", ""))
    return kind in ("application/json", "text/json")


def keep(kept: bytearray, data: bytes) -> None:
    """Append. Raises `UpstreamFailed` beyond the bound."""
    if len(kept) + len(data) > MAX_WHOLE:
        raise too_long()
    kept += data


def too_long() -> UpstreamFailed:
    """The error of a body without end."""
    return UpstreamFailed(f"The backend's answer is longer than {MAX_WHOLE >> 20} MiB.")


def decoded(decoder: msgspec.json.Decoder[T], data: bytes | bytearray | memoryview) -> T:
    """A piece of an answer. Raises `UpstreamFailed` where it is not what it should be."""
    try:
        return decoder.decode(data)
    except FAULTS as error:
        head = bytes(data[:80]).decode(errors="replace")
        raise UpstreamFailed(f"The backend's answer makes no sense ({error}): {head!r}") from error
