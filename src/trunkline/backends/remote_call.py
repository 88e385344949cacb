"""One try of one request at a server: from its bytes to the last event, without a task."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from trunkline.backends.config import Timeouts
from trunkline.backends.http.transfer import Transfer
from trunkline.backends.site import Site
from trunkline.core.errors import TrunklineError, UpstreamFailed, UpstreamTimeout
from trunkline.core.types import Event, EventSink, Failed, RawRequest, Request, Routed
from trunkline.wire.client import (
    Head,
    Outgoing,
    Reader,
    Relay,
    Speaker,
    Terms,
    UnmarkedSpeaker,
    media_type,
)
from trunkline.wire.failures import plain

log = logging.getLogger("trunkline.backends")

# Bytes of a body that is an error, of which no more is read, and of a whole answer.
_MAX_ERROR = 64 * 1024
_MAX_WHOLE = 64 * 1024 * 1024
# Content types of bodies that come bit by bit and may be of any length.
_STREAMS = frozenset(
    (
        "text/event-stream",
        "application/x-ndjson",
        "application/stream+json",
        "application/vnd.amazon.eventstream",
    )
)
_JSON = ("application/json", "text/json")


class UnderWay(Protocol):
    """What a backend is asked, whoever holds it."""

    def check(self, now: float) -> None:
        """Act on time limits; `now` is the loop's time."""

    def cancel(self) -> None:
        """As of `Transfer`."""


class CallOwner(Protocol):
    """What a call needs of its backend."""

    name: str
    title: str
    site: Site
    timeouts: Timeouts
    # Something has arrived from the server.
    heard: bool
    # Those under way; a call that is over takes itself out.
    calls: set[UnderWay]


class RemoteCall(Transfer, eq=False):
    """Implements `core.types.Call`."""

    owner: CallOwner
    # A raw one's answer is passed on, the other's becomes core events.
    asked: Request | RawRequest
    speaker: Speaker
    terms: Terms
    outgoing: Outgoing
    # Below the backend's base URL, where the server has it; `outgoing` has the dialect's own.
    path: str
    # True: the server is asked for a stream.
    streams: bool
    # None: nothing more is delivered.
    sink: EventSink | None
    # The loop's time when it began, and when a look last saw that something had arrived.
    began: float
    seen: float
    # Something has arrived since the last look; it has arrived at all.
    heard: bool = False
    begun: bool = False
    preparing: asyncio.Task[None] | None = None
    response: Head | None = None
    # What reads the body; None where it is an error.
    reader: Reader | Relay | None = None
    failure: bytes = b""
    # True: the body is a stream, and may be of any length.
    unbounded: bool = False
    received: int = 0
    # True: an event has been delivered; the first ones are preceded by who answers.
    told: bool = False

    def start(self) -> None:
        """Send, or first get the credentials that are missing. Raises `InvalidRequest`."""
        site = self.owner.site
        if site.auth.ready:
            self._send(site)
        else:
            self.preparing = site.pool.loop.create_task(self._prepare(site))

    def cancel(self) -> None:
        """Close the connection at once; nothing more is delivered."""
        if self.sink is None:
            return
        self.sink = None
        self.owner.calls.discard(self)
        if not self.done:
            super().cancel()
        if self.preparing is not None and self.preparing is not asyncio.current_task():
            self.preparing.cancel()

    # transfer.Transfer

    def on_head(self, head: Head) -> None:
        """Find out how to read the body."""
        self.owner.heard = True
        self.response = head
        if not 200 <= head.status < 300:
            return
        headers = head.headers
        encoding = headers.get("content-encoding", "identity")
        if encoding != "identity":
            problem = f"{self.owner.title} compressed its answer ({encoding}) although not asked"
            self._fail(UpstreamFailed(problem))
            return
        kind = media_type(headers.get("content-type", ""))
        if kind in _STREAMS:
            self.unbounded = True
        elif not self.streams and kind not in _JSON:
            # Some servers send JSON as plain text, or as nothing at all.
            head = Head(head.status, {**headers, "content-type": _JSON[0]})
        try:
            self.reader = self._reading(head)
        except Exception as error:  # noqa: BLE001 - one bad answer ends one call only
            self._failed_reading(error)

    def on_data(self, data: bytes) -> None:
        """Events of it."""
        self.heard = self.owner.heard = True
        reader = self.reader
        if reader is None:
            self.failure += data
            if len(self.failure) > _MAX_ERROR:
                self._refused()
            return
        if not self.unbounded:
            self.received += len(data)
            if self.received > _MAX_WHOLE:
                problem = f"{self.owner.title} answered with more than {_MAX_WHOLE} bytes"
                self._fail(UpstreamFailed(problem))
                return
        try:
            events = reader.feed(data)
        except Exception as error:  # noqa: BLE001 - as above
            self._failed_reading(error)
        else:
            if events:
                if self.told and self.sink is not None:
                    self.sink.on_events(events)
                else:
                    self._tell(events)

    def on_end(self) -> None:
        """The last events, or the error."""
        if self.reader is None:
            self._refused()
            return
        try:
            events = self.reader.end()
        except Exception as error:  # noqa: BLE001 - as above
            self._failed_reading(error)
        else:
            self._tell(events)
            self.cancel()

    def on_part(self) -> None:
        """It is not silent."""
        self.heard = self.owner.heard = True

    def on_whole(self, head: Head, body: bytes) -> None:
        """All events at once, where it is the answer that was asked for."""
        asked, sink, owner = self.asked, self.sink, self.owner
        fields = head.headers
        if (
            sink is None
            or self.streams
            or type(asked) is not RawRequest
            or head.status != 200
            or fields.get("content-type") != _JSON[0]
            or "content-encoding" in fields
        ):
            super().on_whole(head, body)
            return
        owner.heard = True
        try:
            relay = self.speaker.relay(asked, self.terms, head)
            events = (*relay.feed(body), *relay.end())
        except Exception as error:  # noqa: BLE001 - as above
            self._failed_reading(error)
            return
        self.sink = None
        self.done = True
        owner.calls.discard(self)
        routed = Routed(asked.id, owner.name, self.terms.model, dropped=self.outgoing.dropped)
        sink.on_events((routed, *events))

    def on_failure(self, error: TrunklineError) -> None:
        """The connection failed. A stream in which all had been said by then is complete."""
        if self.streams and self.unbounded and self.reader is not None and self.sink is not None:
            try:
                events = self.reader.end()
            except Exception as fault:  # noqa: BLE001 - it was cut off, as the connection says
                log.debug("%s: %s", self.owner.title, fault)
                self._tell_before(fault)
            else:
                if not isinstance(self.speaker, UnmarkedSpeaker):
                    self._tell(events)
                    self.cancel()
                    return
        self._fail(error)

    def check(self, now: float) -> None:
        """Time limits; the kinds of waiting are told apart in the message."""
        timeouts = self.owner.timeouts
        if timeouts.attempt and now - self.began >= timeouts.attempt:
            self._late(f"did not finish within {timeouts.attempt:g} s")
            return
        if self.heard:
            self.heard = False
            self.begun = True
            self.seen = now
        elif self.paused:
            # Whoever takes the answer is slow.
            self.seen = now
        limit = timeouts.idle if self.begun else timeouts.first_token
        if limit and now - self.seen >= limit:
            what = "sent nothing more for" if self.begun else "did not begin to answer within"
            self._late(f"{what} {limit:g} s")

    # internals

    def _reading(self, head: Head) -> Reader | Relay:
        """What reads the body; a stream that nobody asked for is no answer."""
        asked = self.asked
        if isinstance(asked, Request):
            return self.speaker.reader(asked, self.terms, head)
        if self.unbounded and not self.streams:
            raise UpstreamFailed("The backend answered with a stream; none was asked for.")
        return self.speaker.relay(asked, self.terms, head)

    def _send(self, site: Site) -> None:
        outgoing = self.outgoing
        self.body = body = outgoing.body
        self.head = site.head(outgoing.method, self.path, outgoing.headers, body)
        site.pool.send(self)

    async def _prepare(self, site: Site) -> None:
        try:
            await site.auth.prepare()
            if self.sink is not None:
                self._send(site)
        except TrunklineError as error:
            self._fail(error)

    def _tell(self, events: Sequence[Event]) -> None:
        if self.sink is None:
            return
        if not self.told:
            self.told = True
            dropped = self.outgoing.dropped
            routed = Routed(self.asked.id, self.owner.name, self.terms.model, dropped=dropped)
            events = (routed, *events)
        self.sink.on_events(events)

    def _refused(self) -> None:
        """The status was not 2xx."""
        assert self.response is not None
        encoding = self.response.headers.get("content-encoding", "identity")
        try:
            error = self.speaker.error(self.response, plain(self.failure, encoding))
        except Exception as fault:  # noqa: BLE001 - as above
            self._failed_reading(fault)
        else:
            self._fail(error)

    def _tell_before(self, error: Exception) -> None:
        """What came before a fault goes on, if anything has: else another may be asked."""
        if self.told and isinstance(error, TrunklineError) and error.before:
            self._tell(error.before)

    def _failed_reading(self, error: Exception) -> None:
        self._tell_before(error)
        if not isinstance(error, TrunklineError):
            log.error("%s: an answer cannot be read", self.owner.title, exc_info=error)
            error = UpstreamFailed(f"{self.owner.title} answered with what cannot be read")
        self._fail(error)

    def _late(self, what: str) -> None:
        self._fail(UpstreamTimeout(f"{self.owner.title} {what}"))

    def _fail(self, error: TrunklineError) -> None:
        sink = self.sink
        self.cancel()
        if sink is not None:
            # Some servers repeat the key in their error.
            error.message = self.owner.site.redact(error.message)
            sink.on_events((Failed(self.asked.id, error.info()),))


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
