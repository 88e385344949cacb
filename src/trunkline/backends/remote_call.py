"""One try of one request at a server: from its bytes to the last event, without a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Protocol

from trunkline.backends.config import Timeouts
from trunkline.backends.http.ticker import Ticker
from trunkline.backends.http.transfer import Transfer
from trunkline.backends.site import Site
from trunkline.core.errors import TrunklineError, UpstreamFailed, UpstreamTimeout
from trunkline.core.types import Event, EventSink, Failed, Routed
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Speaker

log = logging.getLogger("trunkline.backends")

# Bytes of a body that is an error, of which no more is read, and of a whole answer.
_MAX_ERROR = 64 * 1024
_MAX_WHOLE = 64 * 1024 * 1024
# Content types of bodies that come bit by bit and may be of any length.
STREAMS = (
    "text/event-stream",
    "application/x-ndjson",
    "application/stream+json",
    "application/vnd.amazon.eventstream",
)


class CallOwner(Protocol):
    """What a call needs of its backend."""

    name: str
    title: str
    site: Site
    ticker: Ticker
    timeouts: Timeouts
    # Something has arrived from the server.
    heard: bool

    def ended(self, call: RemoteCall) -> None:
        """The call is over, whatever its end."""


class RemoteCall:
    """Implements `core.types.Call`, `transfer.Receiver` and `ticker.Watched`."""

    __slots__ = (
        "_any",
        "_began",
        "_failure",
        "_head",
        "_heard",
        "_make",
        "_model",
        "_outgoing",
        "_owner",
        "_preparing",
        "_reader",
        "_received",
        "_request_id",
        "_since",
        "_sink",
        "_speaker",
        "_told",
        "_transfer",
        "_unbounded",
    )

    def __init__(
        self,
        owner: CallOwner,
        speaker: Speaker,
        outgoing: Outgoing,
        make: Callable[[Head], Reader | Relay],
        request_id: str,
        model: str,
        sink: EventSink,
    ) -> None:
        self._owner = owner
        self._speaker = speaker
        self._outgoing = outgoing
        self._make = make
        self._request_id = request_id
        self._model = model
        # None: nothing more is delivered.
        self._sink: EventSink | None = sink
        self._transfer: Transfer | None = None
        self._preparing: asyncio.Task[None] | None = None
        self._head: Head | None = None
        # What reads the body; None where it is an error.
        self._reader: Reader | Relay | None = None
        self._failure = bytearray()
        self._unbounded = False
        self._received = 0
        # True: an event has been delivered; the first ones are preceded by who answers.
        self._told = False
        # Data arrived since the last look; it arrived at all; when a look last saw some.
        self._heard = False
        self._any = False
        self._began = self._since = owner.site.pool.loop.time()

    def start(self) -> None:
        """Send, or first get the credentials that are missing. Raises `InvalidRequest`."""
        owner = self._owner
        if owner.site.auth.ready:
            self._send()
        else:
            self._preparing = owner.site.pool.loop.create_task(self._prepare())
        owner.ticker.add(self)

    # core.types.Call

    def cancel(self) -> None:
        """Close the connection at once; nothing more is delivered."""
        self._finish()

    def pause(self) -> None:
        """Read no more for now: whoever takes the answer is slow. The idle timeout waits too."""
        if self._transfer is not None:
            self._transfer.pause()

    def resume(self) -> None:
        """Read on."""
        if self._transfer is not None:
            self._transfer.resume()

    # transfer.Receiver

    def on_head(self, head: Head) -> None:
        """Find out how to read the body."""
        self._owner.heard = True
        self._head = head
        if not 200 <= head.status < 300:
            return
        self._unbounded = head.headers.get("content-type", "").startswith(STREAMS)
        encoding = head.headers.get("content-encoding", "identity")
        if encoding != "identity":
            problem = f"{self._owner.title} compressed its answer ({encoding}) although not asked"
            self._fail(UpstreamFailed(problem))
            return
        try:
            self._reader = self._make(head)
        except Exception as error:  # noqa: BLE001 - one bad answer ends one call only
            self._failed_reading(error)

    def on_data(self, data: bytes) -> None:
        """Events of it."""
        self._heard = True
        self._owner.heard = True
        reader = self._reader
        if reader is None:
            self._failure += data
            if len(self._failure) > _MAX_ERROR:
                self._refused()
            return
        if not self._unbounded:
            self._received += len(data)
            if self._received > _MAX_WHOLE:
                problem = f"{self._owner.title} answered with more than {_MAX_WHOLE} bytes"
                self._fail(UpstreamFailed(problem))
                return
        try:
            events = reader.feed(data)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed_reading(error)
        else:
            if events:
                self._tell(events)

    def on_end(self) -> None:
        """The last events, or the error."""
        if self._reader is None:
            self._refused()
            return
        try:
            events = self._reader.end()
        except Exception as error:  # noqa: BLE001 - as above
            self._failed_reading(error)
        else:
            self._tell(events)
            self._finish()

    def on_failure(self, error: TrunklineError) -> None:
        """The connection failed."""
        self._fail(error)

    # ticker.Watched

    def check(self, now: float) -> None:
        """Time limits; the kinds of waiting are told apart in the message."""
        timeouts = self._owner.timeouts
        transfer = self._transfer
        if timeouts.attempt and now - self._began >= timeouts.attempt:
            self._late(f"did not finish within {timeouts.attempt:g} s")
            return
        if self._heard:
            self._heard = False
            self._any = True
            self._since = now
        elif transfer is not None and transfer.paused:
            self._since = now
        limit = timeouts.idle if self._any else timeouts.first_token
        if limit and now - self._since >= limit:
            what = "sent nothing more for" if self._any else "did not begin to answer within"
            self._late(f"{what} {limit:g} s")

    # internals

    def _send(self) -> None:
        site = self._owner.site
        outgoing = self._outgoing
        head = site.head(outgoing.method, outgoing.path, outgoing.headers, outgoing.body)
        self._transfer = site.pool.send(head, outgoing.body, self)

    async def _prepare(self) -> None:
        try:
            await self._owner.site.auth.prepare()
            if self._sink is not None:
                self._send()
        except TrunklineError as error:
            self._fail(error)

    def _tell(self, events: Sequence[Event]) -> None:
        if self._sink is None:
            return
        if not self._told:
            self._told = True
            dropped = self._outgoing.dropped
            routed = Routed(self._request_id, self._owner.name, self._model, dropped=dropped)
            events = (routed, *events)
        self._sink.on_events(events)

    def _refused(self) -> None:
        """The status was not 2xx."""
        assert self._head is not None
        try:
            error = self._speaker.error(self._head, bytes(self._failure))
        except Exception as fault:  # noqa: BLE001 - as above
            self._failed_reading(fault)
        else:
            self._fail(error)

    def _failed_reading(self, error: Exception) -> None:
        if not isinstance(error, TrunklineError):
            log.error("%s: an answer cannot be read", self._owner.title, exc_info=error)
            error = UpstreamFailed(f"{self._owner.title} answered with what cannot be read")
        self._fail(error)

    def _late(self, what: str) -> None:
        self._fail(UpstreamTimeout(f"{self._owner.title} {what}"))

    def _fail(self, error: TrunklineError) -> None:
        sink = self._sink
        self._finish()
        if sink is not None:
            # Some servers repeat the key in their error.
            error.message = self._owner.site.redact(error.message)
            sink.on_events((Failed(self._request_id, error.info()),))

    def _finish(self) -> None:
        if self._sink is None:
            return
        self._sink = None
        self._owner.ticker.discard(self)
        self._owner.ended(self)
        # Let go of each other, so that nothing waits for the garbage collector.
        transfer, self._transfer = self._transfer, None
        if transfer is not None:
            transfer.cancel()
        if self._preparing is not None and self._preparing is not asyncio.current_task():
            self._preparing.cancel()


class Refusal:
    """A call that fails before anything is sent. Implements `core.types.Call`."""

    __slots__ = ("_handle",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        request_id: str,
        error: TrunklineError,
        sink: EventSink,
    ) -> None:
        self._handle = loop.call_soon(sink.on_events, (Failed(request_id, error.info()),))

    def cancel(self) -> None:
        """Say nothing."""
        self._handle.cancel()
