"""All connections to one origin: kept, bounded, waited for within bounds."""

from __future__ import annotations

import asyncio
from collections import OrderedDict

import msgspec

from trunkline.backends.http.connection import Connection
from trunkline.backends.http.dial import Dialer
from trunkline.backends.http.origin import Origin
from trunkline.backends.http.ticker import Ticker
from trunkline.backends.http.transfer import Transfer
from trunkline.core.errors import (
    QueueFull,
    TrunklineError,
    Unavailable,
    UpstreamFailed,
    UpstreamTimeout,
)
from trunkline.core.heads import Heads
from trunkline.wire.client import Head


class PoolLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds of one pool. Times are in seconds."""

    max_connections: int = 1024
    # Requests that wait for a connection, and how long.
    max_waiting: int = 1024
    wait: float = 60.0
    # For opening a connection, TLS included; 0 = no bound.
    connect: float = 5.0
    # That a connection is kept without a request.
    keepalive: float = 30.0
    # Of one response; also the most that the parser may hold back.
    max_header_bytes: int = 64 * 1024


class Pool:
    """Hands transfers to connections; the one used last is used first.

    Invariants: `_waiting` is empty while `_idle` is not; connections plus attempts to open one
    never exceed the limit; an attempt begins only for a transfer that waits.
    """

    def __init__(
        self, origin: Origin, name: str, limits: PoolLimits, dialer: Dialer, ticker: Ticker
    ) -> None:
        self.origin = origin
        self.title = f"backend {name!r}"
        self.loop = asyncio.get_running_loop()
        self.max_header_bytes = limits.max_header_bytes
        self.keepalive = limits.keepalive
        self.heads: Heads[Head] = Heads()
        self._limits = limits
        self._dialer = dialer
        self._ticker = ticker
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiting: OrderedDict[Transfer, None] = OrderedDict()
        self._attempts: set[asyncio.Task[None]] = set()
        # True: the ticker has us.
        self._watched = False
        self._closed = False

    @property
    def open(self) -> int:
        """Connections, busy or not."""
        return len(self._connections)

    @property
    def idle(self) -> int:
        """Connections that are kept for the next request."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Transfers that wait for a connection."""
        return len(self._waiting)

    def send(self, transfer: Transfer) -> None:
        """Send a request. Never raises."""
        idle = self._idle
        while idle:
            if idle.pop().start(transfer):
                return
        if self._closed:
            error: TrunklineError = Unavailable(f"{self.title} is being shut down")
            self.loop.call_soon(transfer.fail, error)
        elif len(self._waiting) >= self._limits.max_waiting:
            busy = f"all {self._limits.max_connections} connections to {self.title} are in use"
            error = QueueFull(f"{busy} and {len(self._waiting)} requests wait", retry_after=1.0)
            self.loop.call_soon(transfer.fail, error)
        else:
            self._queue(transfer)

    def drop_idle(self) -> None:
        """Close the connections that carry nothing."""
        idle, self._idle = self._idle, []
        for connection in idle:
            self._connections.discard(connection)
            connection.close()

    async def close(self) -> None:
        """Close all; transfers that are under way fail."""
        self._closed = True
        self._ticker.discard(self)
        error = Unavailable(f"{self.title} is being shut down")
        waiting, self._waiting = self._waiting, OrderedDict()
        for transfer in waiting:
            transfer.fail(error)
        for connection in tuple(self._connections):
            connection.fail(error)
        self._connections.clear()
        self._idle.clear()
        attempts = tuple(self._attempts)
        for attempt in attempts:
            attempt.cancel()
        await asyncio.gather(*attempts, return_exceptions=True)

    # connection.Owner

    def released(self, connection: Connection) -> None:
        """Give it the next transfer, or keep it."""
        if self._waiting:
            started = connection.start(self._waiting.popitem(last=False)[0])
            assert started
        else:
            self._idle.append(connection)
            if not self._watched:
                self._watch()

    def lost(self, connection: Connection) -> None:
        """Open another where somebody waits."""
        if connection in self._connections:
            self._connections.discard(connection)
            if connection in self._idle:
                self._idle.remove(connection)
            self._grow()

    def again(self, transfer: Transfer) -> None:
        """Others that are kept are likely as dead as this one was: begin with a new one."""
        self.drop_idle()
        self._queue(transfer)
        self._waiting.move_to_end(transfer, last=False)

    # transfer.Carrier, for those that wait

    def abandon(self, transfer: Transfer) -> None:
        """Forget it."""
        self._waiting.pop(transfer, None)

    def set_reading(self, wanted: bool) -> None:
        """There is nothing to read; the connection will ask."""

    # ticker.Watched

    def check(self, now: float) -> None:
        """Close what has been idle too long; fail who has waited too long."""
        for connection in [one for one in self._idle if one.idles(now)]:
            self._idle.remove(connection)
            self._connections.discard(connection)
            connection.close()
        oldest = now - self._limits.wait
        while self._waiting:
            transfer = next(iter(self._waiting))
            if transfer.since > oldest:
                break
            del self._waiting[transfer]
            wait = self._limits.wait
            transfer.fail(UpstreamTimeout(f"no connection to {self.title} was free for {wait:g} s"))
        if not self._idle and not self._waiting:
            self._watched = False
            self._ticker.discard(self)

    # internals

    def _queue(self, transfer: Transfer) -> None:
        transfer.carrier = self
        transfer.since = self.loop.time()
        self._waiting[transfer] = None
        self._watch()
        self._grow()

    def _watch(self) -> None:
        self._watched = True
        self._ticker.add(self)

    def _grow(self) -> None:
        """Open connections for those that wait."""
        room = self._limits.max_connections - len(self._connections) - len(self._attempts)
        wanted = len(self._waiting) - len(self._attempts)
        for _ in range(min(room, wanted) if not self._closed else 0):
            task = self.loop.create_task(self._open_one())
            self._attempts.add(task)
            task.add_done_callback(self._attempted)

    async def _open_one(self) -> None:
        made: list[Connection] = []

        def make() -> Connection:
            made.append(Connection(self))
            return made[-1]

        try:
            connection = await self._dialer.dial(
                self.origin, self.title, self._limits.connect, make
            )
            if not connection.usable:
                raise UpstreamFailed(f"{self.title} closed the connection at once")
        except TrunklineError as error:
            if self._waiting:
                self._waiting.popitem(last=False)[0].fail(error)
        else:
            made.remove(connection)
            self._connections.add(connection)
            self.released(connection)
        finally:
            # Those that came too late, or after `close`.
            for left in made:
                left.close()

    def _attempted(self, task: asyncio.Task[None]) -> None:
        self._attempts.discard(task)
        if not task.cancelled() and task.exception() is not None:
            # A fault of ours: nobody must wait for a connection that nobody opens.
            self.loop.call_exception_handler(
                {"message": "opening a connection failed", "exception": task.exception()}
            )
            if self._waiting:
                error = UpstreamTimeout(f"no connection to {self.title}")
                self._waiting.popitem(last=False)[0].fail(error)
        self._grow()
