"""Looks at deadlines by a process that may itself have stood still."""

from __future__ import annotations

# Seconds that a look may come too late. Later than that, this process was stopped or had no
# processor, and what has come meanwhile is not read yet.
_LATE = 0.1


class Looks:
    """Tells which of many looks, one after the other, count: nobody is blamed for time in which we
    did not listen.
    """

    def __init__(self) -> None:
        # True: the last one did not count.
        self._late = False

    def counts(self, now: float, due: float) -> bool:
        """Whether the look that is made now, at a time in seconds, counts: it is not late.

        Not twice in a row is one left to the next: where every look is late, limits hold all the
        same.
        """
        self._late = not self._late and now - due > _LATE
        return not self._late
