"""What is loaded: on demand, within a memory budget, built-in models and launched engines alike.

    residency = Residency(budget=8 * 1024**3)
    slot = residency.add(resident, keep_alive=300)
    if residency.enter(slot, waiter):  # or waiter.granted() later
        ...
        residency.leave(slot)
    await residency.close()

Everything happens on one event loop; the only tasks are loads and unloads, which it owns.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import math
from collections.abc import Sequence

from trunkline.core.errors import InternalError, QueueFull, TrunklineError, Unavailable
from trunkline.core.types import Health
from trunkline.residency.placement import decide
from trunkline.residency.slot import Resident, Slot, Waiter

log = logging.getLogger("trunkline.residency")

# Of requests that wait for a model to be loaded: most, all models together, and seconds.
MAX_WAITING = 1024
MAX_WAIT = 900.0
# Seconds that a load is expected to take where nothing has been measured.
UNMEASURED = 5.0
# So that a cold one never looks warm to routing.
_LEAST = 0.01


class Residency:
    """Loads and unloads residents. Sum of the memory of all that are not cold <= budget, always."""

    def __init__(
        self,
        budget: int | None = None,
        *,
        max_waiting: int = MAX_WAITING,
        max_wait: float = MAX_WAIT,
    ) -> None:
        self.budget = math.inf if budget is None else float(budget)
        self._max_waiting = max_waiting
        self._max_wait = max_wait
        self._loop = asyncio.get_running_loop()
        self._slots: list[Slot] = []
        self._numbers = itertools.count()
        self._waiting = 0
        self._turn: asyncio.TimerHandle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._planning = False
        self._plan_again = False
        self._closed = False

    # residents

    def add(self, resident: Resident, *, keep_alive: float = -1.0, pinned: bool = False) -> Slot:
        """Take charge of a resident; a pinned one is loaded at once and kept.

        One whose memory nobody knows counts as all that pinned ones leave. Raises ValueError where
        it can never fit into the budget.
        """
        taken = sum(slot.memory for slot in self._slots if slot.pinned)
        room = self.budget - taken
        memory = resident.memory
        if not memory and not math.isinf(room):
            memory = int(room)
        most = max((s.memory for s in self._slots if not s.pinned), default=0)
        if memory > room or (pinned and memory + most > room):
            raise ValueError(
                f"{resident.name} needs {_size(memory)} of memory; of the budget of "
                f"{_size(self.budget)} {_size(room)} are left beside what is always loaded"
            )
        slot = Slot(resident, memory, keep_alive, pinned=pinned, guess=UNMEASURED)
        self._slots.append(slot)
        if pinned:
            self._begin_load(slot)
        return slot

    async def remove(self, slot: Slot) -> None:
        """Unload it, whoever uses it, and forget it; who waits for it is refused.

        Its memory counts until it is free. Harmless where it was removed already.
        """
        if slot.leaving or slot not in self._slots:
            return
        slot.leaving = True
        # Whoever still uses it must not have it kept or loaded again.
        slot.pinned, slot.open, slot.keep = False, False, -1.0
        self._stop_timer(slot)
        self._refuse(slot, _gone(slot))
        if slot.phase == "loading" and slot.task is not None:
            slot.task.cancel()
            await asyncio.wait((slot.task,))
        if slot.phase in ("loading", "loaded"):
            self._begin_unload(slot)
        if slot.task is not None:
            # It goes on also where nobody waits for it any more; `close` does.
            await asyncio.wait((slot.task,))
        if slot in self._slots:
            self._slots.remove(slot)
        self._plan()

    @property
    def slots(self) -> Sequence[Slot]:
        """All of them, in the order in which they came."""
        return self._slots

    @property
    def in_use(self) -> int:
        """Bytes that are taken, or about to be, or not free yet."""
        return sum(slot.memory for slot in self._slots if slot.holds)

    # users

    def enter(self, slot: Slot, waiter: Waiter) -> bool:
        """Use a resident: True = it may be used now, else `waiter` hears of it.

        Whoever was granted it calls `leave`; whoever waits no more, `forget`. Raises `Unavailable`
        or `QueueFull` where waiting is of no use.
        """
        if slot.open:
            slot.users += 1
            return True
        now = self._loop.time()
        self._check(slot, now)
        slot.waiters[waiter] = (next(self._numbers), now + self._max_wait)
        self._waiting += 1
        slot.unload_asked = False
        if self._late is None:
            self._late = self._loop.call_at(now + self._max_wait, self._refuse_late)
        self._plan()
        return False

    def leave(self, slot: Slot) -> None:
        """A request there has ended."""
        slot.users -= 1
        if slot.users:
            return
        slot.idle_since = self._loop.time()
        if slot.unload_asked or slot.keep == 0:
            self._expire(slot)
        elif slot.timer is None and slot.keep > 0 and not slot.pinned:
            slot.timer = self._loop.call_later(slot.keep, self._look_idle, slot)
        if self._waiting:
            self._plan()

    def forget(self, slot: Slot, waiter: Waiter) -> None:
        """Wait no more; `waiter` hears nothing. Harmless when it does not wait."""
        if slot.waiters.pop(waiter, None) is not None:
            self._waiting -= 1
            self._plan()

    # as Ollama's keep_alive wants it

    def keep(self, slot: Slot, seconds: float) -> None:
        """Keep it for so many seconds after its last request, until it is unloaded.

        Negative: for ever; 0: `unload`.
        """
        if slot.leaving:
            return
        slot.keep = seconds
        if slot.pinned or slot.phase != "loaded" or slot.users:
            return
        self._stop_timer(slot)
        if seconds == 0:
            self._expire(slot)
        elif seconds > 0:
            slot.timer = self._loop.call_later(seconds, self._look_idle, slot)

    def unload(self, slot: Slot) -> None:
        """Unload it as soon as no request uses it. A pinned one stays."""
        if slot.phase in ("loading", "loaded") and not slot.waiters:
            slot.unload_asked = True
            self._expire(slot)

    def leaves_in(self, slot: Slot) -> float:
        """Seconds until it is unloaded if nobody asks again; infinite: never, 0: it is gone.

        Of one in use as if its last request ended now. That another one needs its memory earlier
        nobody can know.
        """
        if slot.phase != "loaded" or slot.unload_asked:
            return 0.0
        if slot.pinned or slot.keep < 0:
            return math.inf
        since = self._loop.time() if slot.users else slot.idle_since
        return max(0.0, since + slot.keep - self._loop.time())

    def health(self, slot: Slot) -> Health:
        """Whether requests are answered, and after how long where it must be loaded first."""
        match slot.phase:
            case "loaded":
                return slot.backend.health()
            case "loading":
                left = slot.load_seconds - (self._loop.time() - slot.load_began)
                state = slot.backend.health()
                return Health("ready", f"loading: {state.detail}", max(_LEAST, left))
        if slot.failure is not None:
            return Health("failed", slot.failure.message, max(_LEAST, slot.load_seconds))
        return Health("ready", "not loaded", max(_LEAST, slot.load_seconds))

    async def close(self) -> None:
        """Refuse who waits, and unload everything."""
        self._closed = True
        for timer in (self._turn, self._late):
            if timer is not None:
                timer.cancel()
        tasks = []
        for slot in self._slots:
            self._stop_timer(slot)
            self._refuse(slot, Unavailable("the server is shutting down"))
            if slot.task is not None and slot.phase != "unloading":
                slot.task.cancel()
            if slot.task is not None:
                tasks.append(slot.task)
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(self._unload(slot) for slot in self._slots if slot.phase != "cold"))

    # internals

    def _check(self, slot: Slot, now: float) -> None:
        if self._closed:
            raise Unavailable("the server is shutting down")
        if slot.leaving:
            raise _gone(slot)
        if slot.failure is not None and slot.phase == "cold" and now < slot.retry_at:
            raise _because(slot, slot.retry_at - now)
        if self._waiting >= self._max_waiting:
            problem = f"{self._waiting} requests wait for models to be loaded already"
            raise QueueFull(problem, retry_after=max(1.0, slot.load_seconds))

    def _plan(self) -> None:
        """Do what `decide` says, until it says nothing new."""
        if self._planning:
            self._plan_again = True
            return
        self._planning = True
        try:
            self._plan_again = True
            while self._plan_again and not self._closed:
                self._plan_again = False
                self._decide()
        finally:
            self._planning = False

    def _decide(self) -> None:
        now = self._loop.time()
        slots = tuple(self._slots)
        decision = decide(slots, self.budget, now)
        for slot in decision.unload:
            self._begin_unload(slot)
        for slot in decision.load:
            self._begin_load(slot)
        for slot in slots:
            slot.open = slot.phase == "loaded" and slot not in decision.closed
            if slot.open and slot.waiters:
                self._grant(slot)
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None
        if not math.isinf(decision.again_at):
            self._turn = self._loop.call_at(decision.again_at, self._plan)

    def _grant(self, slot: Slot) -> None:
        waiters, slot.waiters = slot.waiters, {}
        self._waiting -= len(waiters)
        # All of them count before the first one can end.
        slot.users += len(waiters)
        for waiter in waiters:
            waiter.granted()

    def _refuse(self, slot: Slot, error: TrunklineError) -> None:
        waiters, slot.waiters = slot.waiters, {}
        self._waiting -= len(waiters)
        for waiter in waiters:
            waiter.refused(error)

    def _refuse_late(self) -> None:
        now = self._loop.time()
        for slot in self._slots:
            late = [waiter for waiter, (_, until) in slot.waiters.items() if until <= now]
            for waiter in late:
                del slot.waiters[waiter]
                self._waiting -= 1
            problem = f"model {slot.name!r} was not loaded within {self._max_wait:g} s"
            for waiter in late:
                waiter.refused(Unavailable(problem, retry_after=max(1.0, slot.load_seconds)))
        # All wait equally long, so that the first of each comes first.
        firsts = (next(iter(s.waiters.values()))[1] for s in self._slots if s.waiters)
        following = min(firsts, default=None)
        self._late = None
        if following is not None:
            self._late = self._loop.call_at(following, self._refuse_late)
        self._plan()

    # loading

    def _begin_load(self, slot: Slot) -> None:
        self._stop_timer(slot)
        slot.phase = "loading"
        slot.load_began = self._loop.time()
        slot.task = self._loop.create_task(self._load(slot))

    async def _load(self, slot: Slot) -> None:
        log.info("loading %s", slot.name)
        try:
            await slot.resident.load()
        except TrunklineError as error:
            self._load_failed(slot, error)
        except Exception as error:
            log.exception("cannot load %s", slot.name)
            self._load_failed(slot, InternalError(f"cannot load {slot.name}: {error!r}"))
        else:
            self._loaded(slot)

    def _loaded(self, slot: Slot) -> None:
        now = self._loop.time()
        slot.task = None
        slot.failure = None
        slot.backoff.failures = 0
        slot.loads += 1
        slot.load_seconds = now - slot.load_began
        slot.loaded_at = slot.idle_since = now
        slot.phase = "loaded"
        log.info("%s is loaded after %.1f s", slot.name, slot.load_seconds)
        slot.open = True
        # Those who waited are served before anybody decides that it has to go again.
        self._grant(slot)
        if not slot.users:
            slot.users += 1
            self.leave(slot)
        self._plan()

    def _load_failed(self, slot: Slot, error: TrunklineError) -> None:
        now = self._loop.time()
        slot.task = None
        slot.phase = "cold"
        slot.failure = error
        delay = slot.backoff.after(0.0)
        slot.retry_at = now + delay
        log.error("cannot load %s: %s", slot.name, error.message)
        self._refuse(slot, _because(slot, delay))
        if slot.pinned and not self._closed:
            slot.timer = self._loop.call_later(delay, self._begin_load, slot)
        self._plan()

    # unloading

    def _look_idle(self, slot: Slot) -> None:
        """Unload it if it has been idle for long enough; else look again when it may be."""
        slot.timer = None
        if slot.phase != "loaded" or slot.users or slot.keep < 0:
            return
        left = slot.idle_since + slot.keep - self._loop.time()
        if left > 0:
            slot.timer = self._loop.call_later(left, self._look_idle, slot)
        else:
            self._expire(slot)

    def _expire(self, slot: Slot) -> None:
        if slot.phase == "loaded" and not slot.users and not slot.pinned and not slot.waiters:
            self._begin_unload(slot)

    def _begin_unload(self, slot: Slot) -> None:
        self._stop_timer(slot)
        slot.keep = slot.configured_keep
        slot.phase = "unloading"
        slot.open = False
        slot.unload_asked = False
        slot.task = self._loop.create_task(self._unload(slot))

    async def _unload(self, slot: Slot) -> None:
        log.info("unloading %s", slot.name)
        try:
            await slot.resident.unload()
        except Exception:
            # Whatever is left of it, it does not answer: it may be loaded again.
            log.exception("unloading %s failed", slot.name)
        slot.phase = "cold"
        slot.open = False
        slot.task = None
        self._plan()

    def _stop_timer(self, slot: Slot) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
            slot.timer = None


def _gone(slot: Slot) -> Unavailable:
    return Unavailable(f"model {slot.name!r} is no longer served here")


def _because(slot: Slot, delay: float) -> Unavailable:
    reason = slot.failure.message if slot.failure else "the reason is not known"
    return Unavailable(
        f"model {slot.name!r} could not be loaded: {reason}", retry_after=max(1.0, delay)
    )


def _size(size: float) -> str:
    return f"{size / 1024**3:.2f} GiB"
