"""`Grammar` to one grammar in llguidance's Lark syntax: pure text, nothing is compiled here.

Syntax: https://github.com/guidance-ai/llguidance/blob/main/docs/syntax.md (and json_schema.md).

What comes out never makes llguidance call a tokenizer (`no_forcing`), so that masks can be filled
without the interpreter lock. JSON is compact or pretty-printed as the model likes, but its
whitespace is bounded: a weak model would otherwise write spaces until max_tokens. A text that ends
where the grammar has nothing more to come is complete; nothing may stand before or behind it.

A schema may ask for leniency with `{"x-guidance": {"lenient": true}}` at its top: keywords that
are not supported are then ignored instead of refused. `coerce_one_of` and `whitespace_flexible`
(false: compact only) are honoured there as well, other options are not.
"""

from __future__ import annotations

import json
import re
from typing import Any

import llguidance
import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar, Json
from trunkline.text.gbnf_lark import gbnf_to_lark
from trunkline.text.json_schema import checked_schema

# Longest grammar, in UTF-8 bytes.
MAX_BYTES = 256 * 1024
# Most strings of a `choice`.
MAX_CHOICES = 10_000

_OPTIONS = '%llguidance {"no_forcing": true}\n'
# One space, or a new line with its indentation.
_WHITESPACE = r" |\r?\n {0,64}|\r?\n\t{0,16}"
_SCHEMA_OPTIONS = ("lenient", "coerce_one_of", "whitespace_flexible")
_OWN_OPTIONS = re.compile(r"%llguidance\s*(?!\s*\{\s*\})")


def to_llguidance(grammar: Grammar) -> str:
    """The Lark source for `grammar`, which is syntactically sound as far as this can tell.

    Raises `InvalidRequest`, with `param` the kind of the grammar, when it is malformed, too large
    or uses what is not supported.
    """
    try:
        size = len(grammar.value.encode())
    except UnicodeEncodeError as error:
        raise _refused(grammar, "is not valid Unicode: it has a lone surrogate") from error
    if size > MAX_BYTES:
        raise _refused(grammar, f"has {size} bytes; at most {MAX_BYTES} are accepted")
    # The last statement about an option counts.
    return f"{_body(grammar)}\n{_OPTIONS}"


def _body(grammar: Grammar) -> str:
    match grammar.kind:
        case "json_schema":
            return _json_schema(grammar)
        case "json_object":
            return _json_body({"type": "object"}, {})
        case "regex":
            return _regex(grammar)
        case "choice":
            return _choice(grammar)
        case "gbnf":
            return gbnf_to_lark(grammar.value)
        case "lark":
            return _lark(grammar)


def _refused(grammar: Grammar, why: str) -> InvalidRequest:
    return InvalidRequest(f"the {grammar.kind} {why}", param=grammar.kind)


def _decode(grammar: Grammar) -> Any:
    try:
        return msgspec.json.decode(grammar.value)
    except msgspec.DecodeError as error:
        raise _refused(grammar, f"is not valid JSON: {error}") from error
    except RecursionError as error:
        raise _refused(grammar, "is nested too deeply") from error


def _json_schema(grammar: Grammar) -> str:
    schema = _decode(grammar)
    if isinstance(schema, bool):
        if not schema:
            raise _refused(grammar, "is false: no value satisfies it")
        schema = {}
    if not isinstance(schema, dict):
        raise _refused(grammar, "is neither an object nor a boolean")
    options = schema.pop("x-guidance", {})
    if not isinstance(options, dict) or not all(type(v) is bool for v in options.values()):
        raise _refused(grammar, 'has an "x-guidance" that is not an object of booleans')
    if unknown := sorted(options.keys() - set(_SCHEMA_OPTIONS)):
        known = ", ".join(_SCHEMA_OPTIONS)
        raise _refused(grammar, f'has an "x-guidance" with {unknown[0]!r}; known are {known}')
    return _json_body(checked_schema(schema, lenient=options.get("lenient", False)), options)


def _json_body(schema: Json, options: Json) -> str:
    if options.get("whitespace_flexible", True):
        options = {**options, "whitespace_pattern": _WHITESPACE}
    options = {**options, "json_allow_general_unicode_escapes": True}
    text = msgspec.json.encode({**schema, "x-guidance": options}).decode()
    return f"start: %json {text}"


def _regex(grammar: Grammar) -> str:
    if not grammar.value:
        raise _refused(grammar, "is empty")
    # \d means 0-9, as it does in the servers and schemas that these expressions are written for.
    return f"start: TEXT\nTEXT: /{llguidance.regex_to_lark(grammar.value, 'd')}/"


def _choice(grammar: Grammar) -> str:
    choices = _decode(grammar)
    if not isinstance(choices, list) or not choices:
        raise _refused(grammar, "is not a list of strings with one at least")
    if len(choices) > MAX_CHOICES:
        raise _refused(grammar, f"has {len(choices)} strings; at most {MAX_CHOICES} are accepted")
    for index, choice in enumerate(choices):
        if not isinstance(choice, str) or not choice:
            raise _refused(grammar, f"has at index {index} what is no string, or an empty one")
    # One terminal: apart, the longer of two strings that begin alike would win.
    return "start: TEXT\nTEXT: " + " | ".join(map(json.dumps, dict.fromkeys(choices)))


def _lark(grammar: Grammar) -> str:
    if not re.search(r"^\s*start\b", grammar.value, re.MULTILINE):
        raise _refused(grammar, 'has no rule "start"')
    if _OWN_OPTIONS.search(grammar.value):
        raise _refused(grammar, "sets options with %llguidance, which is not supported")
    return grammar.value
