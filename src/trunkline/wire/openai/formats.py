"""What constrains an answer, in all the ways that clients of OpenAI's dialect ask for it.

- OpenAI: `response_format` (developers.openai.com/api/reference). Without `strict`, keywords of a
  schema that cannot be enforced are passed over; with it they are refused.
- vLLM: `structured_outputs`, before that `guided_json`, `guided_regex` and so on
  (docs/features/structured_outputs.md).
- SGLang: `json_schema`, `regex`, `ebnf` (docs/basic_usage/openai_api_completions.md).
- llama.cpp: `grammar`, `json_schema`, and a `schema` beside type json_object (its server's README);
  TGI: a `value` beside type json and regex. All read 2026-11-21.

The texts of schemas and grammars are not looked into here: the model's front compiles them.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import Grammar
from trunkline.wire.openai.fields import NOTHING, CommonFields, asks, decode

_LENIENT = b'"x-guidance":{"lenient":true}'
_COMPACT = b'"x-guidance":{"whitespace_flexible":false}'

# What makes a grammar out of a field.
_Kind = Literal["json", "regex", "choice", "grammar", "gbnf"]

# Field -> kind. Each stands alone at the top level of a body.
_FIELDS: dict[str, _Kind] = {
    "guided_json": "json",
    "guided_regex": "regex",
    "guided_choice": "choice",
    "guided_grammar": "grammar",
    "json_schema": "json",
    "regex": "regex",
    "ebnf": "gbnf",
    "grammar": "grammar",
}


class _Schema(msgspec.Struct):
    name: str = ""
    description: str | None = None
    schema: Raw = NOTHING
    strict: bool | None = None


class _ResponseFormat(msgspec.Struct):
    type: str
    json_schema: _Schema | None = None
    # The Responses API has these here.
    name: str | None = None
    description: str | None = None
    schema: Raw = NOTHING
    strict: bool | None = None
    value: Raw = NOTHING


class _StructuredOutputs(msgspec.Struct):
    json: Raw = NOTHING
    regex: Raw = NOTHING
    choice: Raw = NOTHING
    grammar: Raw = NOTHING
    json_object: bool | None = None
    disable_any_whitespace: bool | None = None
    structural_tag: Raw = NOTHING
    whitespace_pattern: Raw = NOTHING


_response_format = msgspec.json.Decoder(_ResponseFormat)
_structured_outputs = msgspec.json.Decoder(_StructuredOutputs)
_string = msgspec.json.Decoder(str)
_strings = msgspec.json.Decoder(list[str])


def constraint(fields: CommonFields) -> Grammar | None:
    """The one constraint that a body asks for. Raises `InvalidRequest` and `Unsupported`."""
    found: list[tuple[str, Grammar]] = []
    if asks(fields.response_format):
        grammar = response_format(fields.response_format, "response_format")
        if grammar is not None:
            found.append(("response_format", grammar))
    if asks(fields.structured_outputs):
        found += _structured(fields.structured_outputs)
    for name, kind in _FIELDS.items():
        raw: Raw = getattr(fields, name)
        if asks(raw):
            found.append((name, _one(kind, raw, name)))
    if len(found) > 1:
        problem = f"'{found[0][0]}' and '{found[1][0]}' exclude each other."
        raise InvalidRequest(problem, param=found[1][0])
    return found[0][1] if found else None


def response_format(raw: Raw, where: str) -> Grammar | None:
    """What `response_format`, or `text.format` of the Responses API, asks for."""
    wanted = decode(_response_format, raw, where)
    match wanted.type:
        case "text":
            return None
        case "json_object" | "json":
            schema = wanted.schema if asks(wanted.schema) else wanted.value
            if asks(schema):
                return json_schema(schema, strict=False)
            return Grammar("json_object")
        case "json_schema":
            return _response_schema(wanted, where)
        case "regex" if asks(wanted.value):
            return _one("regex", wanted.value, f"{where}.value")
    problem = f"'{where}' of type {wanted.type[:40]!r} is not supported."
    raise Unsupported(problem, param=f"{where}.type")


def json_schema(schema: Raw, *, strict: bool) -> Grammar:
    """A constraint by `schema`; unless `strict`, what cannot be enforced of it is passed over."""
    text = bytes(schema).strip()
    return Grammar("json_schema", (text if strict else _with_option(text, _LENIENT)).decode())


def named_error(error: TrunklineError, schema: str, other: str) -> TrunklineError:
    """`error` with the caller's field in place of the grammar's kind that a front names.

    `schema` is the field that holds schemas, `other` the one of all other grammars. Where another
    server is spoken to, a constraint that it lacks is called `grammar`, and a schema that is none
    `response_format` (`wire.asked`).
    """
    if error.param == "grammar" and isinstance(error, Unsupported):
        return _with_param(error, schema, error.message.replace("'grammar'", f"'{schema}'"))
    if error.param in ("json_schema", "json_object", "response_format"):
        return _with_param(error, schema)
    if error.param in ("regex", "choice", "gbnf", "lark"):
        return _with_param(error, other)
    return error


def _with_param(error: TrunklineError, param: str, message: str = "") -> TrunklineError:
    named = type(error)(message or error.message, param=param, retry_after=error.retry_after)
    named.request_id = error.request_id
    return named


def _response_schema(wanted: _ResponseFormat, where: str) -> Grammar:
    nested = wanted.json_schema
    said = nested or wanted
    name, about = said.name or "", said.description or ""
    schema = said.schema
    if schema is NOTHING:
        schema = wanted.value
    if schema is NOTHING:
        if nested and nested.name:
            # "schema" is optional there: any object will do.
            return Grammar("json_object", name=name, description=about)
        missing = f"{where}.json_schema" if where == "response_format" else f"{where}.schema"
        raise InvalidRequest(f"Missing required parameter: '{missing}'.", param=missing)
    grammar = json_schema(schema, strict=said.strict is True)
    return replace(grammar, name=name, description=about)


def _structured(raw: Raw) -> list[tuple[str, Grammar]]:
    where = "structured_outputs"
    wanted = decode(_structured_outputs, raw, where)
    for name in ("structural_tag", "whitespace_pattern"):
        if asks(getattr(wanted, name)):
            raise Unsupported(f"'{where}.{name}' is not supported.", param=f"{where}.{name}")
    found: list[tuple[str, Grammar]] = []
    if asks(wanted.json):
        compact = wanted.disable_any_whitespace is True
        found.append((f"{where}.json", _one("json", wanted.json, f"{where}.json", compact=compact)))
    if asks(wanted.regex):
        found.append((f"{where}.regex", _one("regex", wanted.regex, f"{where}.regex")))
    if asks(wanted.choice):
        found.append((f"{where}.choice", _one("choice", wanted.choice, f"{where}.choice")))
    if asks(wanted.grammar):
        found.append((f"{where}.grammar", _one("grammar", wanted.grammar, f"{where}.grammar")))
    if wanted.json_object:
        found.append((f"{where}.json_object", Grammar("json_object")))
    return found


def _one(kind: _Kind, raw: Raw, where: str, *, compact: bool = False) -> Grammar:
    match kind:
        case "json":
            # An object, or its text.
            text = bytes(raw).strip()
            if text.startswith(b'"'):
                text = decode(_string, raw, where).strip().encode()
            return Grammar(
                "json_schema", (_with_option(text, _COMPACT) if compact else text).decode()
            )
        case "choice":
            choices: Any = decode(_strings, raw, where)
            return Grammar("choice", msgspec.json.encode(choices).decode())
        case "regex":
            return Grammar("regex", decode(_string, raw, where))
        case "gbnf":
            return Grammar("gbnf", decode(_string, raw, where))
        case "grammar":
            # GBNF and EBNF define with "::=", Lark with ":"; vLLM tells them apart likewise.
            text_ = decode(_string, raw, where)
            return Grammar("gbnf" if "::=" in text_ else "lark", text_)


def _with_option(schema: bytes, option: bytes) -> bytes:
    """`schema` with an option in front, so that one of its own counts; not if it is no object."""
    if not schema.startswith(b"{"):
        return schema
    rest = schema[1:].lstrip()
    return b"{%b%b%b" % (option, b"" if rest.startswith(b"}") else b",", rest)
