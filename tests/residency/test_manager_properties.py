"""Whatever comes: the budget holds, nobody is unloaded in use, and everybody who waits ends."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.residency.fakes import Asker, FakeResident, add
from tests.residency.virtual import run
from trunkline.residency.manager import Residency

BUDGET = 10
MAX_WAIT = 10_000.0

RESIDENTS = st.lists(
    st.tuples(
        st.integers(1, BUDGET - 1),
        st.sampled_from([0.0, 0.5, 3.0, 20.0]),
        st.sampled_from([0.0, 1.0]),
        st.sampled_from([-1.0, 0.0, 2.0, 60.0]),
        st.integers(0, 2),
    ),
    min_size=1,
    max_size=5,
)
# (pause before it, which resident, what)
STEPS = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.1, 1.0, 7.0]),
        st.integers(0, 4),
        st.sampled_from(["ask", "ask", "ask", "long", "give up", "unload", "keep", "replace"]),
    ),
    max_size=40,
)


class Watch:
    """Looks at the whole after every step."""

    def __init__(self, residency: Residency, residents: list[FakeResident]) -> None:
        self.residency = residency
        self.residents = residents

    def look(self) -> None:
        assert self.residency.in_use <= BUDGET
        for resident in self.residents:
            slot = resident.slot
            assert slot is not None
            assert slot.users >= 0
            if (slot.users and not slot.leaving) or slot.open:
                assert slot.phase == "loaded"
                assert resident.loaded
            if slot.open:
                assert not slot.waiters

    async def forever(self) -> None:
        while True:
            self.look()
            await asyncio.sleep(0.5)


def act(what: str, asker: Asker, askers: list[Asker]) -> None:
    match what:
        case "ask" | "long":
            asker.work = 1.0 if what == "ask" else 30.0
            askers.append(asker.ask())
        case "give up":
            for other in askers:
                if other.slot is asker.slot:
                    other.give_up()
        case "unload":
            asker.residency.unload(asker.slot)
        case "keep":
            asker.residency.keep(asker.slot, 1.0)


@settings(deadline=None, max_examples=100)
@given(made=RESIDENTS, steps=STEPS, pinned=st.booleans())
def test_whatever_comes(
    made: list[tuple[int, float, float, float, int]],
    steps: list[tuple[float, int, str]],
    pinned: bool,
) -> None:
    async def main() -> None:
        residency = Residency(BUDGET, max_wait=MAX_WAIT)
        residents = []
        if pinned:
            residents.append(FakeResident("pinned", 1))
            add(residency, residents[0], pinned=True)
        for index, (memory, load_time, unload_time, keep_alive, failures) in enumerate(made):
            resident = FakeResident(
                f"r{index}",
                memory,
                load_time=load_time,
                unload_time=unload_time,
                failures=failures,
            )
            residents.append(resident)
            add(residency, resident, keep_alive=keep_alive)
        watch = Watch(residency, residents)
        watching = asyncio.create_task(watch.forever())
        askers: list[Asker] = []
        removals = []
        for pause, index, what in steps:
            await asyncio.sleep(pause)
            resident = residents[index % len(residents)]
            slot = resident.slot
            assert slot is not None
            if what == "replace":
                removals.append(asyncio.create_task(residency.remove(slot)))
                residents.append(FakeResident(resident.name, resident.memory))
                try:
                    add(residency, residents[-1], keep_alive=1.0)
                except ValueError:
                    # Pinned memory is not free before it is.
                    residents.pop()
            act(what, Asker(residency, slot), askers)
            watch.look()
        async with asyncio.timeout(MAX_WAIT):
            for asker in askers:
                await asker.ended.wait()
        for asker in askers:
            # The only reasons to be refused: all are done long before.
            if asker.error is not None and not asker.slot.leaving:
                assert "out of memory" in asker.error.message
        await asyncio.gather(*removals)
        assert not any(slot.leaving for slot in residency.slots)
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await residency.close()
        assert not any(resident.loaded for resident in residents)
        assert all(slot.users == 0 for slot in residency.slots)

    run(main)


@settings(deadline=None, max_examples=12)
@given(load_time=st.sampled_from([0.5, 2.0, 10.0]), models=st.integers(2, 4))
def test_nobody_starves_under_steady_load(load_time: float, models: int) -> None:
    """Each model always has requests; together they do not fit."""

    async def main() -> None:
        residency = Residency(1, max_wait=MAX_WAIT)
        slots = [
            add(residency, FakeResident(f"m{index}", load_time=load_time))
            for index in range(models)
        ]
        askers: list[Asker] = []
        for _ in range(300):
            askers += [Asker(residency, slot, work=0.9).ask() for slot in slots]
            await asyncio.sleep(0.5)
        for asker in askers:
            await asker.ended.wait()
        # A round gives each a load, a turn of at least its length, its last request, an unload.
        turn = max(1.0, load_time)
        assert max(asker.waited for asker in askers) <= models * (load_time + turn + 0.9 + 0.5) + 1
        # A load serves many.
        assert sum(slot.loads for slot in slots) <= 2 + 150 / (turn + load_time) + models
        await residency.close()

    run(main)
