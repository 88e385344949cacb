"""One coarse timer for all deadlines."""

from __future__ import annotations

import asyncio
from typing import Protocol

# Seconds between two looks; a deadline is met at most this much late.
_TICK = 0.1


class Watched(Protocol):
    """Something with deadlines."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed; `now` is the loop's time."""


class Ticker:
    """Looks at what it watches, again and again while there is anything.

    A request sets no timer of its own: it is added, and looked at ten times a second.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: Watched) -> None:
        """Watch `item`; harmless when it is watched already."""
        self._watched.add(item)
        if self._timer is None:
            self._timer = self._loop.call_later(_TICK, self._tick)

    def discard(self, item: Watched) -> None:
        """Watch it no more."""
        self._watched.discard(item)

    def close(self) -> None:
        """Forget everything."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        now = self._loop.time()
        self._timer = self._loop.call_later(_TICK, self._tick) if self._watched else None
        for item in tuple(self._watched):
            item.check(now)
