"""Calls of a stream that tells where each begins and ends: whatever the order of the pieces, the
core gets one call after the other, and none waits that need not."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.speaking import asking
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import ToolCallDelta
from trunkline.wire.calls import Calls

# What a call says, in pieces, and whether its end is told.
Told = tuple[list[str], bool]

_OBJECTS = st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=2).map(json.dumps)


@st.composite
def _calls(draw: st.DrawFn) -> list[Told]:
    found: list[Told] = []
    for _ in range(draw(st.integers(1, 4))):
        text = draw(st.one_of(_OBJECTS, st.sampled_from(["", "{}", '{"cut', "[1]", '{"a":"}"'])))
        cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=3)))
        bounds = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in itertools.pairwise(bounds)]
        found.append((pieces, draw(st.booleans())))
    return found


@given(_calls(), st.data())
def test_whatever_the_order_calls_come_one_after_the_other(
    told: list[Told], data: st.DataObject
) -> None:
    calls = Calls(asking())
    found: list[ToolCallDelta] = []
    # Of each call that has begun, what is still to be said; they begin in order.
    left: dict[int, list[str | None]] = {}
    while len(left) < len(told) or any(left.values()):
        at = data.draw(
            st.sampled_from([n for n in left if left[n]] + [len(left)][: len(told) - len(left)])
        )
        if at == len(left):
            pieces, ends = told[at]
            left[at] = [*pieces, *([None] if ends else [])]
            # Numbers are the stream's own.
            found += calls.begin(at * 2 + 1, f"id{at}", f"name{at}", "")
            continue
        piece = left[at].pop(0)
        found += calls.end(at * 2 + 1) if piece is None else calls.more(at * 2 + 1, piece)
    found += calls.rest()
    assert _joined(found) == [
        (f"id{at}", f"name{at}", "".join(pieces) or "{}") for at, (pieces, _) in enumerate(told)
    ]


def _joined(deltas: Sequence[ToolCallDelta]) -> list[tuple[str | None, str | None, str]]:
    """Asserts that no call goes on once the next has begun."""
    found: list[tuple[str | None, str | None, str]] = []
    for one in deltas:
        if one.name is not None:
            assert one.index == len(found)
            found.append((one.id, one.name, one.arguments))
        else:
            assert one.index == len(found) - 1
            found[-1] = (*found[-1][:2], found[-1][2] + one.arguments)
    return found


def test_calls_in_turn_do_not_wait() -> None:
    calls = Calls(asking())
    assert _shown(calls.begin(0, "a", "f", "")) == [(0, "")]
    assert _shown(calls.more(0, '{"x')) == [(0, '{"x')]
    assert _shown(calls.end(0)) == []
    assert _shown(calls.begin(1, "b", "g", "")) == [(1, "")]
    assert _shown(calls.end(1)) == [(1, "{}")]
    # The same number, once more.
    assert _shown(calls.begin(1, "c", "h", "{")) == [(2, "{")]
    assert _shown(calls.begin(1, "d", "i", "")) == [(3, "")]
    assert _shown(calls.rest()) == [(3, "{}")]
    assert _shown(calls.rest()) == []


def _shown(deltas: Sequence[ToolCallDelta]) -> list[tuple[int, str]]:
    return [(one.index, one.arguments) for one in deltas]


def test_a_later_call_waits_for_the_end_of_the_earlier() -> None:
    calls = Calls(asking())
    calls.begin(3, "a", "f", "")
    assert _shown(calls.begin(5, "b", "g", "")) == []
    assert _shown(calls.more(5, "{}")) == []
    assert _shown(calls.end(5)) == []
    assert _shown(calls.more(3, '{"cut')) == [(0, '{"cut')]
    assert _shown(calls.end(3)) == [(1, "{}")]


def test_pieces_of_no_call_and_too_many_that_wait() -> None:
    calls = Calls(asking())
    calls.begin(0, "z", "e", "{}")
    calls.end(0)
    with pytest.raises(UpstreamFailed, match="not open"):
        calls.more(0, "{}")
    calls.begin(0, "a", "f", "")
    calls.begin(1, "b", "g", "")
    with pytest.raises(UpstreamFailed, match="too long"):
        calls.more(1, "x" * (17 << 20))
