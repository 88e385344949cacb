from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.speaking import asking, terms
from trunkline.core.errors import InvalidRequest, TrunklineError, Unprocessable, Unsupported
from trunkline.core.types import Grammar
from trunkline.wire.asked import Asked
from trunkline.wire.codec import Codec
from trunkline.wire.openai.chat import CHAT, decode_chat
from trunkline.wire.openai.completions import COMPLETIONS, decode_completion
from trunkline.wire.openai.formats import named_error
from trunkline.wire.openai.responses import RESPONSES, decode_responses

SCHEMA: dict[str, Any] = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA)
LENIENT = '{"x-guidance":{"lenient":true},' + TEXT[1:]


def grammar(**fields: Any) -> Grammar | None:
    body = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", **fields}
    encoded = json.dumps(body).encode()
    (chat,) = decode_chat(encoded).requests("id", "m", "")
    (completion,) = decode_completion(encoded).requests("id", "m", "")
    assert chat.grammar == completion.grammar
    return chat.grammar


def schema(**fields: Any) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "n", **fields}}


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, None),
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, Grammar("json_object")),
        ({"response_format": schema(schema=SCHEMA)}, Grammar("json_schema", LENIENT, "n")),
        (
            {"response_format": schema(schema=SCHEMA, strict=True, description="d")},
            Grammar("json_schema", TEXT, "n", "d"),
        ),
        ({"response_format": schema(schema=True)}, Grammar("json_schema", "true", "n")),
        (
            {"response_format": schema(schema={}, strict=False, description=None)},
            Grammar("json_schema", '{"x-guidance":{"lenient":true}}', "n"),
        ),
        ({"response_format": schema(description="d")}, Grammar("json_object", "", "n", "d")),
        # llama.cpp's and TGI's.
        (
            {"response_format": {"type": "json_object", "schema": SCHEMA}},
            Grammar("json_schema", LENIENT),
        ),
        ({"response_format": {"type": "json", "value": SCHEMA}}, Grammar("json_schema", LENIENT)),
        ({"response_format": {"type": "regex", "value": "a+"}}, Grammar("regex", "a+")),
        # vLLM's.
        ({"structured_outputs": {"json": SCHEMA}}, Grammar("json_schema", TEXT)),
        ({"structured_outputs": {"json": TEXT}}, Grammar("json_schema", TEXT)),
        ({"structured_outputs": {"regex": "\\d"}}, Grammar("regex", "\\d")),
        ({"structured_outputs": {"choice": ["é", "b"]}}, Grammar("choice", '["é","b"]')),
        ({"structured_outputs": {"grammar": 'root ::= "a"'}}, Grammar("gbnf", 'root ::= "a"')),
        ({"structured_outputs": {"grammar": 'start: "a"'}}, Grammar("lark", 'start: "a"')),
        ({"structured_outputs": {"json_object": True}}, Grammar("json_object")),
        ({"structured_outputs": {"json_object": False}}, None),
        ({"guided_json": SCHEMA}, Grammar("json_schema", TEXT)),
        ({"guided_regex": "a"}, Grammar("regex", "a")),
        ({"guided_choice": ["a"]}, Grammar("choice", '["a"]')),
        ({"guided_grammar": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
        # SGLang's.
        ({"json_schema": TEXT}, Grammar("json_schema", TEXT)),
        ({"regex": "a"}, Grammar("regex", "a")),
        ({"ebnf": 'root ::= "a"'}, Grammar("gbnf", 'root ::= "a"')),
        ({"response_format": None, "guided_json": None, "structured_outputs": {}}, None),
    ],
)
def test_what_constrains(fields: dict[str, Any], expected: Grammar | None) -> None:
    assert grammar(**fields) == expected


def test_whitespace_can_be_forbidden() -> None:
    found = grammar(structured_outputs={"json": SCHEMA, "disable_any_whitespace": True})
    assert found is not None
    assert json.loads(found.value)["x-guidance"] == {"whitespace_flexible": False}


def test_an_option_of_the_schema_itself_counts() -> None:
    own = {"x-guidance": {"lenient": False}, **SCHEMA}
    found = grammar(response_format=schema(schema=own))
    assert found is not None
    assert json.loads(found.value)["x-guidance"] == {"lenient": False}


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"a": 1}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": 5}}, "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        ({"structured_outputs": {"choice": [1]}}, "structured_outputs.choice[0]"),
        ({"structured_outputs": {"regex": 1}}, "structured_outputs.regex"),
        ({"guided_choice": "a"}, "guided_choice"),
        ({"guided_json": SCHEMA, "regex": "a"}, "regex"),
        ({"structured_outputs": {"regex": "a", "choice": ["b"]}}, "structured_outputs.choice"),
        ({"response_format": {"type": "json_object"}, "guided_regex": "a"}, "guided_regex"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        grammar(**fields)
    assert caught.value.param == param


def test_a_type_that_nobody_knows_is_refused_by_name() -> None:
    with pytest.raises(Unsupported) as caught:
        grammar(response_format={"type": "poem"})
    assert caught.value.param == "response_format.type"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"type": "text"}, None),
        ({"type": "json_object"}, Grammar("json_object")),
        ({"type": "json_schema", "schema": SCHEMA}, Grammar("json_schema", LENIENT)),
        (
            {"type": "json_schema", "name": "n", "schema": SCHEMA},
            Grammar("json_schema", LENIENT, "n"),
        ),
        (
            {"type": "json_schema", "name": "n", "description": "d", "schema": SCHEMA}
            | {"strict": True},
            Grammar("json_schema", TEXT, "n", "d"),
        ),
    ],
)
def test_the_text_format_of_responses(fields: dict[str, Any], expected: Grammar | None) -> None:
    body = json.dumps({"input": "x", "text": {"format": fields}}).encode()
    (one,) = decode_responses(body).requests("id", "m", "")
    assert one.grammar == expected


def test_errors_of_a_grammar_name_the_callers_field() -> None:
    def param(codec: Any, error: TrunklineError) -> Any:
        assert isinstance(error, TrunklineError)
        return json.loads(codec.error(error))["error"]["param"]

    bad = InvalidRequest("the json_schema is false", param="json_schema")
    assert param(CHAT, bad) == "response_format"
    assert param(RESPONSES, bad) == "text.format"
    assert param(CHAT, InvalidRequest("x", param="regex")) == "structured_outputs"
    # As `wire.asked` says what is wrong with a schema, before another server sees it.
    assert param(RESPONSES, InvalidRequest("x", param="response_format")) == "text.format"
    # A field of this name that makes no sense is llama.cpp's.
    assert param(CHAT, InvalidRequest("x", param="grammar")) == "grammar"
    assert param(CHAT, Unprocessable("x", param="messages")) == "messages"


@pytest.mark.parametrize(
    ("codec", "field"),
    [(CHAT, "response_format"), (COMPLETIONS, "response_format"), (RESPONSES, "text.format")],
)
def test_a_constraint_that_a_server_lacks_is_called_by_the_callers_field(
    codec: Codec, field: str
) -> None:
    asked = Asked(asking(grammar=Grammar("json_object")), terms())
    with pytest.raises(Unsupported) as caught:
        asked.outgoing("/x", {})
    caught.value.request_id = "req_1"
    assert named_error(caught.value, field, "").request_id == "req_1"
    for sent in (codec.error(caught.value), codec.stream_error(caught.value)):
        found = json.loads(sent[sent.index(b"{") :])
        found = found.get("error", found)
        assert found["param"] == field
        assert found["message"].endswith(f"does not support '{field}'.")
