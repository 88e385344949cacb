"""Residents that load nothing, and requests that note what becomes of them."""

from __future__ import annotations

import asyncio

from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import TrunklineError, Unavailable
from trunkline.residency.manager import Residency
from trunkline.residency.slot import Slot


class FakeResident:
    """Implements `slot.Resident`; `failures` loads fail at first."""

    def __init__(
        self,
        name: str,
        memory: int = 1,
        *,
        load_time: float = 1.0,
        unload_time: float = 0.5,
        failures: int = 0,
    ) -> None:
        self.name = name
        self.memory = memory
        self.backend = FakeBackend(name=name)
        self.load_time = load_time
        self.unload_time = unload_time
        self.failures = failures
        self.loads = 0
        self.loaded = False
        self.slot: Slot | None = None

    async def load(self) -> None:
        assert not self.loaded
        self.loads += 1
        await asyncio.sleep(self.load_time)
        if self.failures:
            self.failures -= 1
            raise Unavailable("out of memory")
        self.loaded = True

    async def unload(self) -> None:
        slot = self.slot
        assert slot is None or slot.leaving or not slot.users, "unloaded while in use"
        self.loaded = False
        await asyncio.sleep(self.unload_time)


class Asker:
    """Implements `slot.Waiter`: one request that takes `work` seconds once it is granted."""

    def __init__(self, residency: Residency, slot: Slot, work: float = 1.0) -> None:
        self.residency = residency
        self.slot = slot
        self.work = work
        self.loop = asyncio.get_running_loop()
        self.asked_at = self.loop.time()
        self.granted_at: float | None = None
        self.error: TrunklineError | None = None
        self.ended = asyncio.Event()

    def ask(self) -> Asker:
        """Enter."""
        try:
            if self.residency.enter(self.slot, self):
                self.granted()
        except TrunklineError as error:
            self.refused(error)
        return self

    def granted(self) -> None:
        assert not self.ended.is_set()
        assert self.granted_at is None
        assert self.slot.phase == "loaded"
        self.granted_at = self.loop.time()
        self.loop.call_later(self.work, self._done)

    def refused(self, error: TrunklineError) -> None:
        assert not self.ended.is_set()
        assert self.granted_at is None
        self.error = error
        self.ended.set()

    def give_up(self) -> None:
        """As a client that goes away while it waits."""
        if self.granted_at is None and not self.ended.is_set():
            self.residency.forget(self.slot, self)
            self.ended.set()

    def _done(self) -> None:
        self.residency.leave(self.slot)
        self.ended.set()

    @property
    def waited(self) -> float:
        """Seconds until it was granted."""
        assert self.granted_at is not None, self.error
        return self.granted_at - self.asked_at


def add(
    residency: Residency, resident: FakeResident, keep_alive: float = -1.0, pinned: bool = False
) -> Slot:
    """Take it in charge."""
    slot = resident.slot = residency.add(resident, keep_alive=keep_alive, pinned=pinned)
    return slot


def phase(slot: Slot) -> str:
    """Where it is now."""
    return slot.phase
