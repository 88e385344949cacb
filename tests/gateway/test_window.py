from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.gateway.window import PureWindow, Window

kinds = pytest.mark.parametrize("kind", twins(PureWindow))


@kinds
def test_what_is_old_is_forgotten(kind: type[Window]) -> None:
    window = kind(60.0)
    window.add(1000.0, 5)
    assert window.sum(1059.9) == 5
    assert window.sum(1062.1) == 0
    assert window.free_in(1062.1) == 0


@kinds
@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5)), max_size=60),
    st.sampled_from([1.0, 10.0, 60.0]),
)
def test_the_sum_is_never_too_small_and_never_a_slot_too_old(
    kind: type[Window], steps: list[tuple[float, int]], seconds: float
) -> None:
    window = kind(seconds, slots=10)
    now, seen = 1000.0, []
    for pause, amount in steps:
        now += pause
        window.add(now, amount)
        seen.append((now, amount))
        exact = sum(one for at, one in seen if at > now - seconds)
        longer = sum(one for at, one in seen if at > now - seconds * 1.1 - 1e-6)
        assert exact <= window.sum(now) <= longer


@kinds
def test_free_in_tells_when_the_oldest_leaves(kind: type[Window]) -> None:
    window = kind(60.0, slots=10)
    window.add(1000.0, 3)
    window.add(1030.0, 4)
    wait = window.free_in(1030.0)
    assert window.sum(1030.0 + wait - 0.01) == 7
    assert window.sum(1030.0 + wait + 0.01) == 4


@kinds
def test_a_window_has_a_size(kind: type[Window]) -> None:
    for wrong in ((0.0, 5), (-1.0, 5), (float("nan"), 5), (1.0, 0), (1.0, -1), (1.0, 1 << 40)):
        with pytest.raises(ValueError, match="slots"):
            kind(*wrong)


@kinds
def test_a_time_that_is_none_is_refused(kind: type[Window]) -> None:
    window = kind(60.0)
    with pytest.raises(OverflowError):
        window.add(float("inf"))
    window.add(float("nan"), 2)
    window.add(1e6)
    assert window.sum(1e6) == window.total == 1


@given(
    st.lists(st.tuples(st.floats(-5, 30), st.integers(-5, 1 << 40), st.booleans()), max_size=60),
    st.sampled_from([0.3, 1.0, 60.0]),
    st.integers(1, 40),
    st.floats(-100, 1e6),
)
def test_both_come_to_the_same(
    steps: list[tuple[float, int, bool]], seconds: float, slots: int, now: float
) -> None:
    pure, other = PureWindow(seconds, slots), Window(seconds, slots)
    for pause, amount, adds in steps:
        now += pause
        for window in (pure, other):
            if adds:
                window.add(now, amount)
        assert pure.free_in(now) == other.free_in(now)
        assert pure.sum(now) == other.sum(now)
        assert pure.total == other.total
