from __future__ import annotations

import asyncio
import math

import pytest

from tests.residency.fakes import Asker, FakeResident, add, phase
from tests.residency.virtual import run
from trunkline.core.errors import QueueFull, Unavailable
from trunkline.residency.manager import UNMEASURED, Residency


def test_first_requests_together_load_once_and_the_time_is_remembered() -> None:
    async def main() -> None:
        residency = Residency()
        resident = FakeResident("a", load_time=3)
        slot = add(residency, resident)
        cold = residency.health(slot)
        assert (cold.state, cold.detail, cold.load_seconds) == ("ready", "not loaded", UNMEASURED)
        askers = [Asker(residency, slot).ask() for _ in range(5)]
        await asyncio.sleep(1)
        assert residency.health(slot).load_seconds == pytest.approx(UNMEASURED - 1)
        await asyncio.gather(*(asker.ended.wait() for asker in askers))
        assert [asker.waited for asker in askers] == [3] * 5
        assert resident.loads == 1
        assert residency.health(slot).load_seconds == 0
        assert Asker(residency, slot).ask().waited == 0
        await asyncio.sleep(2)
        residency.unload(slot)
        await asyncio.sleep(1)
        assert residency.health(slot).load_seconds == 3
        await residency.close()

    run(main)


def test_kept_for_a_while_after_the_last_request() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"), keep_alive=10)
        await Asker(residency, slot, work=1).ask().ended.wait()
        await asyncio.sleep(9)
        assert phase(slot) == "loaded"
        # A request starts the time anew.
        await Asker(residency, slot, work=1).ask().ended.wait()
        await asyncio.sleep(9.9)
        assert phase(slot) == "loaded"
        await asyncio.sleep(1)
        assert phase(slot) == "cold"
        await residency.close()

    run(main)


def test_it_tells_when_it_goes() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"), keep_alive=10)
        assert residency.leaves_in(slot) == 0
        asker = Asker(residency, slot, work=4).ask()
        await asyncio.sleep(4)
        assert phase(slot) == "loaded"
        # In use: the time starts when the request ends.
        assert residency.leaves_in(slot) == 10
        await asker.ended.wait()
        await asyncio.sleep(3)
        assert residency.leaves_in(slot) == pytest.approx(7)
        residency.keep(slot, 60)
        assert residency.leaves_in(slot) == pytest.approx(57)
        residency.keep(slot, -1)
        assert residency.leaves_in(slot) == math.inf
        asker = Asker(residency, slot, work=4).ask()
        residency.unload(slot)
        assert residency.leaves_in(slot) == 0
        await asker.ended.wait()
        await residency.close()

    run(main)


def test_never_unloaded_while_a_long_request_runs() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"), keep_alive=2)
        await Asker(residency, slot, work=1).ask().ended.wait()
        asker = Asker(residency, slot, work=100).ask()
        await asyncio.sleep(99)
        assert phase(slot) == "loaded"
        await asker.ended.wait()
        await asyncio.sleep(3)
        assert phase(slot) == "cold"
        await residency.close()

    run(main)


@pytest.mark.parametrize(("keep_alive", "expected"), [(0, "unloading"), (-1, "loaded")])
def test_kept_not_at_all_or_for_ever(keep_alive: float, expected: str) -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"), keep_alive=keep_alive)
        await Asker(residency, slot).ask().ended.wait()
        assert phase(slot) == expected
        await asyncio.sleep(86_400 if keep_alive else 0)
        assert phase(slot) == expected
        await residency.close()

    run(main)


def test_keep_is_changed_for_one_stay() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"), keep_alive=300)
        residency.keep(slot, 5)
        await Asker(residency, slot).ask().ended.wait()
        await asyncio.sleep(6)
        assert phase(slot) == "cold"
        await Asker(residency, slot).ask().ended.wait()
        await asyncio.sleep(299)
        assert phase(slot) == "loaded"
        residency.keep(slot, 0)
        await asyncio.sleep(1)
        assert phase(slot) == "cold"
        await residency.close()

    run(main)


def test_unloading_waits_for_requests_under_way() -> None:
    async def main() -> None:
        residency = Residency()
        slot = add(residency, FakeResident("a"))
        asker = Asker(residency, slot, work=10).ask()
        await asyncio.sleep(2)
        residency.unload(slot)
        await asyncio.sleep(2)
        assert phase(slot) == "loaded"
        await asker.ended.wait()
        assert phase(slot) == "unloading"
        await residency.close()

    run(main)


def test_the_least_recently_used_goes_for_another() -> None:
    async def main() -> None:
        residency = Residency(budget=2)
        slots = [add(residency, FakeResident(name)) for name in "abc"]
        for index in (0, 1, 0, 2):
            await Asker(residency, slots[index]).ask().ended.wait()
        assert [slot.phase for slot in slots] == ["loaded", "cold", "loaded"]
        await residency.close()

    run(main)


def test_no_more_is_unloaded_than_needed() -> None:
    async def main() -> None:
        residency = Residency(budget=10)
        small = add(residency, FakeResident("small", 2))
        large = add(residency, FakeResident("large", 8))
        for slot in (small, large):
            await Asker(residency, slot).ask().ended.wait()
        await Asker(residency, add(residency, FakeResident("third", 7))).ask().ended.wait()
        assert (small.phase, large.phase) == ("loaded", "cold")
        await residency.close()

    run(main)


def test_what_is_in_use_is_closed_after_its_turn_and_newcomers_wait_behind() -> None:
    async def main() -> None:
        residency = Residency(budget=1)
        a = add(residency, FakeResident("a", load_time=4))
        b = add(residency, FakeResident("b", load_time=4))
        first = Asker(residency, a, work=20).ask()
        await asyncio.sleep(5)
        other = Asker(residency, b, work=20).ask()
        early = Asker(residency, a, work=1).ask()
        assert early.waited == 0
        # Loaded at 4 s, its turn lasts as long as the load.
        await asyncio.sleep(4)
        late = Asker(residency, a, work=1).ask()
        assert late.granted_at is None
        await other.ended.wait()
        assert first.ended.is_set()
        # 24 s: a is free; 0.5 s unloading, 4 s loading.
        assert other.granted_at == pytest.approx(28.5)
        await late.ended.wait()
        assert late.granted_at == pytest.approx(28.5 + 20 + 4.5)
        await residency.close()

    run(main)


def test_who_is_closed_opens_again_when_nobody_needs_its_memory_any_more() -> None:
    async def main() -> None:
        residency = Residency(budget=1)
        a = add(residency, FakeResident("a", load_time=1))
        b = add(residency, FakeResident("b"))
        Asker(residency, a, work=50).ask()
        await asyncio.sleep(10)
        other = Asker(residency, b).ask()
        late = Asker(residency, a).ask()
        await asyncio.sleep(1)
        other.give_up()
        assert late.waited == 1
        await residency.close()

    run(main)


def test_a_small_one_is_loaded_into_memory_that_the_first_does_not_need() -> None:
    async def main() -> None:
        residency = Residency(budget=10)
        a = add(residency, FakeResident("a", 6))
        b = add(residency, FakeResident("b", 6))
        c = add(residency, FakeResident("c", 3))
        d = add(residency, FakeResident("d", 4))
        Asker(residency, a, work=50).ask()
        await asyncio.sleep(5)
        second = Asker(residency, b, work=1).ask()
        small = Asker(residency, c, work=100).ask()
        # Beside b and c there is no room for it.
        fourth = Asker(residency, d, work=1).ask()
        await second.ended.wait()
        assert small.waited == 1
        assert second.granted_at == pytest.approx(51 + 0.5 + 1)
        await fourth.ended.wait()
        assert fourth.waited > second.waited
        await residency.close()

    run(main)


def test_nobody_takes_free_memory_that_the_first_needs_beside_what_is_closed_for_it() -> None:
    async def main() -> None:
        residency = Residency(budget=10)
        a = add(residency, FakeResident("a", 6))
        b = add(residency, FakeResident("b", 8))
        c = add(residency, FakeResident("c", 3))
        Asker(residency, a, work=50).ask()
        await asyncio.sleep(5)
        second = Asker(residency, b, work=20).ask()
        # It would fit beside a, and keep b waiting for longer.
        third = Asker(residency, c, work=100).ask()
        await third.ended.wait()
        assert second.granted_at == pytest.approx(51 + 0.5 + 1)
        assert third.waited > second.waited
        await residency.close()

    run(main)


def test_memory_of_a_pinned_one_is_kept_for_it_while_it_cannot_be_loaded() -> None:
    async def main() -> None:
        residency = Residency(budget=2)
        pinned = add(residency, FakeResident("p", failures=1, load_time=0.1), pinned=True)
        a, b = (add(residency, FakeResident(name)) for name in "ab")
        await asyncio.sleep(0.2)
        assert phase(pinned) == "cold"
        askers = [Asker(residency, slot, work=5).ask() for slot in (a, b)]
        assert (phase(a), phase(b)) == ("loading", "cold")
        await asyncio.gather(*(asker.ended.wait() for asker in askers))
        assert phase(pinned) == "loaded"
        assert pinned.loads == 1
        await residency.close()

    run(main)


def test_a_failed_load_fails_who_waits_and_is_tried_again_later() -> None:
    async def main() -> None:
        residency = Residency()
        resident = FakeResident("a", failures=1)
        slot = add(residency, resident)
        askers = [Asker(residency, slot).ask() for _ in range(3)]
        await asyncio.gather(*(asker.ended.wait() for asker in askers))
        for asker in askers:
            assert isinstance(asker.error, Unavailable)
            assert "out of memory" in asker.error.message
            assert asker.error.retry_after == 1
        health = residency.health(slot)
        assert (health.state, health.detail) == ("failed", "out of memory")
        # Not at once: a load costs much.
        assert Asker(residency, slot).ask().error is not None
        assert resident.loads == 1
        await asyncio.sleep(1)
        again = Asker(residency, slot).ask()
        await again.ended.wait()
        assert again.waited == 1
        assert residency.health(slot).state == "ready"
        await residency.close()

    run(main)


def test_the_queue_is_bounded_in_length_and_time() -> None:
    async def main() -> None:
        residency = Residency(max_waiting=2, max_wait=30)
        slot = add(residency, FakeResident("a", load_time=100))
        waiting = [Asker(residency, slot).ask()]
        await asyncio.sleep(10)
        waiting.append(Asker(residency, slot).ask())
        refused = Asker(residency, slot).ask()
        assert isinstance(refused.error, QueueFull)
        assert refused.error.retry_after
        ends = []
        for asker in waiting:
            await asker.ended.wait()
            assert isinstance(asker.error, Unavailable)
            ends.append(asyncio.get_running_loop().time())
        assert ends == [30, 40]
        await residency.close()

    run(main)


def test_pinned_ones_are_loaded_at_once_and_kept() -> None:
    async def main() -> None:
        residency = Residency(budget=2)
        pinned = add(residency, FakeResident("p", failures=2), keep_alive=1, pinned=True)
        a, b = (add(residency, FakeResident(name), keep_alive=-1) for name in "ab")
        await asyncio.sleep(30)
        assert phase(pinned) == "loaded"
        assert pinned.loads == 1
        for slot in (a, b, a, b):
            await Asker(residency, slot).ask().ended.wait()
        residency.unload(pinned)
        residency.keep(pinned, 0)
        await asyncio.sleep(1)
        assert phase(pinned) == "loaded"
        await residency.close()
        assert phase(pinned) == "cold"

    run(main)


def test_what_can_never_fit_is_refused_at_once() -> None:
    async def main() -> None:
        residency = Residency(budget=10)
        add(residency, FakeResident("p", 4, load_time=0), pinned=True)
        with pytest.raises(ValueError, match="big needs"):
            add(residency, FakeResident("big", 7))
        # Nobody knows what it needs: it gets everything that is left.
        assert add(residency, FakeResident("unknown", 0)).memory == 6
        with pytest.raises(ValueError, match="q needs"):
            add(residency, FakeResident("q", 1), pinned=True)
        await residency.close()

    run(main)


def test_closing_refuses_who_waits_and_ends_a_load() -> None:
    async def main() -> None:
        residency = Residency()
        resident = FakeResident("a", load_time=1000)
        slot = add(residency, resident)
        asker = Asker(residency, slot).ask()
        await asyncio.sleep(1)
        await residency.close()
        assert isinstance(asker.error, Unavailable)
        assert phase(slot) == "cold"
        assert not resident.loaded
        assert isinstance(Asker(residency, slot).ask().error, Unavailable)

    run(main)


def test_what_is_removed_ends_and_makes_room() -> None:
    async def main() -> None:
        residency = Residency(budget=4)
        old, other = add(residency, FakeResident("m", 3)), add(residency, FakeResident("n", 3))
        used = Asker(residency, old, work=100).ask()
        await asyncio.sleep(2)
        waits = Asker(residency, other).ask()
        # One of the same name may be there already.
        new = add(residency, FakeResident("m", 3))
        await residency.remove(other)
        assert waits.error is not None
        assert "no longer served" in waits.error.message
        assert other not in residency.slots
        late = Asker(residency, other).ask()
        assert isinstance(late.error, Unavailable)
        # By force, for who waits no longer.
        removing = asyncio.create_task(residency.remove(old))
        await asyncio.sleep(0)
        asker = Asker(residency, new).ask()
        assert residency.in_use == 3
        await removing
        await asker.ended.wait()
        assert asker.error is None
        await used.ended.wait()
        assert (list(residency.slots), old.users, phase(old)) == ([new], 0, "cold")
        await residency.close()

    run(main)


@pytest.mark.parametrize("pinned", [False, True])
@pytest.mark.parametrize("after", [0.5, 2.0, 30.0])
def test_removed_at_any_time(pinned: bool, after: float) -> None:
    """While it is loaded, when it was, and while a pinned one waits for its next try."""

    async def main() -> None:
        residency = Residency(budget=4)
        failures = 100 if after == 2.0 else 0
        resident = FakeResident("m", 3, failures=failures)
        slot = add(residency, resident, pinned=pinned)
        asker = Asker(residency, slot).ask()
        await asyncio.sleep(after)
        await residency.remove(slot)
        await residency.remove(slot)
        loads = resident.loads
        await asyncio.sleep(100)
        assert asker.ended.is_set()
        assert (resident.loads, resident.loaded, residency.in_use) == (loads, False, 0)
        # All of the memory is there again.
        add(residency, FakeResident("p", 4), pinned=True)
        await residency.close()

    run(main)
