"""Time as the gateway sees it; an asyncio loop is one, and tests bring their own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """Something that will be called."""

    def cancel(self) -> None:
        """Not any more. Harmless when it was called already."""


class Clock(Protocol):
    """Monotonic seconds, and calls at a later time on the event loop."""

    def time(self) -> float:
        """Now."""

    def call_later(self, delay: float, callback: Callable[[], object]) -> Timer:
        """Call once, `delay` seconds from now."""
