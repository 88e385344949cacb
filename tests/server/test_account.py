"""Where calls that pass are counted: as endpoint and metrics would, one by one."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core import speedups
from trunkline.core.metrics import Counter, Histogram, PureCounter, PureHistogram
from trunkline.gateway.tally import PureTally, Tally
from trunkline.gateway.window import PureWindow, Window
from trunkline.server.account import PureAccount

native: Any = speedups.native
KINDS: list[Any] = [
    pytest.param((PureAccount, PureTally, PureWindow, PureHistogram, PureCounter), id="python")
]
if native is not None:
    names = ("Account", "Tally", "Window", "Histogram", "Counter")
    KINDS.append(pytest.param(tuple(getattr(native, name) for name in names), id="native"))

kinds = pytest.mark.parametrize("kind", KINDS)
BOUNDS = (0.5, 1.0)


def parts(kind: tuple[Any, ...], *, shared: bool) -> list[Any]:
    _, tally, window, histogram, counter = kind
    requests = window(60.0)
    tries = requests if shared else window(10.0)
    found = [tally(), requests, tries, window(60.0), histogram(BOUNDS), histogram(BOUNDS)]
    return [*found, counter(), counter()]


def seen(now: float, found: list[Any]) -> list[Any]:
    """All that the parts say."""
    tally, requests, tries, tokens, ttft, e2e, prompt, made = found
    fields = vars(PureTally())
    return [
        [getattr(tally, name) for name in fields],
        [window.sum(now) for window in (requests, tries, tokens)],
        [(one.sum, one.counts) for one in (ttft, e2e)],
        [prompt.value, made.value],
    ]


@kinds
@pytest.mark.parametrize("shared", [True, False])
def test_a_call_is_counted_once(kind: tuple[Any, ...], shared: bool) -> None:
    found = parts(kind, shared=shared)
    account = kind[0](*found)
    account.began(100.0)
    assert found[0].in_flight == 1
    assert account.passed(101.0, 100.0, 1.5, 7, 3) == (7, 3)
    tally = found[0]
    assert (tally.in_flight, tally.requests, tally.successes) == (0, 1, 1)
    assert (tally.prompt_tokens, tally.completion_tokens, tally.ttft) == (7, 3, 1.0)
    rest = seen(101.0, found)[1:]
    assert rest == [[1, 1, 10], [(1.5, (0, 0, 1))] * 2, [7.0, 3.0]]


@pytest.mark.skipif(native is None, reason="the speedups are not built")
@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.floats(0, 100),
            st.floats(0, 50),
            st.integers(-5, 1 << 70),
            st.integers(-5, 1 << 70),
        ),
        max_size=20,
    ),
)
def test_both_count_the_same(shared: bool, calls: list[tuple[float, float, int, int]]) -> None:
    ways = [(kind.values[0], parts(kind.values[0], shared=shared)) for kind in KINDS]
    accounts = [kind[0](*found) for kind, found in ways]
    now = 1000.0
    for pause, took, prompt, made in calls:
        now += pause
        told = []
        for account in accounts:
            account.began(now)
            told.append(account.passed(now + took, now, took, prompt, made))
        assert told[0] == told[1]
    (one, other) = (seen(now + 50, found) for _, found in ways)
    assert one == other


@pytest.mark.skipif(native is None, reason="the speedups are not built")
def test_it_counts_in_parts_of_its_own_kind() -> None:
    good = parts(KINDS[1].values[0], shared=True)
    for at in range(len(good)):
        wrong = [*good[:at], object(), *good[at + 1 :]]
        with pytest.raises(TypeError):
            native.Account(*wrong)
    with pytest.raises(TypeError):
        native.Account(*good[:-1])
    account = native.Account(*good)
    for call in (("x",), (1.0, 1.0), (1.0, 1.0, "x", 1, 1), (1.0, 1.0, 1.0, "x", 1)):
        with pytest.raises(TypeError):
            account.passed(*call)
    with pytest.raises(TypeError):
        account.began(None)
    assert good[0].requests == 0


class Ringed(Tally):
    """Can be in a ring."""

    account: Any


def test_a_ring_through_an_account_is_collected() -> None:
    tally = Ringed()
    windows = (Window(60.0), Window(60.0), Window(60.0))
    metrics = (Histogram(BOUNDS), Histogram(BOUNDS), Counter(), Counter())
    kind: Any = PureAccount if native is None else native.Account
    tally.account = kind(tally, *windows, *metrics)
    gone = weakref.ref(tally)
    del tally
    gc.collect()
    assert gone() is None
