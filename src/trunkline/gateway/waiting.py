"""Requests that wait for a target below its limits: first come, first served, and bounded."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from trunkline.gateway.clock import Clock, Timer

# Limits a minute are looked at so often while somebody waits, in seconds; and the least pause.
_LOOK = 0.5
_PAUSE = 0.001


class Waits(Protocol):
    """One that waits."""

    def take_turn(self) -> bool:
        """Go on, if there is a target for it: then it has left the queue."""

    def waited_too_long(self) -> None:
        """Its time is over; it is not in the queue any more."""


class WaitingRoom:
    """The queue of one route. Whoever leaves early must call `leave`."""

    def __init__(self, clock: Clock, most: int, longest: float, free: Callable[[], bool]) -> None:
        self._clock = clock
        self._most = most
        self._longest = longest
        # Whether a target may take a request now, or none ever will.
        self._free = free
        # When each must be told that it is too late, in the order of arrival.
        self.inside: dict[Waits, float] = {}
        self._timer: Timer | None = None

    def enter(self, one: Waits) -> bool:
        """Wait; False: there is no place."""
        if len(self.inside) >= self._most:
            return False
        self.inside[one] = self._clock.time() + self._longest
        self._look_later()
        return True

    def leave(self, one: Waits) -> None:
        """Wait no more. Harmless when it does not."""
        self.inside.pop(one, None)
        if not self.inside and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def look_soon(self) -> None:
        """A target may be free: look as soon as the caller is done."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._clock.call_later(0.0, self._look)

    def _wake(self) -> None:
        for one in tuple(self.inside):
            if not self._free():
                break
            # One that waits for a certain target stays where it is.
            one.take_turn()

    def _look_later(self) -> None:
        if self._timer is None and self.inside:
            # All wait equally long, so that the first one's time is over first.
            left = next(iter(self.inside.values())) - self._clock.time()
            self._timer = self._clock.call_later(max(_PAUSE, min(_LOOK, left)), self._look)

    def _look(self) -> None:
        self._timer = None
        self._wake()
        now = self._clock.time()
        late = [one for one, until in self.inside.items() if until <= now]
        for one in late:
            self.leave(one)
        for one in late:
            one.waited_too_long()
        self._look_later()
