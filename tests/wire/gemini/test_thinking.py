"""thinkingConfig by model, after ai.google.dev/gemini-api/docs/thinking and .../openai
(read 2026-11-22)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.speaking import asking, body, chat, terms
from trunkline.wire.gemini.client import GENERATE

THOUGHTS = {"includeThoughts": True}


def told(model: str, **variables: Any) -> tuple[Any, tuple[str, ...]]:
    """What is sent, None for nothing; and what is left out."""
    request = asking(chat("x", template_kwargs=variables))
    outgoing = GENERATE.encode(request, terms(model=model))
    return body(outgoing).get("generationConfig", {}).get("thinkingConfig"), outgoing.dropped


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("gemini-2.5-pro", THOUGHTS),
        ("gemini-2.5-flash-preview-09-2025", THOUGHTS),
        ("models/gemini-3-pro-preview", THOUGHTS),
        ("gemini-3.8-flash", THOUGHTS),
        ("gemini-4-argon", THOUGHTS),
        ("gemini-flash-latest", THOUGHTS),
        # Off by default there, and thoughts without thinking are an error.
        ("gemini-2.5-flash-lite", None),
        ("gemini-2.0-flash", None),
        ("gemini-2.5-flash-image", None),
        ("gemini-3-pro-image-preview", None),
        ("gemma-3-27b-it", None),
        ("some-tuned-model", None),
    ],
)
def test_nothing_asked(model: str, expected: Any) -> None:
    assert told(model) == (expected, ())


@pytest.mark.parametrize(
    ("model", "efforts"),
    [
        (
            "gemini-2.5-pro",
            {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576, "xhigh": 32768},
        ),
        ("gemini-2.5-flash", {"low": 1024, "medium": 8192, "high": 24576, "max": 24576}),
        ("google/gemini-2.5-flash-lite", {"minimal": 1024, "high": 24576, "xhigh": 24576}),
        ("gemini-3-pro-preview", {"minimal": "LOW", "low": "LOW", "medium": "HIGH", "max": "HIGH"}),
        ("gemini-3.1-pro-preview", {"minimal": "LOW", "medium": "MEDIUM", "high": "HIGH"}),
        ("gemini-3-flash-preview", {"minimal": "MINIMAL", "medium": "MEDIUM", "xhigh": "HIGH"}),
        ("gemini-3.1-flash-lite", {"minimal": "MINIMAL", "low": "LOW"}),
        ("gemini-3.7-flash", {"minimal": "LOW", "high": "HIGH"}),
        ("gemini-4-argon", {"minimal": "LOW", "medium": "MEDIUM", "max": "HIGH"}),
        ("gemma-4-31b-it", {"high": "HIGH"}),
    ],
)
def test_words_of_effort(model: str, efforts: dict[str, int | str]) -> None:
    for effort, expected in efforts.items():
        field = "thinkingBudget" if isinstance(expected, int) else "thinkingLevel"
        assert told(model, reasoning_effort=effort) == (THOUGHTS | {field: expected}, ())


@pytest.mark.parametrize("off", [{"enable_thinking": False}, {"reasoning_effort": "none"}])
@pytest.mark.parametrize(
    ("model", "expected", "dropped"),
    [
        ("gemini-2.5-flash", {"thinkingBudget": 0}, ()),
        ("gemini-2.5-flash-lite", {"thinkingBudget": 0}, ()),
        ("gemini-2.0-flash", None, ()),
        # None of these can be turned off: the least that there is, and the client hears of it.
        ("gemini-2.5-pro", {"thinkingBudget": 128}, ("reasoning_effort",)),
        ("gemini-3.1-pro-preview", {"thinkingLevel": "LOW"}, ("reasoning_effort",)),
        ("gemini-3-flash-preview", {"thinkingLevel": "MINIMAL"}, ("reasoning_effort",)),
        ("gemini-4-argon", {"thinkingLevel": "LOW"}, ("reasoning_effort",)),
        ("some-tuned-model", None, ("reasoning_effort",)),
    ],
)
def test_off(model: str, off: dict[str, Any], expected: Any, dropped: tuple[str, ...]) -> None:
    assert told(model, **off) == (expected, dropped)


@pytest.mark.parametrize(
    ("model", "budget", "expected", "dropped"),
    [
        ("gemini-2.5-pro", 2000, {"thinkingBudget": 2000}, ()),
        ("gemini-2.5-pro", 64, {"thinkingBudget": 128}, ("thinking_budget",)),
        ("gemini-2.5-flash", 64, {"thinkingBudget": 64}, ()),
        # As much as there is; less than half of what was asked for is not.
        ("gemini-2.5-flash", 31999, {"thinkingBudget": 24576}, ()),
        ("gemini-2.5-flash", 49152, {"thinkingBudget": 24576}, ()),
        ("gemini-2.5-flash", 49153, {"thinkingBudget": 24576}, ("thinking_budget",)),
        ("gemini-2.5-flash-lite", 1024, {"thinkingBudget": 1024}, ()),
        ("gemini-2.5-flash-lite", -1, {"thinkingBudget": -1}, ()),
        ("gemini-3.1-pro-preview", 1024, {"thinkingLevel": "LOW"}, ()),
        ("gemini-3.1-pro-preview", 8000, {"thinkingLevel": "MEDIUM"}, ()),
        ("gemini-3-pro-preview", 8000, {"thinkingLevel": "HIGH"}, ()),
        ("gemini-4-argon", 31999, {"thinkingLevel": "HIGH"}, ()),
        ("gemini-4-argon", 1 << 40, {"thinkingLevel": "HIGH"}, ()),
    ],
)
def test_budgets(model: str, budget: int, expected: Any, dropped: tuple[str, ...]) -> None:
    found = told(model, enable_thinking=True, thinking_budget=budget)
    assert found == (THOUGHTS | expected, dropped)


def test_on() -> None:
    assert told("gemini-2.5-flash", enable_thinking=True) == (THOUGHTS, ())
    assert told("gemini-3.8-flash", enable_thinking=True) == (THOUGHTS, ())
    lite = told("gemini-2.5-flash-lite", enable_thinking=True)
    assert lite == (THOUGHTS | {"thinkingBudget": -1}, ())


def test_what_nobody_can_do_is_told() -> None:
    assert told("gemini-2.0-flash", reasoning_effort="high") == (None, ("reasoning_effort",))
    assert told("gemini-2.0-flash", thinking_budget=1024) == (None, ("thinking_budget",))
    assert told("some-tuned-model", enable_thinking=True) == (None, ("reasoning_effort",))
    # A word that nobody knows.
    assert told("gemini-2.5-pro", reasoning_effort="vast") == (THOUGHTS, ("reasoning_effort",))
    assert told("gemini-3.8-flash", reasoning_effort="vast") == (THOUGHTS, ("reasoning_effort",))
