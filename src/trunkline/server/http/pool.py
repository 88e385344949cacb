"""All connections of a server, and what they share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from trunkline.core.errors import TrunklineError
from trunkline.core.heads import Heads
from trunkline.server.http.exchange import Clock, Exchange, HttpRequest, PassingSide, Underway
from trunkline.server.http.limits import Limits


class Application(Protocol):
    """What answers requests."""

    def handle(self, exchange: Exchange) -> None:
        """Answer, now or later. Must not block."""

    def again(
        self, connection: PassingSide, known: HttpRequest, body: bytes, began: float
    ) -> Underway | None:
        """Begin to answer a request like one before; None: `handle` it, which has to follow.

        `known` is what it has in common with those, and not to be changed; `began` as of
        `Exchange`.
        """

    def passed(self, passing: Any) -> None:
        """What `again` has begun is complete, and took no exchange."""

    def refuse(self, exchange: Exchange, status: int, error: TrunklineError) -> None:
        """Answer a request that the connection refuses, in place."""

    def finished(self, exchange: Exchange) -> None:
        """A response is complete, or its client gone."""


class Pooled(Protocol):
    """What the pool's users need of a connection."""

    @property
    def busy(self) -> bool:
        """Whether a response is under way or due."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed; `now` is time.monotonic()."""

    def close(self) -> None:
        """Close when what is written has been sent."""

    def cut(self) -> None:
        """Close at once."""


class ConnectionPool:
    """All connections of a server, and what they share."""

    def __init__(self, limits: Limits, application: Application) -> None:
        self.limits = limits
        self.application = application
        self.clock = Clock()
        self.heads: Heads[HttpRequest] = Heads()
        self.connections: set[Pooled] = set()
        # Responses under way.
        self.active = 0
        # True: every response ends its connection.
        self.draining = False
        # Set when a response or a connection ends, where somebody waits for that.
        self.awaited: asyncio.Event | None = None

    def sweep(self, now: float) -> None:
        """Close what has run out of time; `now` is time.monotonic()."""
        for connection in list(self.connections):
            connection.check(now)

    async def until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until `condition`, which looks at `active` or `connections`; False = time is up."""
        changed = self.awaited = asyncio.Event()
        try:
            async with asyncio.timeout(seconds):
                while not condition():
                    changed.clear()
                    await changed.wait()
        except TimeoutError:
            return False
        finally:
            self.awaited = None
        return True

    def changed(self) -> None:
        """A response or a connection has ended."""
        if self.awaited is not None:
            self.awaited.set()
