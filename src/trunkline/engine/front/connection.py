"""One connection from a gateway worker: frames in, bounded frames out."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Sequence
from typing import Protocol, cast

import msgspec

from trunkline.core.types import Delta, Event, PromptTokens
from trunkline.engine.frames import (
    EventBatch,
    FrameTooLarge,
    Framing,
    FromFront,
    FrontStatus,
    ToFront,
    pack,
)

log = logging.getLogger("trunkline.front")

# Bytes in the transport's own buffer above which events wait here, by request.
_HIGH_WATER = 256 * 1024
# Bytes (estimated) of one batch of events that had waited.
_FLUSH = 256 * 1024


class ConnectionHandler(Protocol):
    """What a connection tells the front, on the event loop."""

    def on_connected(self, connection: GatewayConnection) -> None:
        """A gateway worker is there."""

    def on_message(self, connection: GatewayConnection, message: ToFront) -> None:
        """It asks for something."""

    def on_overflow(self, connection: GatewayConnection, request_id: str) -> None:
        """More waits for this request than may; its waiting events have been dropped."""

    def on_disconnected(self, connection: GatewayConnection) -> None:
        """It is gone."""


class GatewayConnection(asyncio.Protocol):
    """Splits the stream into messages; holds events back while the peer does not read.

    Invariant: while `_waiting` is not empty, events go to its end and nowhere else.
    """

    def __init__(self, handler: ConnectionHandler, max_waiting: int) -> None:
        self._handler = handler
        self._max_waiting = max_waiting
        self._framing = Framing()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[ToFront] = msgspec.msgpack.Decoder(ToFront)
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._waiting: deque[Event] = deque()
        # Bytes that wait, by request.
        self._sizes: dict[str, int] = {}
        self._status: FrontStatus | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transports do not inherit from asyncio's.
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=_HIGH_WATER)
        self._handler.on_connected(self)

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._framing.feed(data):
                self._handler.on_message(self, self._decoder.decode(payload))
        except (FrameTooLarge, msgspec.DecodeError) as error:
            log.error("bad message from a gateway: %s", error)
            self.abort()

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._status is not None:
            self.tell(self._status)
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._waiting.clear()
        self._sizes.clear()
        self._handler.on_disconnected(self)

    # sending

    def deliver(self, events: Sequence[Event]) -> None:
        """Send events, or let them wait for a reader that is behind."""
        if not self._paused and not self._waiting:
            self._write(EventBatch(tuple(events)))
            return
        overflowing: dict[str, None] = {}
        for event in events:
            size = self._sizes.get(event.request_id, 0) + _size(event)
            self._sizes[event.request_id] = size
            self._waiting.append(event)
            if size > self._max_waiting and isinstance(event, Delta | PromptTokens):
                overflowing[event.request_id] = None
        for request_id in overflowing:
            self.drop(request_id)
            self._handler.on_overflow(self, request_id)

    def drop(self, request_id: str) -> None:
        """Forget what waits for a request."""
        if self._sizes.pop(request_id, 0):
            self._waiting = deque(e for e in self._waiting if e.request_id != request_id)

    def tell(self, message: FromFront) -> None:
        """Send anything but events; of statuses that cannot go out only the last one is kept."""
        if self._paused and isinstance(message, FrontStatus):
            self._status = message
            return
        self._status = None
        self._write(message)

    def close(self) -> None:
        """Close once everything written has gone out."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, message: FromFront) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(self._encoder.encode(message)))

    def _flush(self) -> None:
        while self._waiting and not self._paused:
            batch: list[Event] = []
            size = 0
            while self._waiting and size < _FLUSH:
                event = self._waiting.popleft()
                own = _size(event)
                left = self._sizes[event.request_id] - own
                if left > 0:
                    self._sizes[event.request_id] = left
                else:
                    del self._sizes[event.request_id]
                size += own
                batch.append(event)
            self._write(EventBatch(tuple(batch)))


def _size(event: Event) -> int:
    """Bytes of an event, roughly."""
    if isinstance(event, PromptTokens):
        return 64 + sum(16 + 48 * len(token.top) for token in event.tokens)
    if not isinstance(event, Delta):
        return 64
    size = 64 + len(event.text) + len(event.reasoning) + 4 * len(event.token_ids)
    size += sum(32 + len(call.arguments) for call in event.tool_calls)
    return size + sum(48 * (1 + len(entry.top)) for entry in event.logprobs or ())
