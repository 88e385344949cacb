"""One client connection: HTTP/1.1 framing, limits, timeouts, pipelining and backpressure.

Requests are answered in the order in which they came. A handler gets an `Exchange` once its
request is complete and all earlier ones are answered; it runs on the event loop, in place, without
a task of its own. Bytes go on being read while a response is under way, so that a client that
leaves is noticed at once; a client that pipelines more than `Limits.max_pipelined` requests is
read again when some are answered.

Deadlines are kept as numbers that `ConnectionPool.sweep` looks at: a request sets no timer.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import time
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Protocol

import httptools

from trunkline.core.errors import (
    InternalError,
    InvalidRequest,
    PayloadTooLarge,
    RequestTimeout,
    TrunklineError,
    Unavailable,
)
from trunkline.server.http.exchange import Clock, Exchange, Headers, HttpRequest
from trunkline.server.http.limits import Limits

log = logging.getLogger("trunkline.http")

# Bytes handed to the parser at a time, so that few requests are parsed beyond `max_pipelined`.
_SLICE = 16 * 1024
# Seconds that a refused client may go on sending (and be ignored) before the connection is reset;
# a reset could destroy the refusal before the client has read it (RFC 9112, 9.6).
_LINGER = 2.0
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# Headers that belong to an upgrade, which we decline.
_UPGRADE = frozenset((b"upgrade", b"connection", b"http2-settings"))


class Application(Protocol):
    """What answers requests."""

    def handle(self, exchange: Exchange) -> None:
        """Answer, now or later. Must not block."""

    def refuse(self, exchange: Exchange, status: int, error: TrunklineError) -> None:
        """Answer a request that the connection refuses, in place."""

    def finished(self, exchange: Exchange) -> None:
        """A response is complete, or its client gone."""


class ConnectionPool:
    """All connections of a server, and what they share."""

    def __init__(self, limits: Limits, application: Application) -> None:
        self.limits = limits
        self.application = application
        self.clock = Clock()
        self.connections: set[Connection] = set()
        # Responses under way.
        self.active = 0
        # True: every response ends its connection.
        self.draining = False
        self._changed: asyncio.Event | None = None

    def sweep(self, now: float) -> None:
        """Close what has run out of time; `now` is time.monotonic()."""
        for connection in list(self.connections):
            connection.check(now)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition`, which looks at `active` or `connections`; False = time is up."""
        changed = self._changed = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            self._changed = None
        return True

    def changed(self) -> None:
        """A response or a connection has ended."""
        if self._changed is not None:
            self._changed.set()


class _Refused(Exception):
    """Leaves the parser's callbacks when a request is refused."""


class Phase(enum.Enum):
    """What is being read."""

    IDLE = "between requests"
    HEAD = "a request line and headers"
    BODY = "a body"
    LINGER = "nothing any more; input is dropped until the client closes"
    CLOSING = "nothing any more; output is being flushed"


class Connection(asyncio.Protocol):
    """Parses requests and sends responses, in order."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._limits = pool.limits
        self._application = pool.application
        self.clock = pool.clock
        self._transport: asyncio.Transport | None = None
        self._client = "-"
        self._parser = httptools.HttpRequestParser(self)
        self._phase = Phase.IDLE
        # time.monotonic() at which `_phase` has lasted too long.
        self._deadline = inf
        # True: whatever else arrives is not looked at.
        self._deaf = False
        # The request that is being parsed.
        self._url = b""
        self._headers: Headers = []
        self._head_size = 0
        self._request: HttpRequest | None = None
        self._body: bytes | bytearray = b""
        self._upgrading = False
        self._expects_continue = False
        # Bytes since the parser last made progress; httptools keeps an unfinished header itself.
        self._unseen = 0
        # Input that waits until fewer requests do.
        self._held = b""
        self._reading = True
        # Complete requests that wait for their turn, and the one that is being answered.
        self._queue: deque[Exchange] = deque()
        self._current: Exchange | None = None
        self._pumping = False
        # Backpressure: the event is set while the client keeps up.
        self._writable: asyncio.Event | None = None
        self._write_paused = False
        self._stalled_size = 0
        self._stalled_until = inf

    @property
    def busy(self) -> bool:
        """Whether a response is under way or due."""
        return self._current is not None or bool(self._queue)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start the clock; refuse at once when there are too many."""
        # uvloop's transports are not instances of asyncio.Transport.
        self._transport = transport  # type: ignore[assignment]
        peer = transport.get_extra_info("peername")
        self._client = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        full = len(self._pool.connections) >= self._limits.max_connections
        self._pool.connections.add(self)
        self._deadline = time.monotonic() + self._limits.header_timeout
        if full:
            self._refuse(503, Unavailable("too many connections; try again", retry_after=1.0))
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what is complete."""
        if self._deaf:
            return
        if self._held or len(data) > _SLICE:
            self._held += data
        else:
            self._parse(data)
        self._pump()

    def eof_received(self) -> None:
        """The client has gone: a half-closed connection counts as closed."""
        self._lost("client closed")

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget everything."""
        self._pool.connections.discard(self)
        self._lost("client closed")
        self._pool.changed()

    def pause_writing(self) -> None:
        """The client reads more slowly than we write."""
        self._write_paused = True
        self._stalled_size = self._buffered()
        self._stalled_until = time.monotonic() + self._limits.write_timeout
        if self._writable is not None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self._write_paused = False
        self._stalled_until = inf
        if self._writable is not None:
            self._writable.set()

    # parser callbacks

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._phase = Phase.HEAD
        self._deadline = time.monotonic() + self._limits.header_timeout
        self._url = b""
        self._headers = []
        self._head_size = 0
        self._unseen = 0
        self._request = None
        self._body = b""

    def on_url(self, url: bytes) -> None:
        """More of the target."""
        self._url += url
        if len(self._url) > self._limits.max_url:
            bound = f"the URL is longer than {self._limits.max_url} bytes"
            self._refuse_in_parser(414, InvalidRequest(bound))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or one trailer, which is dropped."""
        self._head_size += len(name) + len(value) + 4
        if self._request is None:
            self._headers.append((name.lower(), value))
        if (
            self._head_size > self._limits.max_header_bytes
            or len(self._headers) > self._limits.max_headers
        ):
            self._refuse_head()

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body."""
        if self._parser.should_upgrade():
            self._upgrading = True
            return
        self._request = request = HttpRequest(
            self._parser.get_method().decode("latin-1"),
            _origin_form(self._url),
            self._headers,
            http10=self._parser.get_http_version() == "1.0",
            keep_alive=self._parser.should_keep_alive(),
        )
        self._phase = Phase.BODY
        self._deadline = time.monotonic() + self._limits.body_timeout
        hosts = 0
        for name, value in self._headers:
            if name == b"host":
                hosts += 1
            elif name == b"content-length" and int(value) > self._limits.max_body:
                self._refuse_body()
            elif name == b"expect":
                if value.lower() != b"100-continue":
                    problem = "the only expectation that is understood is 100-continue"
                    self._refuse_in_parser(417, InvalidRequest(problem))
                self._expects_continue = not request.http10
        if hosts > 1 or (hosts == 0 and not request.http10):
            self._refuse_in_parser(400, InvalidRequest("exactly one Host header is needed"))
        if self._expects_continue and not self.busy:
            self._continue()

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        self._unseen = 0
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > self._limits.max_body:
            self._refuse_body()

    def on_chunk_header(self) -> None:
        """The parser makes progress."""
        self._unseen = 0

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._request
        if request is None:
            # It asks for an upgrade; `_ignore_upgrade` parses it again.
            return
        request.body = self._body
        self._body = b""
        self._expects_continue = False
        self._phase = Phase.IDLE
        self._deadline = inf
        if not request.keep_alive:
            self._deaf = True
        self._queue.append(Exchange(self, request, self._client))

    # what an exchange asks for

    def write(self, data: bytes) -> None:
        """Send; the transport buffers."""
        if self._transport is not None:
            self._transport.write(data)

    def reserve(self, size: int) -> bool:
        """False when `size` more bytes are too many for a slow reader, who is then cut off."""
        if not self._write_paused or self._buffered() + size <= self._limits.max_write_buffer:
            return True
        self._lost("slow reader")
        self.cut()
        return False

    async def drained(self) -> None:
        """Wait while the client does not keep up; `check` bounds it."""
        if self._write_paused:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def finished(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """Go on to the next request, or close."""
        self._current = None
        self._ended(exchange)
        if exchange.refusal is not None:
            self._linger()
        elif not keep_alive or self._pool.draining:
            self.close()
        else:
            if self._phase is Phase.IDLE:
                self._deadline = time.monotonic() + self._limits.keepalive_timeout
            elif self._expects_continue and not self._queue:
                self._continue()
            self._pump()

    def cut(self) -> None:
        """Close without flushing."""
        self._lost("cut off")
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Close when what is written has been sent."""
        self._stop(Phase.CLOSING, self._limits.write_timeout)
        if self._transport is not None:
            self._transport.close()

    def check(self, now: float) -> None:
        """Act on deadlines that have passed."""
        if now >= self._stalled_until:
            size = self._buffered()
            if size >= self._stalled_size:
                self._lost("slow reader")
                self.cut()
                return
            self._stalled_size = size
            self._stalled_until = now + self._limits.write_timeout
        if now < self._deadline:
            return
        if self._phase is Phase.IDLE:
            self.close()
        elif self._phase in (Phase.LINGER, Phase.CLOSING):
            self.cut()
        else:
            problem = f"waited too long for {self._phase.value}"
            self._refuse(408, RequestTimeout(problem))
            self._pump()

    # internals

    def _pump(self) -> None:
        """Answer and parse as long as neither has to wait for the other."""
        if self._pumping:
            return
        self._pumping = True
        bound = self._limits.max_pipelined
        while True:
            if self._current is None and self._queue:
                self._start(self._queue.popleft())
            elif self._held and len(self._queue) < bound and not self._deaf:
                piece, self._held = self._held[:_SLICE], self._held[_SLICE:]
                self._parse(piece)
            else:
                break
        self._pumping = False
        self._set_reading(len(self._queue) < bound or self._deaf)

    def _start(self, exchange: Exchange) -> None:
        self._current = exchange
        self._pool.active += 1
        if self._pool.draining:
            exchange.request.keep_alive = False
        try:
            if exchange.refusal is None:
                self._application.handle(exchange)
            else:
                self._application.refuse(exchange, *exchange.refusal)
        except Exception:
            log.exception("%s %s failed", exchange.request.method, exchange.request.path)
            if exchange.started:
                exchange.abort()
            else:
                self._application.refuse(exchange, 500, InternalError("a fault of this server"))

    def _parse(self, data: bytes) -> None:
        self._unseen += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
        except httptools.HttpParserError as error:
            # Set: refused by a callback, or there is something after "Connection: close".
            if not self._deaf:
                self._refuse(400, InvalidRequest(f"malformed HTTP request: {error}"))
        if self._unseen > self._limits.max_header_bytes and self._phase in (Phase.HEAD, Phase.BODY):
            self._refuse_unseen()

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the head again without the upgrade; the parser alone would lose the body.

        An upgrade may be declined by answering the request as if it were not asked for (RFC 9110,
        7.8). Java's HTTP client offers h2c with every first request.
        """
        method = self._parser.get_method()
        self._upgrading = False
        if method == b"CONNECT":
            self._refuse(405, InvalidRequest("this is no proxy"))
            return
        lines = [b"%b %b HTTP/1.1" % (method, self._url)]
        lines += [b"%b: %b" % pair for pair in self._headers if pair[0] not in _UPGRADE]
        self._parser = httptools.HttpRequestParser(self)
        self._parse(b"\r\n".join(lines) + b"\r\n\r\n")
        if rest and not self._deaf:
            self._parse(rest)

    def _refuse_head(self) -> None:
        bound = f"{self._limits.max_headers} fields, {self._limits.max_header_bytes} bytes"
        error = PayloadTooLarge(f"the headers are over the limit of {bound}")
        self._refuse_in_parser(431, error)

    def _refuse_unseen(self) -> None:
        if not self._deaf:
            bound = f"a header or chunk is over the limit of {self._limits.max_header_bytes} bytes"
            self._refuse(431, PayloadTooLarge(bound))

    def _refuse_body(self) -> None:
        bound = f"the body is over the limit of {self._limits.max_body} bytes"
        self._refuse_in_parser(413, PayloadTooLarge(bound))

    def _refuse_in_parser(self, status: int, error: TrunklineError) -> None:
        self._refuse(status, error)
        raise _Refused

    def _refuse(self, status: int, error: TrunklineError) -> None:
        """Answer with an error when its turn comes, and read nothing more."""
        request = self._request or HttpRequest("-", b"-", [], http10=False, keep_alive=False)
        request.keep_alive = False
        exchange = Exchange(self, request, self._client)
        exchange.refusal = status, error
        self._queue.append(exchange)
        self._stop(Phase.IDLE, inf)

    def _stop(self, phase: Phase, seconds: float) -> None:
        self._deaf = True
        self._held = b""
        self._phase = phase
        self._deadline = time.monotonic() + seconds

    def _linger(self) -> None:
        """Close our side and drop input until the client has closed its own."""
        self._stop(Phase.LINGER, _LINGER)
        self._set_reading(True)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _continue(self) -> None:
        self._expects_continue = False
        self.write(_CONTINUE)

    def _set_reading(self, wanted: bool) -> None:
        if wanted is self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _lost(self, because: str) -> None:
        """Nobody listens any more."""
        self._deaf = True
        self._held = b""
        self._queue.clear()
        if self._writable is not None:
            self._writable.set()
        exchange, self._current = self._current, None
        if exchange is not None:
            exchange.lost(because)
            self._ended(exchange)

    def _ended(self, exchange: Exchange) -> None:
        self._pool.active -= 1
        self._pool.changed()
        self._application.finished(exchange)


def _origin_form(url: bytes) -> bytes:
    """The path and query of a target, which proxies send as a whole URL."""
    if url.startswith((b"/", b"*")) or b"://" not in url:
        return url
    _, _, rest = url.partition(b"://")
    _, slash, path = rest.partition(b"/")
    return slash + path or b"/"
