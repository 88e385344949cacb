from __future__ import annotations

import pytest

from trunkline.core.types import LineLimits
from trunkline.text.lines import LineWatch


def watched(text: str, indent: int, size: int) -> str:
    """What is shown of `text`, fed in pieces of `size`; "." behind it where it did not end."""
    watch, shown = LineWatch(LineLimits(indent)), ""
    for at in range(0, len(text), size):
        piece, over = watch.feed(text[at : at + size], 0.0)
        shown += piece
        if over:
            return shown
    return shown + "."


@pytest.mark.parametrize("size", [1, 2, 3, 100])
@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("x\n    y\n  z\n", "x\n    y\n  "),
        ("x\n\t\t\t y\n", "x\n\t\t\t y\n."),
        ("    x\nend", "    x\n"),
        ("x\n\n    y", "x\n"),
        ("x\n  ", "x\n  ."),
        ("no line", "no line."),
    ],
)
def test_an_answer_ends_before_a_line_with_a_smaller_indent(
    text: str, shown: str, size: int
) -> None:
    assert watched(text, 4, size) == shown
    assert watched(text, 0, size) == text + "."


def test_an_answer_ends_with_the_first_line_that_ends_late() -> None:
    watch = LineWatch(LineLimits(seconds=1.0))
    assert watch.feed("a\n", 0.5) == ("a\n", False)
    assert watch.feed("b", 1.5) == ("b", False)
    assert watch.feed("c\n", 1.6) == ("c\n", True)
