"""One resident as the manager sees it: where it is in its life, who uses it, who waits for it."""

from __future__ import annotations

import asyncio
from typing import Literal, Protocol, runtime_checkable

from trunkline.core.errors import TrunklineError
from trunkline.core.supervise import Backoff
from trunkline.core.types import Backend, Request

Phase = Literal["cold", "loading", "loaded", "unloading"]


class Resident(Protocol):
    """A model that can be loaded and unloaded: built in, or an engine that is launched."""

    @property
    def name(self) -> str:
        """Of the backend."""

    @property
    def memory(self) -> int:
        """Bytes that it takes when loaded, declared or estimated; 0 = nobody knows."""

    @property
    def backend(self) -> Backend:
        """Answers while it is loaded."""

    async def load(self) -> None:
        """Returns once it can answer. Raises `TrunklineError`, with nothing left behind."""

    async def unload(self) -> None:
        """Returns once its memory is free. Harmless when it is not loaded."""


@runtime_checkable
class Choosy(Protocol):
    """A resident that knows what it refuses before it is loaded."""

    def refuse(self, request: Request) -> None:
        """Raise `Unsupported` for what it will never do."""


class Waiter(Protocol):
    """A request that waits for a resident."""

    def granted(self) -> None:
        """Its resident is loaded and counts one more user. Must neither block nor raise."""

    def refused(self, error: TrunklineError) -> None:
        """It waits in vain. Must neither block nor raise."""


class Slot:
    """State of one resident. Only `manager.Residency` changes it.

    Invariants: `users` > 0 only where it is loaded, or is removed by force; `open` only where it is
    loaded; whoever waits for an open one is granted at once, so that `waiters` is empty there.
    """

    __slots__ = (
        "backoff",
        "configured_keep",
        "failure",
        "idle_since",
        "keep",
        "leaving",
        "load_began",
        "load_seconds",
        "loaded_at",
        "loads",
        "memory",
        "name",
        "open",
        "phase",
        "pinned",
        "resident",
        "retry_at",
        "task",
        "timer",
        "unload_asked",
        "users",
        "waiters",
    )

    def __init__(
        self, resident: Resident, memory: int, keep_alive: float, *, pinned: bool, guess: float
    ) -> None:
        self.resident = resident
        self.name = resident.name
        # Bytes that count against the budget.
        self.memory = memory
        # Loaded at the start and kept.
        self.pinned = pinned
        self.phase: Phase = "cold"
        # It takes newcomers.
        self.open = False
        # It is being removed: it is unloaded once and never loaded again.
        self.leaving = False
        # Requests under way there.
        self.users = 0
        # In the order in which they came -> when each has waited too long.
        self.waiters: dict[Waiter, tuple[int, float]] = {}
        # Seconds without requests until it is unloaded, now and by configuration; negative: never.
        self.keep = keep_alive
        self.configured_keep = keep_alive
        # Unload it as soon as nobody uses it.
        self.unload_asked = False
        # Seconds that loading took last; a guess before that.
        self.load_seconds = guess
        self.load_began = 0.0
        self.loaded_at = 0.0
        self.idle_since = 0.0
        # Times that it was loaded.
        self.loads = 0
        # Why it could not be loaded, and when that may be tried again.
        self.failure: TrunklineError | None = None
        self.retry_at = 0.0
        # Nobody asks for a pinned one: what stays wrong, a missing image say, is asked less often.
        self.backoff = Backoff(first=1.0, limit=600.0 if pinned else 60.0)
        self.task: asyncio.Task[None] | None = None
        # Looks whether it has been idle for long enough.
        self.timer: asyncio.TimerHandle | None = None

    @property
    def backend(self) -> Backend:
        """Of the resident."""
        return self.resident.backend

    @property
    def holds(self) -> bool:
        """Whether it takes memory, or soon will, or still does; a pinned one always does."""
        return self.pinned or self.phase != "cold"

    @property
    def wanted(self) -> bool:
        """Whether somebody waits who needs it loaded again."""
        return bool(self.waiters) and self.phase in ("cold", "unloading")

    def oldest(self) -> int:
        """Number of the waiter that came first."""
        return next(iter(self.waiters.values()))[0]
