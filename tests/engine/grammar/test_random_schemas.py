"""Whatever the masks let through, once complete, is JSON that validates."""

from __future__ import annotations

import json
import random
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from tests.engine.grammar.follow import walk
from trunkline.core.types import Grammar

_LEAVES: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "string", "minLength": 1, "maxLength": 4},
    {"type": "string", "pattern": "^[a-f]{1,3}(-[0-9])?$"},
    {"type": "string", "format": "date"},
    {"type": "string", "format": "ipv4"},
    {"enum": ["red", "rot", 3, None, True, {"a": []}]},
    {"const": 'quo"te\n'},
    {"type": "integer", "minimum": -3, "maximum": 120},
    {"type": "integer", "multipleOf": 7, "minimum": 0},
    {"type": "number", "exclusiveMinimum": 0, "maximum": 2.5},
    {"type": ["boolean", "null"]},
    {"$ref": "#/$defs/shared"},
)
_SHARED = {
    "type": "object",
    "properties": {"id": {"type": "integer"}},
    "required": ["id"],
    "additionalProperties": False,
}


def random_schema(choose: random.Random, depth: int) -> dict[str, Any]:
    kind = choose.choice(("leaf", "object", "array", "any")) if depth else "leaf"
    if kind == "leaf":
        return choose.choice(_LEAVES)
    if kind == "array":
        least = choose.randint(0, 2)
        return {
            "type": "array",
            "items": random_schema(choose, depth - 1),
            "minItems": least,
            "maxItems": least + choose.randint(0, 3),
        }
    if kind == "any":
        return {"anyOf": [random_schema(choose, depth - 1) for _ in range(choose.randint(1, 3))]}
    names = choose.sample(["a", "b", "long name", "ü", 'q"'], choose.randint(0, 4))
    return {
        "type": "object",
        "properties": {name: random_schema(choose, depth - 1) for name in names},
        "required": [name for name in names if choose.random() < 0.6],
        "additionalProperties": choose.choice([False, {"type": "integer"}]),
    }


@pytest.mark.parametrize("seed", range(60))
def test_a_random_walk_is_valid(seed: int) -> None:
    schema = {"$defs": {"shared": _SHARED}, **random_schema(random.Random(seed), 3)}
    text = walk(Grammar("json_schema", json.dumps(schema)), seed)
    assert text is not None
    value = json.loads(text)
    jsonschema.Draft202012Validator(
        schema, format_checker=jsonschema.FormatChecker(["date", "ipv4"])
    ).validate(value)


@pytest.mark.parametrize("seed", range(8))
def test_any_json_object_is_valid(seed: int) -> None:
    text = walk(Grammar("json_object"), seed)
    assert text is not None
    assert isinstance(json.loads(text), dict)
