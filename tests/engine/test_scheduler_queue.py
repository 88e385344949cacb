"""The queue and the followers, without a scheduler around them."""

from __future__ import annotations

import numpy as np

from tests.engine.fakes import greedy
from trunkline.engine.followers import Followers
from trunkline.engine.frames import AddGroup
from trunkline.engine.group import Entry, Group
from trunkline.engine.queueing import FairQueue


def entry(number: int, *, priority: int = 0, tenant: str = "", length: int = 4) -> Entry:
    """A group of one row, in order of `number`; prompts are alike but for their length."""
    prompt = np.zeros(length, "<i4").tobytes()
    request = AddGroup(number, prompt, 1, greedy(), priority, tenant, b"", 0.0)
    return Entry(list(Group(request, number, 4096, frozenset(), shared=True).rows))


def drain(queue: FairQueue, cost: int = 10) -> list[int]:
    """Numbers in the order of their turn; each is charged `cost` tokens."""
    order: list[int] = []
    while (first := queue.peek()) is not None:
        queue.remove(first)
        queue.charge(first.group.tenant, cost, 0)
        order.append(first.group.number)
    return order


def test_priority_then_arrival() -> None:
    queue = FairQueue()
    for number, priority in enumerate([1, 0, 1, -3, 0]):
        queue.push(entry(number, priority=priority))
    assert drain(queue) == [3, 1, 4, 0, 2]


def test_a_row_that_comes_back_keeps_its_place() -> None:
    queue = FairQueue()
    for number in (1, 2, 0):
        queue.push(entry(number))
    assert drain(queue) == [0, 1, 2]


def test_tenants_take_turns() -> None:
    queue = FairQueue()
    for number in range(6):
        queue.push(entry(number, tenant="a" if number < 4 else "b"))
    assert drain(queue) == [0, 4, 1, 5, 2, 3]


def test_a_turn_is_as_long_as_what_is_served() -> None:
    queue = FairQueue()
    for number in range(8):
        queue.push(entry(number, tenant="large" if number < 4 else "small"))
    order: list[str] = []
    while (first := queue.peek()) is not None:
        queue.remove(first)
        queue.charge(first.group.tenant, 30 if first.group.tenant == "large" else 10, 0)
        order.append(first.group.tenant)
    assert order[:6].count("small") >= 4


def test_a_newcomer_starts_at_the_lowest_counter() -> None:
    queue = FairQueue()
    queue.push(entry(0, tenant="old"))
    queue.charge("old", 1000, 0)
    for number in range(1, 4):
        queue.push(entry(number, tenant="old"))
    for number in range(4, 7):
        queue.push(entry(number, tenant="new"))
    order = drain(queue)
    # Alternating, not all of the newcomer first.
    assert order == [0, 4, 1, 5, 2, 6, 3]


def test_gone_and_parked_entries_have_no_turn() -> None:
    queue = FairQueue()
    entries = [entry(number) for number in range(3)]
    for one in entries:
        queue.push(one)
    queue.park(entries[0])
    queue.remove(entries[1])
    assert queue.peek() is entries[2]
    assert len(queue) == 2
    queue.unpark(entries[0])
    assert queue.peek() is entries[0]
    queue.remove(entries[2])
    assert drain(queue) == [0]
    assert len(queue) == 0


def test_counters_of_idle_tenants_are_bounded() -> None:
    queue = FairQueue()
    for number in range(10_000):
        queue.push(entry(number, tenant=f"t{number}"))
        drain(queue)
    assert len(queue._served) < 5000


def test_followers_wait_as_far_as_they_share() -> None:
    queue = FairQueue()
    followers = Followers(queue, least=32, page=16)
    leader = entry(0, length=500).rows[0]
    followers.begin(leader)
    near, far = entry(1, length=100), entry(2, length=600)
    for one in (near, far):
        queue.push(one)
        assert followers.hold(one, cached=0)
    assert queue.peek() is None
    # All but the last token, in whole pages.
    followers.reached(leader, 95)
    assert queue.peek() is None
    followers.reached(leader, 96)
    assert queue.peek() is near
    queue.remove(near)
    followers.end(leader)
    assert queue.peek() is far
    assert not followers.hold(far, cached=0)


def test_what_is_cached_or_short_is_not_waited_for() -> None:
    queue = FairQueue()
    followers = Followers(queue, least=32, page=1)
    followers.begin(entry(0, length=500).rows[0])
    one = entry(1, length=100)
    queue.push(one)
    assert not followers.hold(one, cached=90)
    short = entry(2, length=20)
    queue.push(short)
    assert not followers.hold(short, cached=0)
