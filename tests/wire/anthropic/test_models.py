from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ModelCard
from trunkline.wire.anthropic.models import render_model, render_models

CARD = ModelCard("caboose", 4096)
NAMES = [f"model-{number:02}" for number in range(25)]


def page(query: str, names: list[str] = NAMES) -> Any:
    return json.loads(render_models([(name, CARD) for name in names], query))


@pytest.mark.parametrize(
    ("query", "expected", "more"),
    [
        ("", NAMES[:20], True),
        ("limit=1000", NAMES, False),
        ("limit=2", NAMES[:2], True),
        ("limit=25", NAMES, False),
        ("after_id=model-19", NAMES[20:], False),
        ("after_id=model-24", [], False),
        ("after_id=model-03&limit=3", NAMES[4:7], True),
        ("before_id=model-03&limit=2", NAMES[1:3], True),
        ("before_id=model-03", NAMES[:3], False),
        ("before_id=model-00", [], False),
        ("beta=true&limit=2", NAMES[:2], True),
    ],
)
def test_pages(query: str, expected: list[str], more: bool) -> None:
    found = page(query)
    assert [model["id"] for model in found["data"]] == expected
    assert found["has_more"] is more
    assert found["first_id"] == (expected[0] if expected else None)
    assert found["last_id"] == (expected[-1] if expected else None)


def test_names_in_queries_are_decoded() -> None:
    assert page("after_id=a%2Fb%3A1", ["a/b:1", "c"])["first_id"] == "c"


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "limit=٣", "after_id=none"])
def test_what_makes_no_sense(query: str) -> None:
    with pytest.raises(InvalidRequest, match=query.partition("=")[0]):
        page(query)


def test_one_model() -> None:
    one = json.loads(render_model("caboose", CARD))
    assert one == page("", ["caboose"])["data"][0]
    assert one["created_at"] == "1970-01-01T00:00:00Z"
    assert json.loads(render_model("x", ModelCard("x", 0)))["max_tokens"] is None
