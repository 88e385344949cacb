"""A backend whose model is loaded at its first request: it waits its turn, then it is as if there.

Loaded, a request costs one object more, and each batch of its events one look at the last of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from trunkline.core.errors import InternalError, TrunklineError, response_not_found
from trunkline.core.types import (
    Abilities,
    Able,
    Backend,
    BackendStats,
    Call,
    Completed,
    Event,
    EventSink,
    Failed,
    Health,
    Keeper,
    KeptAsk,
    ModelCard,
    RawRequest,
    Request,
    Tokenization,
)
from trunkline.residency.manager import Residency
from trunkline.residency.slot import Choosy, Slot
from trunkline.residency.switch import Refused

log = logging.getLogger("trunkline.residency")

Begin = Callable[[EventSink], Call]


class ResidentCall:
    """Implements `Call`, `EventSink` and `slot.Waiter`: one request, from the queue to its end.

    It counts as a user of its slot from `granted` to its last event, or until it is cancelled.
    """

    __slots__ = ("_ended", "_residency", "_sink", "_slot", "begin", "inner", "request_id")

    def __init__(self, residency: Residency, slot: Slot, request_id: str, sink: EventSink) -> None:
        self._residency = residency
        self._slot = slot
        self._sink = sink
        self._ended = False
        self.request_id = request_id
        # What sends it, while it waits.
        self.begin: Begin | None = None
        # None before it is sent.
        self.inner: Call | None = None

    # slot.Waiter

    def granted(self) -> None:
        """Send it."""
        begin, self.begin = self.begin, None
        assert begin is not None
        try:
            self.inner = begin(self)
        except TrunklineError as error:
            self._fail(error)
        except Exception as error:
            # Others that wait are granted after it: a fault of ours must not stop that.
            log.exception("a request cannot be sent to %s", self._slot.name)
            self._fail(InternalError(f"the request cannot be sent: {error!r}"))

    def refused(self, error: TrunklineError) -> None:
        """Fail it."""
        self._ended = True
        self.inner = Refused(self.request_id, error, self._sink)

    def _fail(self, error: TrunklineError) -> None:
        self.refused(error)
        self._residency.leave(self._slot)

    # core.types.EventSink

    def on_events(self, events: Sequence[Event]) -> None:
        """Hand on; the last event ends the use."""
        last = type(events[-1])
        if (last is Completed or last is Failed) and not self._ended:
            self._ended = True
            self._sink.on_events(events)
            self._residency.leave(self._slot)
        else:
            self._sink.on_events(events)

    # core.types.Call

    def cancel(self) -> None:
        """Leave the queue, or stop the work."""
        if self.inner is not None:
            self.inner.cancel()
        if self._ended:
            return
        self._ended = True
        if self.begin is not None:
            self._residency.forget(self._slot, self)
        else:
            self._residency.leave(self._slot)


class _Turn:
    """Implements `slot.Waiter` for who awaits it."""

    __slots__ = ("_future", "has")

    def __init__(self, future: asyncio.Future[None]) -> None:
        self._future = future
        # It counts as a user.
        self.has = False

    def granted(self) -> None:
        """Wake who awaits."""
        self.has = True
        if not self._future.done():
            self._future.set_result(None)

    def refused(self, error: TrunklineError) -> None:
        """Wake who awaits."""
        if not self._future.done():
            self._future.set_exception(error)


@contextlib.asynccontextmanager
async def using(residency: Residency, slot: Slot) -> AsyncIterator[Backend]:
    """Its backend, loaded for as long as the block lasts. Raises `TrunklineError`."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    turn = _Turn(future)
    if residency.enter(slot, turn):
        turn.has = True
    try:
        if not turn.has:
            await future
        yield slot.backend
    finally:
        residency.forget(slot, turn)
        if turn.has:
            residency.leave(slot)


class OnDemandBackend:
    """Implements `core.types.Backend` over one slot of a residency.

    `backend`: answers while it is loaded; None: the resident's.
    """

    def __init__(self, residency: Residency, slot: Slot, backend: Backend | None = None) -> None:
        self.name = slot.name
        self._residency = residency
        self._slot = slot
        self._backend = backend or slot.backend
        # Who may refuse before anything is loaded.
        self._choosy = slot.resident if isinstance(slot.resident, Choosy) else None

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Send it, or queue it until the model is loaded."""
        slot = self._slot
        call = ResidentCall(self._residency, slot, request.id, sink)
        if not slot.open:
            try:
                self._refuse(request)
            except TrunklineError as error:
                return Refused(request.id, error, sink)
            return self._wait(call, sink, lambda call: self._backend.submit(request, call))
        slot.users += 1
        try:
            call.inner = self._backend.submit(request, call)
        except BaseException:
            call.cancel()
            raise
        return call

    def relays(self, operation: str) -> bool:
        """As what is loaded does, or will as far as is known."""
        return self._backend.relays(operation)

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        """As `submit`."""
        slot = self._slot
        call = ResidentCall(self._residency, slot, raw.id, sink)
        if not slot.open:
            return self._wait(call, sink, lambda call: self._backend.relay(raw, call))
        slot.users += 1
        try:
            call.inner = self._backend.relay(raw, call)
        except BaseException:
            call.cancel()
            raise
        return call

    async def count_tokens(self, request: Request) -> int:
        """Load and ask. Raises `TrunklineError`."""
        self._refuse(request)
        async with using(self._residency, self._slot):
            return await self._backend.count_tokens(request)

    async def tokenize(self, request: Request) -> Tokenization:
        """Load and ask. Raises `TrunklineError`."""
        self._refuse(request)
        async with using(self._residency, self._slot):
            return await self._backend.tokenize(request)

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """Load and ask. Raises `TrunklineError`."""
        async with using(self._residency, self._slot):
            return await self._backend.detokenize(token_ids)

    async def kept(self, ask: KeptAsk) -> bytes:
        """Ask what is loaded: nothing else has kept anything. Raises `TrunklineError`."""
        if not (self.resident and isinstance(self._backend, Keeper)):
            raise response_not_found(ask.response_id)
        async with using(self._residency, self._slot):
            return await self._backend.kept(ask)

    def abilities(self) -> Abilities | None:
        """Also while it is not loaded, as far as they are known."""
        return self._backend.abilities() if isinstance(self._backend, Able) else None

    def models(self) -> tuple[ModelCard, ...]:
        """Also while it is not loaded, as far as they are known."""
        return self._backend.models()

    def health(self) -> Health:
        """Also "ready" while it is not loaded: a request loads it, after `load_seconds`."""
        return self._residency.health(self._slot)

    def stats(self) -> BackendStats:
        """As what is loaded tells; requests in the queue count as waiting."""
        stats = self._backend.stats()
        waiting = len(self._slot.waiters)
        return stats if not waiting else _with_waiting(stats, waiting)

    @property
    def in_flight(self) -> int:
        """Requests under way and in the queue."""
        return self._slot.users + len(self._slot.waiters)

    # core.types.OnDemand

    @property
    def resident(self) -> bool:
        """Whether the model is in memory."""
        return self._slot.phase == "loaded"

    async def load(self) -> None:
        """Load it, as a request does. Raises `TrunklineError`."""
        async with using(self._residency, self._slot):
            return

    def keep(self, seconds: float) -> None:
        """Keep it so long after its last request; negative: for ever, 0: `unload`."""
        self._residency.keep(self._slot, seconds)

    def unload(self) -> None:
        """Unload it as soon as no request uses it."""
        self._residency.unload(self._slot)

    def leaves_in(self) -> float:
        """Seconds until it is unloaded if nobody asks again; infinite: never, 0: it is gone."""
        return self._residency.leaves_in(self._slot)

    def _refuse(self, request: Request) -> None:
        if self._choosy is not None:
            self._choosy.refuse(request)

    def _wait(self, call: ResidentCall, sink: EventSink, begin: Begin) -> Call:
        call.begin = begin
        try:
            if self._residency.enter(self._slot, call):
                call.granted()
        except TrunklineError as error:
            return Refused(call.request_id, error, sink)
        return call


def _with_waiting(stats: BackendStats, waiting: int) -> BackendStats:
    return msgspec.structs.replace(stats, waiting=stats.waiting + waiting)
