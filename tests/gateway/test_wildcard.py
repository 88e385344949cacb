"""Names with a `*`."""

from __future__ import annotations

import pytest

from trunkline.gateway.wildcard import fill, match, most_specific


@pytest.mark.parametrize(
    ("pattern", "name", "matched"),
    [
        ("openai/*", "openai/gpt-4o", "gpt-4o"),
        ("openai/*", "openai/", ""),
        ("openai/*", "anthropic/x", None),
        ("*", "anything", "anything"),
        ("*-mini", "gpt-mini", "gpt"),
        ("a*a", "a", None),
        ("a*a", "aa", ""),
        ("gpt-4o", "gpt-4o", None),
    ],
)
def test_what_a_star_stands_for(pattern: str, name: str, matched: str | None) -> None:
    assert match(pattern, name) == matched


def test_the_model_takes_what_it_stood_for() -> None:
    assert fill("org/*", "a*b") == "org/a*b"
    assert fill("fixed", "x") == "fixed"


def test_the_longest_pattern_is_tried_first() -> None:
    assert most_specific(["*", "openai/*", "openai/gpt-*"]) == ["openai/gpt-*", "openai/*", "*"]
