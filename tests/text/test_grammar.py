"""Each kind of grammar lets out what it should; malformed ones are refused by name."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.engine.grammar.follow import accepts, compiled
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar
from trunkline.text.grammar import MAX_BYTES, MAX_CHOICES, to_llguidance


def schema(value: Any) -> Grammar:
    return Grammar("json_schema", json.dumps(value))


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "v": {"type": "number"},
                "kids": {"type": "array", "items": {"$ref": "#/$defs/node"}},
            },
            "required": ["v", "kids"],
            "additionalProperties": False,
        }
    },
}


@pytest.mark.parametrize(
    ("value", "good", "bad"),
    [
        (PERSON, '{"name": "Ada", "age": 36}', '{"name": "Ada", "age": 151}'),
        (PERSON, '{"name":"Ada","age":36,"tags":["a","b"]}', '{"name":"Ada","age":3,"tags":["c"]}'),
        (PERSON, '{\n  "name": "A",\n  "age": 0\n}', '{"age": 36}'),
        (PERSON, '{"name":"Grace","age":1}', '{"name":"Hopper","age":1}'),
        (PERSON, '{"name":"A","age":1,"tags":[]}', '{"name":"A","age":1,"more":1}'),
        (TREE, '{"v":1,"kids":[{"v":-2.5e1,"kids":[]}]}', '{"v":1,"kids":[{"v":1}]}'),
        ({"anyOf": [{"type": "null"}, {"type": "boolean"}]}, "true", "1"),
        ({"type": ["string", "integer"]}, "12", "1.5"),
        ({"type": "string", "pattern": "^[a-z]{2}\\d$"}, '"ab1"', '"ab٣"'),
        ({"type": "string", "format": "date"}, '"2026-02-28"', '"2026-13-01"'),
        ({"type": "string", "format": "uuid"}, f'"{"0" * 8}-0000-4000-8000-{"0" * 12}"', '"x"'),
        ({"const": {"a": [1, "é"]}}, '{"a": [1, "é"]}', '{"a": [1]}'),
        ({"enum": ["x # y // z", 3, None]}, '"x # y // z"', '"x "'),
        ({"type": "object", "additionalProperties": {"type": "integer"}}, '{"q": 1}', '{"q": ""}'),
        ({"type": "array", "prefixItems": [{"const": 1}], "items": False}, "[1]", "[1, 2]"),
        ({"type": "number", "exclusiveMinimum": 3, "maximum": 4}, "3.5", "3"),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": True}, "4", "3"),
        ({"type": "integer", "minimum": 3, "exclusiveMinimum": False}, "3", "2"),
        ({"type": "integer", "multipleOf": 5}, "35", "36"),
        ({"allOf": [PERSON, {"properties": {"age": {"maximum": 10}}}]}, '{"name":"A","age":9}',
         '{"name":"A","age":11}'),
        ({"type": "array", "uniqueItems": False, "items": {"const": 1}}, "[1, 1]", "[2]"),
        ({"properties": {"not": {"const": 1}}, "type": "object"}, '{"not": 1}', '{"not": 2}'),
        (True, '[{"a": 1}, "x"]', "tru"),
    ],
)  # fmt: skip
def test_a_schema_is_enforced(value: Any, good: str, bad: str) -> None:
    assert accepts(schema(value), good)
    assert not accepts(schema(value), bad)


def test_nothing_stands_around_the_value_and_white_space_is_bounded() -> None:
    for text in (' {"a": 1}', '{"a": 1} ', '{"a":  1}', '{"a":' + "\n" * 2 + "1}"):
        assert not accepts(Grammar("json_object"), text)
    deep = json.dumps({"a": [{"b": [[]]}]}, indent=4)
    assert accepts(Grammar("json_object"), deep)
    assert accepts(Grammar("json_object"), json.dumps({"a": {"b": 1}}, indent="\t"))


def test_a_json_object_is_an_object() -> None:
    assert accepts(Grammar("json_object"), '{"a": [1, null, "\\u00e9"], "b": {}}')
    assert not accepts(Grammar("json_object"), "[]")


def test_a_schema_may_ask_for_leniency_and_for_compact_text() -> None:
    value = {"type": "array", "items": {"type": "integer"}, "uniqueItems": True}
    with pytest.raises(InvalidRequest, match=r'"uniqueItems" at \$, which is not supported'):
        compiled(schema(value))
    assert accepts(schema({**value, "x-guidance": {"lenient": True}}), "[1, 1]")
    compact = schema({**PERSON, "x-guidance": {"whitespace_flexible": False}})
    assert accepts(compact, '{"name":"A","age":1}')
    assert not accepts(compact, '{"name": "A","age":1}')


def test_an_unsupported_keyword_is_named_with_its_place() -> None:
    value = {"type": "object", "properties": {"a": {"items": [{"not": {"type": "null"}}]}}}
    with pytest.raises(InvalidRequest) as caught:
        compiled(schema(value))
    assert '"not" at $.properties.a.items[0]' in caught.value.message
    assert "supported are: type, enum" in caught.value.message
    assert caught.value.param == "json_schema"


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("json_schema", "{"), "not valid JSON"),
        (Grammar("json_schema", "3"), "neither an object nor a boolean"),
        (Grammar("json_schema", "false"), "no value satisfies it"),
        (Grammar("json_schema", '{"type":"strin"}'), "Invalid type: strin"),
        (Grammar("json_schema", '{"$ref":"#/$defs/x"}'), "does not exist"),
        (Grammar("json_schema", '{"$ref":"http://a.b/c"}'), "http://a.b/c"),
        (Grammar("json_schema", '{"type":"string","format":"color"}'), "Unknown format: color"),
        (Grammar("json_schema", '{"type":"string","pattern":"("}'), "unclosed group"),
        (Grammar("json_schema", '{"type":"integer","minimum":2,"maximum":1}'), "greater than"),
        (Grammar("json_schema", '{"x-guidance":{"item_separator":";"}}'), "x-guidance"),
        (Grammar("json_schema", '{"x-guidance":{"no_such":true}}'), "no_such"),
        (Grammar("json_schema", '{"items":' * 60 + "{}" + "}" * 60), "nests more than 48"),
        (Grammar("json_schema", '{"items":' * 9999 + "{}" + "}" * 9999), "nested too deeply"),
        (Grammar("regex", ""), "empty"),
        (Grammar("regex", "a("), "unclosed group"),
        (Grammar("regex", r"(?=a)a"), "look-around"),
        (Grammar("regex", r"(a)\1"), "backreferences"),
        (Grammar("regex", "[a&&b]"), "matches no text"),
        (Grammar("regex", "a" * (MAX_BYTES + 1)), f"at most {MAX_BYTES}"),
        (Grammar("regex", "\ud800"), "lone surrogate"),
        (Grammar("choice", '"a"'), "list of strings"),
        (Grammar("choice", "[]"), "list of strings"),
        (Grammar("choice", '["a", 1]'), "index 1"),
        (Grammar("choice", '[""]'), "index 0"),
        (Grammar("choice", json.dumps(["a"] * (MAX_CHOICES + 1))), f"at most {MAX_CHOICES}"),
        (Grammar("lark", "root: /a/"), 'no rule "start"'),
        (Grammar("lark", "start: a"), 'unknown name: "a"'),
        (Grammar("lark", 'start: "a"\n%llguidance {"no_forcing": false}'), "%llguidance"),
        (Grammar("lark", "start: <|nope|>"), "unknown special token"),
    ],
)
def test_a_malformed_grammar_is_refused(grammar: Grammar, reason: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        compiled(grammar)
    assert reason in caught.value.message
    assert caught.value.param == grammar.kind


@pytest.mark.parametrize(
    ("regex", "good", "bad"),
    [
        (r"^[a-c]+/\d{2}$", "abc/12", "abc/1"),
        (r"(yes|no)\n?", "no\n", "nope"),
        (r"\d", "7", "٣"),
        (r"(?i)Hello.*", "hELLO wörld", "Hello\n"),
    ],
)
def test_a_regex_matches_the_whole_text(regex: str, good: str, bad: str) -> None:
    assert accepts(Grammar("regex", regex), good)
    assert not accepts(Grammar("regex", regex), bad)


def test_a_choice_is_one_of_its_strings_also_where_they_begin_alike() -> None:
    choices = ["a", "ab", 'say "hi"\n', "é😀", "\\d", "a"]
    grammar = Grammar("choice", json.dumps(choices))
    assert all(accepts(grammar, choice) for choice in choices)
    assert not any(accepts(grammar, text) for text in ("", "abc", "b", "1", "é"))


def test_lark_is_passed_on() -> None:
    grammar = Grammar("lark", 'start: greeting " " NAME\ngreeting: "hi" | "ho"\nNAME: /[A-Z]+/')
    assert accepts(grammar, "ho ADA")
    assert not accepts(grammar, "he ADA")


def test_a_grammar_never_asks_for_a_tokenizer() -> None:
    assert to_llguidance(Grammar("lark", 'start: "a"\n%llguidance {}')).endswith(
        '%llguidance {"no_forcing": true}\n'
    )
