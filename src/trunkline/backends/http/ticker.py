"""One coarse timer for all deadlines."""

from __future__ import annotations

import asyncio
from typing import Protocol

from trunkline.core.looks import Looks

# Seconds between two looks; a deadline is met at most this much late.
_TICK = 0.1


class Watched(Protocol):
    """Something with deadlines."""

    def check(self, now: float) -> None:
        """Act on deadlines that have passed; `now` is the loop's time."""


class Ticker:
    """Looks at what it watches, again and again while there is anything.

    A request sets no timer of its own: it is added, and looked at ten times a second. A look that
    comes late is left to the next one: nobody is blamed for time in which we did not listen.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._watched: set[Watched] = set()
        self._timer: asyncio.TimerHandle | None = None
        # The loop's time of the next look.
        self._due = 0.0
        self._looks = Looks()

    def add(self, item: Watched) -> None:
        """Watch `item`; harmless when it is watched already."""
        self._watched.add(item)
        if self._timer is None:
            self._set(self._loop.time())

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
        counts = self._looks.counts(now, self._due)
        self._timer = None
        if self._watched:
            self._set(now)
        if counts:
            for item in tuple(self._watched):
                item.check(now)

    def _set(self, now: float) -> None:
        self._due = now + _TICK
        self._timer = self._loop.call_later(_TICK, self._tick)
