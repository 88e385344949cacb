"""When to leave a target alone: failures in a row, or too large a share of them."""

from __future__ import annotations

from typing import Literal

from trunkline.gateway.config import Breaker
from trunkline.gateway.window import Window

BreakerState = Literal["closed", "open", "half_open"]


class CircuitBreaker:
    """Closed: all may pass. Open: none, until the cool-down is over. Then half open: one may try,
    and what comes of it decides.
    """

    __slots__ = ("_config", "_failed", "_opened_at", "_probing", "closed", "row", "tries")

    def __init__(self, config: Breaker) -> None:
        self._config = config
        # Requests that were sent; the owner counts them.
        self.tries = Window(config.window)
        self._failed = Window(config.window)
        # Failures in a row; a request that goes well sets it to 0.
        self.row = 0
        self._opened_at = 0.0
        self._probing = False
        self.closed = True

    def follow(self, config: Breaker) -> None:
        """Other rules hold from now on; open stays open."""
        if config.window != self._config.window:
            self.tries = Window(config.window)
            self._failed = Window(config.window)
        self._config = config

    def state(self, now: float) -> BreakerState:
        """As a word."""
        if self.closed:
            return "closed"
        return "open" if self.wait(now) > 0 else "half_open"

    def wait(self, now: float) -> float:
        """Seconds until a request may try; 0 = now, or as soon as the one that tries has ended."""
        return 0.0 if self.closed else max(0.0, self._opened_at + self._config.cooldown - now)

    def allows(self, now: float) -> bool:
        """Whether a request may be sent."""
        return self.closed or (not self._probing and self.wait(now) <= 0)

    def begin(self) -> bool:
        """A request is sent that `allows` let through. True: it is the one that tries."""
        if self.closed:
            return False
        self._probing = True
        return True

    def answered(self) -> None:
        """The one that tries has an answer: closed again."""
        self._close()

    def failure(self, now: float, probe: bool) -> None:
        """A request went wrong, by the target's fault."""
        if not self.closed:
            if probe:
                self._open(now)
            return
        self.row += 1
        self._failed.add(now)
        config = self._config
        if self.row >= config.failures:
            self._open(now)
            return
        failed = self._failed.total
        total = max(failed, self.tries.sum(now))
        if total >= config.least and failed >= config.ratio * total:
            self._open(now)

    def released(self) -> None:
        """The one that tries was given up before it told anything."""
        self._probing = False

    def _open(self, now: float) -> None:
        self.closed = False
        self._probing = False
        self._opened_at = now

    def _close(self) -> None:
        self.closed = True
        self._probing = False
        self.row = 0
        self._failed = Window(self._config.window)
