"""Averages over answers; both kinds of a tally come to the same numbers, to the last bit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.gateway.tally import PureTally, Tally

COUNTS = ["in_flight", "requests", "successes", "cancelled", "prompt_tokens", "completion_tokens"]
AVERAGES = ["measured_at", "ttft", "per_token", "duration", "parallel", "size"]
SUMS = ["ttft_seconds", "answer_seconds"]

kinds = pytest.mark.parametrize("kind", twins(PureTally))


def state(tally: Tally) -> dict[str, float]:
    return {name: getattr(tally, name) for name in (*COUNTS, *AVERAGES, *SUMS)}


@kinds
def test_all_begins_at_zero(kind: type[Tally]) -> None:
    tally = kind()
    assert set(state(tally).values()) == {0}
    assert all(isinstance(getattr(tally, name), int) for name in COUNTS)
    assert all(isinstance(getattr(tally, name), float) for name in (*AVERAGES, *SUMS))


@kinds
def test_the_first_answer_counts_whole_the_next_ones_less(kind: type[Tally]) -> None:
    tally = kind()
    for _ in range(3):
        tally.sent()
    assert tally.answered(13.0, 10.0, 11.0, 5, 3) == 8
    assert (tally.ttft, tally.duration, tally.per_token) == (1.0, 3.0, 1.0)
    assert (tally.parallel, tally.size, tally.measured_at) == (3.0, 8.0, 13.0)
    tally.answered(25.0, 20.0, 22.0, 10, 1)
    assert tally.ttft == pytest.approx(1.15)
    assert tally.per_token == 1.0
    assert (tally.in_flight, tally.requests, tally.successes) == (1, 3, 2)
    assert (tally.prompt_tokens, tally.completion_tokens) == (15, 4)
    assert (tally.ttft_seconds, tally.answer_seconds) == (3.0, 8.0)


@kinds
def test_what_another_server_tells_has_bounds(kind: type[Tally]) -> None:
    tally = kind()
    assert tally.answered(1.0, 0.0, 0.5, 10**40, -(10**40)) == 1 << 40
    assert tally.answered(1.0, 0.0, 0.5, -5, 3) == 3
    assert tally.prompt_tokens == 1 << 40
    assert tally.completion_tokens == 3


@kinds
def test_what_is_counted_can_be_set_and_a_subclass_has_more(kind: type[Tally]) -> None:
    class More(kind):  # type: ignore[misc, valid-type]
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

    more = More("it")
    more.in_flight -= 1
    more.cancelled += 2
    more.ttft = 1.5
    assert (more.name, more.in_flight, more.cancelled, more.ttft) == ("it", -1, 2, 1.5)


times = st.floats(0, 1e9)


@given(
    st.lists(
        st.tuples(st.booleans(), times, times, times, st.integers(0, 10**6), st.integers(0, 10**6))
    )
)
def test_both_come_to_the_same(steps: list[tuple[bool, float, float, float, int, int]]) -> None:
    tallies = (PureTally(), Tally())
    for sends, *answer in steps:
        for tally in tallies:
            if sends:
                tally.sent()
            tally.answered(*answer)  # type: ignore[arg-type]
        assert state(tallies[0]) == state(tallies[1])
