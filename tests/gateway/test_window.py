from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from trunkline.gateway.window import Window


def test_what_is_old_is_forgotten() -> None:
    window = Window(60.0)
    window.add(1000.0, 5)
    assert window.sum(1059.9) == 5
    assert window.sum(1062.1) == 0
    assert window.free_in(1062.1) == 0


@settings(max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 5)), max_size=60),
    st.sampled_from([1.0, 10.0, 60.0]),
)
def test_the_sum_is_never_too_small_and_never_a_slot_too_old(
    steps: list[tuple[float, int]], seconds: float
) -> None:
    window = Window(seconds, slots=10)
    now, seen = 1000.0, []
    for pause, amount in steps:
        now += pause
        window.add(now, amount)
        seen.append((now, amount))
        exact = sum(one for at, one in seen if at > now - seconds)
        longer = sum(one for at, one in seen if at > now - seconds * 1.1 - 1e-6)
        assert exact <= window.sum(now) <= longer


def test_free_in_tells_when_the_oldest_leaves() -> None:
    window = Window(60.0, slots=10)
    window.add(1000.0, 3)
    window.add(1030.0, 4)
    wait = window.free_in(1030.0)
    assert window.sum(1030.0 + wait - 0.01) == 7
    assert window.sum(1030.0 + wait + 0.01) == 4
