"""Text is cut at the first stop string, however it comes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from trunkline.wire.stops import StopCutter

_letters = st.text("ab", max_size=12)


@given(st.lists(st.text("ab", min_size=1, max_size=4), max_size=3), st.lists(_letters, max_size=8))
def test_as_if_it_had_come_whole(stops: list[str], pieces: list[str]) -> None:
    cutter = StopCutter(stops)
    shown = ""
    stopped = None
    for piece in pieces:
        text, stopped = cutter.feed(piece)
        shown += text
        if stopped is not None:
            break
    else:
        shown += cutter.end()
    whole = "".join(pieces)
    ends = [whole.find(stop) + len(stop) for stop in stops if stop in whole]
    if stopped is None:
        assert not ends
        assert shown == whole
    else:
        assert whole.startswith(shown + stopped)
        assert not any(stop in shown for stop in stops)


def test_the_longest_of_those_that_begin_at_one_place() -> None:
    assert StopCutter(("ab", "abc")).feed("xabcd") == ("x", "abc")


def test_without_stops_nothing_is_held() -> None:
    assert StopCutter(()).feed("abc") == ("abc", None)
