from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.text.stop import StopMatcher, StopStrings

_letters = st.text("abc", max_size=30)
_stops = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=5)


def naive(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The stop string that is complete first, of those the longest."""
    for end in range(1, len(text) + 1):
        found = [stop for stop in stops if text[:end].endswith(stop)]
        if found:
            stop = max(found, key=len)
            return (text[:end] if include else text[: end - len(stop)]), stop
    return text, None


def held_back(text: str, stops: list[str]) -> int:
    """Length of the longest end of `text` that may become a stop string."""
    return max(
        n for n in range(len(text) + 1) if any(s.startswith(text[len(text) - n :]) for s in stops)
    )


@given(st.lists(_letters, max_size=6), _stops, st.booleans())
def test_like_the_naive_search(parts: list[str], stops: list[str], include: bool) -> None:
    matcher = StopMatcher(StopStrings(stops), include_stop=include)
    expected, stop = naive("".join(parts), stops, include)
    shown, fed = "", ""
    for part in parts:
        fed += part
        text, found = matcher.feed(part)
        shown += text
        if found is not None:
            assert (shown, found) == (expected, stop)
            return
        # Held back is what must be, and no more.
        assert shown == fed[: len(fed) - held_back(fed, stops)]
    assert (shown + matcher.finish(), None) == (expected, stop)


@pytest.mark.parametrize(
    ("parts", "shown"),
    [
        (["one EN", "D two"], ["one ", ""]),
        (["one EN", "EN", "x"], ["one ", "EN", "ENx"]),
        (["E", "E", "E"], ["", "E", "E"]),
        (["abc"], ["abc"]),
    ],
)
def test_straddling(parts: list[str], shown: list[str]) -> None:
    matcher = StopMatcher(StopStrings(["END"]))
    assert [matcher.feed(part).text for part in parts] == shown


def test_same_end_the_longest_wins() -> None:
    assert StopMatcher(StopStrings(["c", "bc"])).feed("abcd") == ("a", "bc")


def test_include_stop() -> None:
    matcher = StopMatcher(StopStrings(["END"]), include_stop=True)
    assert matcher.feed("a E") == ("a ", None)
    assert matcher.feed("ND b") == ("END", "END")


def test_empty_string_is_refused_and_none_is_free() -> None:
    with pytest.raises(ValueError):
        StopStrings(["a", ""])
    assert StopMatcher(StopStrings([])).feed("anything") == ("anything", None)


def test_characters_that_mean_something_to_regular_expressions() -> None:
    for character in "]^-\\[.&~|":
        assert StopMatcher(StopStrings([character])).feed(f"x{character}") == ("x", character)


def test_linear_time() -> None:
    """The worst case of naive searches: long strings of one letter, in many sizes."""
    strings = StopStrings(["a" * size + "b" for size in range(100, 2000, 100)])
    matcher = StopMatcher(strings)
    begun = time.process_time()
    shown = sum(len(matcher.feed("a").text) for _ in range(100_000))
    assert shown == 100_000 - 1900
    assert time.process_time() - begun < 5
