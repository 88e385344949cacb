"""Names with a `*`."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.gateway.wildcard import fill, match, most_specific


@pytest.mark.parametrize(
    ("pattern", "name", "matched"),
    [
        ("openai/*", "openai/gpt-4o", ("gpt-4o",)),
        ("openai/*", "openai/", ("",)),
        ("openai/*", "anthropic/x", None),
        ("*", "anything", ("anything",)),
        ("*-mini", "gpt-mini", ("gpt",)),
        ("a*a", "a", None),
        ("a*a", "aa", ("",)),
        ("gpt-4o", "gpt-4o", None),
        ("*/*", "openai/gpt", ("openai", "gpt")),
        ("my-*-x-*", "my-a-x-b", ("a", "b")),
        ("my-*-x-*", "my-a-x-b-x-c", ("a-x-b", "c")),
        ("my-*-x-*", "my-ab", None),
        ("a*b*a", "aba", ("", "")),
        ("a*b*a", "ab", None),
        ("a**", "abc", ("bc", "")),
    ],
)
def test_what_a_star_stands_for(pattern: str, name: str, matched: tuple[str, ...] | None) -> None:
    assert match(pattern, name) == matched


@given(st.text("ab*", max_size=6), st.text("ab", max_size=9))
def test_stars_are_greedy_as_a_regular_expression_is(pattern: str, name: str) -> None:
    found = (
        re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), name) if "*" in pattern else None
    )
    assert match(pattern, name) == (None if found is None else found.groups())


def test_a_long_name_costs_little() -> None:
    assert match("*a" * 20 + "b", "a" * 512) is None


@pytest.mark.parametrize(
    ("model", "matched", "filled"),
    [
        ("org/*", ("a*b",), "org/a*b"),
        ("fixed", ("x",), "fixed"),
        ("fixed", ("x", "y"), "fixed"),
        ("a-*-b-*", ("x", "y"), "a-x-b-y"),
        ("a-*-b-*", ("*", "y"), "a-*-b-y"),
        ("a-*-b-*", ("x",), "a-x-b-*"),
        ("a-*", ("x", "y"), "the/name"),
    ],
)
def test_the_model_takes_what_each_stood_for(
    model: str, matched: tuple[str, ...], filled: str
) -> None:
    assert fill(model, matched, "the/name") == filled


def test_the_longest_pattern_is_tried_first() -> None:
    assert most_specific(["*", "openai/*", "openai/gpt-*"]) == ["openai/gpt-*", "openai/*", "*"]
