"""How much happened lately."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.core.speedups import native

_MOST_SLOTS = 1 << 16


class PureWindow:
    """A sum over the last `seconds`, kept in slots: old ones are forgotten one slot at a time.

    A slot counts until all of it is too old, so that the sum is never too small: a limit held
    against it holds for any stretch of `seconds`.
    """

    __slots__ = ("_at", "_counts", "_slot", "_until", "_width", "total")

    def __init__(self, seconds: float, slots: int = 30) -> None:
        if not seconds > 0 or not 1 <= slots <= _MOST_SLOTS:
            raise ValueError(f"a window has seconds, and 1 to {_MOST_SLOTS} slots")
        self._width = seconds / slots
        self._counts = [0] * (slots + 1)
        # Number of the slot that is being filled, counted from the clock's zero.
        self._at = 0
        # Its place in `_counts`, and when the next one begins.
        self._slot = 0
        self._until = self._width
        self.total = 0

    def add(self, now: float, amount: int = 1) -> None:
        """Count `amount`; a negative one corrects what was added too much."""
        if now >= self._until:
            self._roll(now)
        self._counts[self._slot] += amount
        self.total += amount

    def sum(self, now: float) -> int:
        """The sum as of `now`."""
        if now >= self._until:
            self._roll(now)
        return self.total

    def free_in(self, now: float) -> float:
        """Seconds until the oldest slot that holds anything is forgotten; 0 = all are empty."""
        self.sum(now)
        size = len(self._counts)
        for age in range(size - 1, -1, -1):
            if self._counts[(self._at - age) % size]:
                return (self._at - age + size) * self._width - now
        return 0.0

    def _roll(self, now: float) -> None:
        at = int(now / self._width)
        passed = at - self._at
        counts = self._counts
        size = len(counts)
        for step in range(1, min(passed, size) + 1):
            slot = (self._at + step) % size
            self.total -= counts[slot]
            counts[slot] = 0
        self._at = at
        self._slot = at % size
        self._until = (at + 1) * self._width


if TYPE_CHECKING or native is None:
    Window = PureWindow
else:
    Window = native.Window
