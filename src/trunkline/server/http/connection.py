"""One client connection: pipelining, backpressure and deadlines around a `Framing`.

Requests are answered in the order in which they came. A handler gets an `Exchange` once its
request is complete and all earlier ones are answered; it runs on the event loop, in place, without
a task of its own. Bytes go on being read while a response is under way, so that a client that
leaves is noticed at once; a client that pipelines more than `Limits.max_pipelined` requests is
read again when some are answered, and looked after once a second until then. While a client does
not read what it was sent, none of its further requests is begun.

Deadlines are kept as numbers that `ConnectionPool.sweep` looks at: a request sets no timer.
"""

from __future__ import annotations

import asyncio
import enum
import logging
import select
import time
from collections import deque
from collections.abc import Callable
from math import inf

from trunkline.core.errors import InternalError, TrunklineError, Unavailable
from trunkline.server.http.exchange import Exchange, HttpRequest, Underway
from trunkline.server.http.framing import Framing
from trunkline.server.http.pool import ConnectionPool

log = logging.getLogger("trunkline.http")

# Bytes handed to the parser at a time, so that few requests are parsed beyond `max_pipelined`.
_SLICE = 16 * 1024
# Seconds that a refused client may go on sending (and be ignored) before the connection is reset;
# a reset could destroy the refusal before the client has read it (RFC 9112, 9.6).
_LINGER = 2.0
# A deadline that the next `check` sets: a connection has just become idle.
_IDLE = -inf
_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
# What tells that a client has gone from whom nothing is read; outside Linux only that both sides
# have.
_GONE = select.POLLHUP | select.POLLERR | getattr(select, "POLLRDHUP", 0)


class Phase(enum.Enum):
    """What becomes of input."""

    OPEN = "it is parsed"
    LINGER = "it is dropped until the client closes"
    CLOSING = "there is none any more; output is being flushed"


class Connection(asyncio.Protocol):
    """Hands requests to the application, and sends responses, in order."""

    def __init__(self, pool: ConnectionPool) -> None:
        self._pool = pool
        self._limits = pool.limits
        self._application = pool.application
        self.clock = pool.clock
        self.write: Callable[[bytes], None] = _nowhere
        self._transport: asyncio.Transport | None = None
        self.client = "-"
        self._framing = Framing(pool.limits, self, pool.heads)
        self._phase = Phase.OPEN
        # time.monotonic() at which the connection has been idle, lingering or closing too long.
        self._deadline = inf
        # Input that waits until fewer requests do.
        self._held: bytes | memoryview = b""
        self._reading = True
        # Complete requests that wait for their turn, and the one that is being answered.
        self._queue: deque[Exchange] = deque()
        self._current: Underway | None = None
        self._pumping = False
        # Backpressure: the event is set while the client keeps up.
        self._writable: asyncio.Event | None = None
        self.congested = False
        # Output that waited when that was last looked at, with what has been written since.
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
        self.write = transport.write  # type: ignore[attr-defined]
        peer = transport.get_extra_info("peername")
        self.client = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "unix"
        full = len(self._pool.connections) >= self._limits.max_connections
        self._pool.connections.add(self)
        self._deadline = time.monotonic() + self._limits.header_timeout
        if full:
            problem = Unavailable("too many connections; try again", retry_after=1.0)
            self._framing.refuse(503, problem)
            self._pump()

    def data_received(self, data: bytes) -> None:
        """Parse, and answer what is complete."""
        framing = self._framing
        if framing.ended:
            return
        found: tuple[HttpRequest, bytes, int] | None = None
        if framing.gathering is not None:
            found, self._held = framing.gather(data)
        elif self._held:
            self._held = bytes(self._held) + data
        else:
            found = framing.known(data)
            if found is None and framing.gathering is None:
                if len(data) > _SLICE:
                    self._held = memoryview(data)
                else:
                    framing.feed(data)
        if found is not None:
            known, body, _ = found
            began = time.monotonic()
            if self._current is None and not (self._queue or self._held or self.congested):
                self._answer(known, body, began)
                return
            self._queue.append(self._made(known, body, began))
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
        self.congested = True
        self._watch_reader()
        if self._writable is not None:
            self._writable.clear()

    def resume_writing(self) -> None:
        """The client has caught up."""
        self.congested = False
        self._stalled_until = inf
        if self._writable is not None:
            self._writable.set()
        if self._queue:
            self._pump()

    # framing.Receiver

    def received(self, request: HttpRequest, refusal: tuple[int, TrunklineError] | None) -> None:
        """Queue a request, or the refusal of one."""
        self._queue.append(Exchange(self, request, self.client, time.monotonic(), refusal))

    # exchange.ConnectionSide, with `write`, which is the transport's

    def reserve(self, size: int) -> bool:
        """False when `size` more bytes are too many for a slow reader, who is then cut off."""
        if self._buffered() + size <= self._limits.max_write_buffer:
            self._stalled_size += size
            return True
        self._lost("slow reader")
        self.cut()
        return False

    async def drained(self) -> None:
        """Wait while the client does not keep up; `check` bounds it."""
        if self.congested:
            if self._writable is None:
                self._writable = asyncio.Event()
            await self._writable.wait()

    def finished(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """Go on to the next request, or close."""
        if self.congested:
            # What an answer ends with is written whatever waits.
            self._watch_reader()
        try:
            self._application.finished(exchange)
        finally:
            if exchange.refusal is not None:
                self._ended()
                self._linger()
            elif keep_alive:
                self._go_on()
            else:
                self._ended()
                self.close()

    # exchange.PassingSide, besides

    def exchange(self, passing: Underway, known: HttpRequest, began: float) -> Exchange:
        """Take an exchange in place of `passing`."""
        exchange = self._made(known, b"", began)
        if self._current is passing:
            self._current = exchange
        else:
            # Its client has got something else, or has gone.
            exchange.closed = True
        return exchange

    def passed(self, passing: Underway, data: bytes) -> None:
        """Send it, and go on to the next request."""
        if self._current is not passing:
            return
        self.write(data)
        try:
            self._application.passed(passing)
        finally:
            self._go_on()

    # pool.Pooled

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
        """Act on deadlines that have passed, and on a client that has left unread."""
        if not self._reading and self._left():
            self._lost("client closed")
            self.cut()
            return
        if now >= self._stalled_until:
            size = self._buffered()
            if size >= self._stalled_size:
                self._lost("slow reader")
                self.cut()
                return
            self._stalled_size = size
            self._stalled_until = now + self._limits.write_timeout
        if self._deadline == _IDLE:
            self._deadline = now + self._limits.keepalive_timeout
        if now >= self._framing.deadline:
            # Else it is the client who waits.
            if self._reading and not self._framing.wants_continue:
                self._framing.refuse_late()
                self._pump()
        elif now >= self._deadline and self._framing.deadline == inf:
            if self.congested:
                # It is still reading what it was sent; as long as it does, it may.
                self._deadline = now + self._limits.write_timeout
            elif self._phase is Phase.OPEN:
                self.close()
            else:
                self.cut()
        current = self._current
        if current is not None and current.on_tick is not None:
            current.on_tick(now, self._limits.stream_keepalive)

    # internals

    def _pump(self) -> None:
        """Answer and parse as long as neither has to wait for the other."""
        if self._pumping:
            return
        self._pumping = True
        bound = self._limits.max_pipelined
        framing = self._framing
        while True:
            # Answers do not pile up before a client that reads none.
            if self._current is None and self._queue and not self.congested:
                exchange = self._queue.popleft()
                request = exchange.request
                if exchange.refusal is None and request.memory:
                    self._answer(request, request.body, exchange.began)
                else:
                    self._start(exchange)
            elif self._held and len(self._queue) < bound and not framing.ended:
                piece = self._held[:_SLICE]
                self._held = self._held[_SLICE:] or b""
                framing.feed(piece)
            else:
                break
        self._pumping = False
        if framing.wants_continue and not self.busy:
            framing.wants_continue = False
            framing.wait_anew()
            self.write(_CONTINUE)
        wanted = len(self._queue) < bound or framing.ended
        if wanted is not self._reading:
            self._set_reading(wanted)

    def _made(self, known: HttpRequest, body: bytes, began: float) -> Exchange:
        return Exchange(self, known.with_body(body), self.client, began)

    def _answer(self, known: HttpRequest, body: bytes, began: float) -> None:
        """A request whose head came before."""
        if known.memory:
            try:
                begun = self._application.again(self, known, body, began)
            except Exception:
                log.exception("%s %s failed", known.method, known.path)
                exchange = self._made(known, b"", began)
                self._take(exchange)
                self._own_fault(exchange)
                return
            if begun is not None:
                self._current = begun
                self._deadline = inf
                self._pool.active += 1
                return
        self._start(self._made(known, body, began))

    def _take(self, exchange: Exchange) -> None:
        self._current = exchange
        self._deadline = inf
        self._pool.active += 1
        if self._pool.draining:
            exchange.request.keep_alive = False

    def _start(self, exchange: Exchange) -> None:
        self._take(exchange)
        try:
            if exchange.refusal is None:
                self._application.handle(exchange)
            else:
                self._application.refuse(exchange, *exchange.refusal)
        except Exception:
            log.exception("%s %s failed", exchange.request.method, exchange.request.path)
            self._own_fault(exchange)

    def _own_fault(self, exchange: Exchange) -> None:
        if exchange.started:
            exchange.abort()
        else:
            self._application.refuse(exchange, 500, InternalError("a fault of this server"))

    def _ended(self) -> None:
        """A response is complete, or its client gone."""
        self._current = None
        self._pool.active -= 1
        self._pool.changed()

    def _go_on(self) -> None:
        """A response is complete: to the next request."""
        self._ended()
        if self._pool.draining:
            self.close()
            return
        self._deadline = _IDLE
        if self._queue or self._held or not self._reading or self._framing.wants_continue:
            self._pump()

    def _stop(self, phase: Phase, seconds: float) -> None:
        """Answer no more requests, also none that are complete."""
        self._framing.stop()
        self._held = b""
        self._queue.clear()
        self._phase = phase
        self._deadline = time.monotonic() + seconds

    def _linger(self) -> None:
        """Close our side and drop input until the client has closed its own."""
        self._stop(Phase.LINGER, _LINGER)
        self._set_reading(True)
        if self._transport is not None and self._transport.can_write_eof():
            self._transport.write_eof()

    def _set_reading(self, wanted: bool) -> None:
        if wanted is self._reading or self._transport is None or self._transport.is_closing():
            return
        self._reading = wanted
        if wanted:
            self._framing.wait_anew()
            self._transport.resume_reading()
        else:
            self._transport.pause_reading()

    def _left(self) -> bool:
        """Whether the client has gone, which reading would tell."""
        transport = self._transport
        socket = None if transport is None else transport.get_extra_info("socket")
        if socket is None or socket.fileno() < 0:
            return False
        looked = select.poll()
        looked.register(socket.fileno(), _GONE)
        return bool(looked.poll(0))

    def _watch_reader(self) -> None:
        """It has `write_timeout` from now on to read some of what waits."""
        self._stalled_size = self._buffered()
        self._stalled_until = time.monotonic() + self._limits.write_timeout

    def _buffered(self) -> int:
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    def _lost(self, because: str) -> None:
        """Nobody listens any more."""
        self._framing.stop()
        self._held = b""
        self._queue.clear()
        if self._writable is not None:
            self._writable.set()
        current = self._current
        if current is not None:
            exchange = current.exchanged()
            self._ended()
            exchange.lost(because)
            self._application.finished(exchange)


def _nowhere(data: bytes) -> None:
    """Before there is a transport nothing is written."""
