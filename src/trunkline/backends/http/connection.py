"""One connection to a backend: writes a request, parses the response, is kept for the next one.

llhttp (through httptools) parses, strictly. What one read brings is delivered after it has been
parsed, in one piece, so that many small chunks cost one call and a receiver may cancel anywhere.
"""

from __future__ import annotations

import asyncio
import functools
import socket
from math import inf
from typing import Protocol

import httptools

from trunkline.backends.http.transfer import Transfer
from trunkline.core.errors import TrunklineError, UpstreamFailed
from trunkline.core.heads import Gathered, Heads, head_of
from trunkline.core.pieces import unchunked
from trunkline.wire.client import Head

# A body up to this size is copied behind its head, to be one buffer; a larger one is not.
_COPY = 64 * 1024
# Where the head came before, a body is given in one piece if no more than this is to come: whoever
# waits is not kept from knowing for long that it does.
_GATHERED = 256 * 1024
# Seconds within which a kept connection that closes without an answer was dead before: the notice
# of its end needs one way through the network. Later than that the backend has died at work.
_STALE = 1.0
# Seconds less than the backend's own bound on an idle connection.
_MARGIN = 1.0
# A time until which it may be kept that is not known before somebody asks.
_UNSEEN = -inf


class Owner(Protocol):
    """What a connection needs of its pool."""

    # For messages: "backend 'vllm-1'".
    title: str
    loop: asyncio.AbstractEventLoop
    max_header_bytes: int
    keepalive: float
    # Of responses that came before, on any connection.
    heads: Heads[Head]

    def released(self, connection: Connection) -> None:
        """It can take another request."""

    def lost(self, connection: Connection) -> None:
        """It is closed, or about to be."""

    def again(self, transfer: Transfer) -> None:
        """Send it once more on another connection: this one was dead already."""


class _Refused(Exception):
    """Leaves the parser's callbacks when a response is over a limit."""


class Connection(asyncio.Protocol):
    """Carries one transfer at a time. Its ``on_`` methods are for the parser."""

    __slots__ = (
        "_between",
        "_complete",
        "_dirty",
        "_expects_length",
        "_fields",
        "_gathering",
        "_head",
        "_idle_until",
        "_informational",
        "_keep",
        "_known",
        "_last",
        "_length",
        "_opening",
        "_owner",
        "_parser",
        "_pieces",
        "_reading",
        "_silent",
        "_since",
        "_surplus",
        "_time",
        "_told",
        "_transfer",
        "_transport",
        "_unseen",
        "_used",
    )

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._transfer: Transfer | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._time = owner.loop.time
        self._reading = True
        # True: it has carried a transfer before this one; and the loop's time when it took this.
        self._used = False
        self._since = 0.0
        # A head that came before, and its body, while the rest of that is to come.
        self._known: Head | None = None
        self._gathering: Gathered | None = None
        # Of the response that it carried last.
        self._last: Head | None = None
        # The loop's time until which it may be kept without a request.
        self._idle_until = _UNSEEN
        self._begin()

    def _begin(self) -> None:
        """Expect a response, after one that was parsed."""
        # True: something has come since.
        self._dirty = False
        self._head: Head | None = None
        # Fields of the head, or of a trailer, which is dropped.
        self._fields: list[tuple[bytes, bytes]] = []
        self._informational = False
        # True: the receiver knows the head.
        self._told = False
        self._pieces: list[bytes] = []
        # True: the last that the parser has taken was the end of a chunk.
        self._between = False
        self._complete = False
        self._keep = False
        # What the head says of its body's length, None where it does not.
        self._length: str | None = None
        # False: the body ends with the connection.
        self._expects_length = True
        # True: nothing has arrived yet.
        self._silent = True
        # True: more than one response came for one request.
        self._surplus = False
        # Bytes since the parser last made progress; httptools keeps an unfinished header itself.
        self._unseen = 0
        # The head, as it came, where that was in one piece.
        self._opening = b""

    # for the pool

    @property
    def usable(self) -> bool:
        """Whether a request can be written to it."""
        return self._transport is not None and not self._transport.is_closing()

    def idles(self, now: float) -> bool:
        """Whether it has been without a request for long, at the loop's time; asked again and again
        while it is.
        """
        if self._idle_until == _UNSEEN:
            seconds = self._owner.keepalive
            if self._last is not None and "keep-alive" in self._last.headers:
                seconds = min(seconds, _announced(self._last.headers["keep-alive"]))
            self._idle_until = now + seconds
        return self._idle_until <= now

    def start(self, transfer: Transfer) -> bool:
        """Write a request. The connection carries nothing. False: it is not usable."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return False
        assert self._transfer is None
        self._transfer = transfer
        transfer.carrier = self
        if self._dirty:
            self._begin()
        self._silent = True
        if self._used:
            self._since = self._time()
        body = transfer.body
        if len(body) <= _COPY:
            transport.write(transfer.head + body)
        else:
            transport.writelines((transfer.head, body))
        if transfer.paused:
            self.set_reading(False)
        return True

    def close(self) -> None:
        """Close at once; whatever it carries hears nothing more."""
        self._transfer = None
        if self._transport is not None:
            self._transport.abort()

    def fail(self, error: TrunklineError) -> None:
        """Close at once, and tell who waits for the response."""
        transfer = self._transfer
        self.close()
        self._owner.lost(self)
        if transfer is not None:
            transfer.fail(error)

    # transfer.Carrier

    def abandon(self, transfer: Transfer) -> None:
        """The transfer is cancelled: the connection ends, which is what tells the backend."""
        self.close()
        self._owner.lost(self)

    def set_reading(self, wanted: bool) -> None:
        """Read on, or stop reading."""
        if wanted is self._reading or not self.usable:
            return
        assert self._transport is not None
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it alive, so that a peer that is gone for good is noticed."""
        # uvloop's transports are not instances of asyncio.Transport.
        self._transport = transport  # type: ignore[assignment]
        raw = transport.get_extra_info("socket")
        if raw is not None and raw.family != socket.AF_UNIX:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def data_received(self, data: bytes) -> None:
        """Parse, then deliver."""
        transfer = self._transfer
        if transfer is None:
            # Nobody asked for it: a connection that says so much is not kept.
            self.close()
            self._owner.lost(self)
            return
        if self._between:
            # Most of what comes: the parser, had it seen whole chunks, would be where it is.
            body = unchunked(data)
            if body is not None:
                transfer.on_data(body)
                return
            self._between = False
        first = self._silent
        self._silent = False
        if first and (found := self._owner.heads.find(data)) is not None:
            head, body, missing = found
            if not missing:
                self._take_whole(transfer, head, body, keep=True)
                return
            if missing <= _GATHERED:
                self._take(transfer, head, body, missing)
                return
        elif self._gathering is not None:
            self._gather(transfer, self._gathering, data)
            return
        self._dirty = True
        self._unseen += len(data)
        problem = ""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            problem = "switched protocols"
        except httptools.HttpParserError as error:
            problem = f"sent what is no HTTP response ({error})"
        if self._between and (not data.endswith(b"\r\n") or self._surplus or problem):
            # A part of the next chunk's size may have come with it.
            self._between = False
        bound = self._owner.max_header_bytes
        if self._unseen > bound and not self._complete:
            problem = f"sent a head or chunk that is over the limit of {bound} bytes"
        elif (first or self._complete) and not (self._surplus or problem):
            self._learn(data, first=first)
        self._deliver(transfer)
        if problem and self._transfer is transfer:
            self.fail(UpstreamFailed(f"{self._owner.title} {problem}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """A body without a length is complete; anything else is a failure."""
        self._transport = None
        transfer, self._transfer = self._transfer, None
        self._owner.lost(self)
        if transfer is None or transfer.done:
            return
        if self._head is not None and not self._expects_length and exc is None:
            self._finish(transfer)
        elif self._silent and self._used and not transfer.retried and self._died_early():
            transfer.retried = True
            self._owner.again(transfer)
        else:
            how = "before it answered" if self._silent else "in the middle of its answer"
            title = self._owner.title
            transfer.fail(UpstreamFailed(f"{title} closed the connection {how}"))

    # parser callbacks

    def on_message_begin(self) -> None:
        """A response begins."""
        self._surplus = self._complete

    def on_header(self, name: bytes, value: bytes) -> None:
        """One field."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Keep the head, unless it is an interim one (100 Continue, 103 Early Hints)."""
        fields, self._fields = self._fields, []
        status = self._parser.get_status_code()
        if status < 200:
            if status < 100:
                # It would have a body, before the head of any answer.
                raise _Refused
            self._informational = True
            return
        if self._surplus:
            return
        bound = self._owner.max_header_bytes
        if self._unseen > bound and sum(len(n) + len(v) for n, v in fields) > bound:
            raise _Refused
        self._unseen = 0
        # The first of each name counts.
        fields.reverse()
        headers: dict[str, str] = {}
        for name, value in fields:
            headers[_name(name)] = str(value, "latin-1")
        # Heads that differ in this alone are one to whoever gets them: the body tells.
        self._length = length = headers.pop("content-length", None)
        self._head = Head(status, headers)
        self._keep = self._parser.should_keep_alive()
        self._expects_length = (
            length is not None or "transfer-encoding" in headers or status in (204, 304)
        )

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        self._unseen = 0
        if not self._surplus:
            self._pieces.append(body)

    def on_chunk_header(self) -> None:
        """A chunk begins, or the end of all."""
        self._between = False

    def on_chunk_complete(self) -> None:
        """A chunk has ended."""
        self._between = True

    def on_message_complete(self) -> None:
        """The response is complete."""
        self._between = False
        if self._informational:
            self._informational = False
        else:
            self._complete = True

    # internals

    def _deliver(self, transfer: Transfer) -> None:
        """Tell the transfer what has been parsed; it may be cancelled at any point."""
        if self._head is not None and not self._told:
            self._told = True
            transfer.on_head(self._head)
        pieces = self._pieces
        if pieces and self._transfer is transfer:
            self._pieces = []
            transfer.on_data(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        if self._complete and self._transfer is transfer:
            assert self._head is not None
            self._release(self._head, keep=self._keep)
            self._finish(transfer)

    def _learn(self, data: bytes, *, first: bool) -> None:
        """Remember the head of a response that is complete."""
        head, length = self._head, self._length
        if head is None or length is None or head.status in (204, 304):
            return
        kind = head.headers.get("content-type", "").lower()
        if "stream" in kind or "ndjson" in kind:
            # It may come bit by bit, though its length is known: a stream that is played again.
            return
        if first:
            opening = head_of(data)
            # It may be that of an interim response.
            self._opening = opening if opening[9:12] == b"%d" % head.status else b""
        if self._complete and self._keep and self._opening:
            self._owner.heads.learn_head(self._opening, int(length), head)

    def _take(self, transfer: Transfer, head: Head, body: bytes, missing: int) -> None:
        """A response whose head came before, and whose body does not come at once."""
        self._known, self._gathering = head, Gathered(body, missing)
        if body:
            transfer.on_part()

    def _gather(self, transfer: Transfer, gathering: Gathered, data: bytes) -> None:
        """More of such a response's body."""
        surplus = gathering.add(data)
        if gathering.missing:
            transfer.on_part()
            return
        head = self._known
        assert head is not None
        self._known = self._gathering = None
        self._take_whole(transfer, head, gathering.body(), keep=not surplus)

    def _take_whole(self, transfer: Transfer, head: Head, body: bytes, *, keep: bool) -> None:
        self._release(head, keep=keep)
        transfer.carrier = None
        transfer.body = b""
        transfer.on_whole(head, body)

    def _release(self, head: Head, *, keep: bool) -> None:
        """Hand the connection back, or close it."""
        self._transfer = None
        transport = self._transport
        assert transport is not None
        # A request that is still being written was refused before its end: the rest is in the way.
        written = transport.get_write_buffer_size() == 0
        if not (keep and written and not self._surplus) or transport.is_closing():
            transport.abort()
            self._owner.lost(self)
            return
        if not self._reading:
            self.set_reading(True)
        self._used = True
        self._last = head
        self._idle_until = _UNSEEN
        self._owner.released(self)

    def _finish(self, transfer: Transfer) -> None:
        transfer.done = True
        transfer.body = b""
        transfer.on_end()

    def _died_early(self) -> bool:
        return self._time() - self._since < _STALE


@functools.lru_cache(maxsize=256)
def _name(sent: bytes) -> str:
    """The name of a field; servers send few different ones."""
    return sent.decode("latin-1").lower()


def _announced(field: str) -> float:
    """Seconds that ``Keep-Alive: timeout=5`` allows, less a margin; inf where it does not say."""
    for part in field.split(","):
        name, _, value = part.strip().partition("=")
        if name.lower() == "timeout" and value.isdecimal():
            return max(0.0, float(value) - _MARGIN)
    return inf
