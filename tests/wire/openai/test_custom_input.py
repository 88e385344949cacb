from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.wire.openai.custom_input import CustomInput


def fed(pieces: list[str]) -> tuple[list[str], str]:
    """What is shown piece by piece, the rest last; and the whole."""
    custom = CustomInput()
    shown = [custom.feed(piece) for piece in pieces]
    rest, whole = custom.end()
    return [*shown, rest], whole


@given(
    st.text(),
    st.booleans(),
    st.sampled_from(['{"input":', ' {\n "input" : ']),
    st.lists(st.integers(1, 7), min_size=1),
)
def test_the_text_comes_as_it_is_written(
    text: str, ascii_only: bool, before: str, cuts: list[int]
) -> None:
    sent = before + json.dumps(text, ensure_ascii=ascii_only) + "}"
    pieces: list[str] = []
    at = 0
    while at < len(sent):
        size = cuts[len(pieces) % len(cuts)]
        pieces.append(sent[at : at + size])
        at += size
    shown, whole = fed(pieces)
    assert whole == "".join(shown) == text
    # Nothing is kept for the end.
    assert shown[-1] == ""


def test_no_piece_is_waited_for() -> None:
    shown, _ = fed(['{"inp', 'ut": "a', "b\\", "n", "\\ud83d", "\\ude82", 'c"', "}"])
    assert shown == ["", "a", "b", "\n", "", "🚂", "c", "", ""]


@pytest.mark.parametrize(
    ("sent", "whole"),
    [
        # Other forms than the one that is asked for.
        ('{"note": 1, "input": "a"}', "a"),
        ("*** Begin Patch", "*** Begin Patch"),
        ('{"output": "a"}', '{"output": "a"}'),
        ("", ""),
        # Line ends as they are.
        ('{"input": "a\nb"}', "a\nb"),
        # Cut off, or broken.
        ('{"input": "a\\', "a\\"),
        ('{"input": "a\\ud83d b"}', 'a\\ud83d b"}'),
    ],
)
def test_what_keeps_to_no_form_comes_too(sent: str, whole: str) -> None:
    for pieces in ([sent], list(sent)):
        shown, found = fed(pieces)
        assert "".join(shown) == found == whole
