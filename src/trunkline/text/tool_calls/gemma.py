"""FunctionGemma and Gemma 4: a call written with quotes of its own.

    <start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>
    <|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:3}<tool_call|>

Names stand without quotes, nothing is escaped within strings. (Gemma 3 has no form of its own:
its template has no tools.) Sources: vLLM's functiongemma_tool_parser.py and
gemma4_tool_parser.py; llama.cpp's template gemma4.jinja.
"""

from __future__ import annotations

import re

from trunkline.core.types import Json
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Body, Frame, Lark, choices, each_argument, is_text
from trunkline.text.tool_calls.literals import GEMMA, arguments
from trunkline.text.tool_calls.reader import MAX_NAME, Reader, Step, Tags, tagged
from trunkline.text.tool_calls.tools import Tool

_NAME = re.compile(r"[\w.\-]*")


def _call(reader: Reader) -> Step[None]:
    yield from reader.space()
    yield from reader.expect("call:")
    name = yield from reader.run(_NAME, MAX_NAME)
    yield from reader.expect("{")
    yield from arguments(reader, GEMMA, name)
    reader.end()


_PROGRAM = tagged(
    Tags(
        opens=("<start_function_call>", "<|tool_call>"),
        closes=("<end_function_call>", "<tool_call|>"),
    ),
    _call,
)


def _any_value(lark: Lark, quote: str) -> str:
    """Anything in this notation: what is nested is not held to its schema."""
    text = f"{lark.text(quote)} {lark.upto(quote)}"
    scalar = lark.rule(f'{text} | /-?[0-9]+(\\.[0-9]+)?/ | "true" | "false" | "null"')
    # Rules that refer to each other get their names by hand.
    lark.named("item", f"{scalar} | array | object")
    lark.named("array", '"[" ( item ( "," item )* )? "]"')
    lark.named("object", '"{" ( KEY item ( "," KEY item )* )? "}"')
    lark.named("KEY", "/[A-Za-z_][A-Za-z0-9_]*:/")
    return "item"


def _body(quote: str) -> Body:
    def body(lark: Lark, tool: Tool) -> str:
        def one(name: str, schema: Json) -> str:
            key = lark.text(f"{name}:")
            if is_text(schema):
                return f"{key} {lark.text(quote)} {lark.upto(quote)}"
            options = [lark.text(quote + text + quote) for text in choices(schema)]
            if options:
                return f"{key} ( {' | '.join(options)} )"
            if schema.get("type") in ("integer", "number", "boolean", "null"):
                return f"{key} {lark.json(schema)}"
            return f"{key} {_any_value(lark, quote)}"

        inside = lark.rule(each_argument(lark, tool, one, separator=","))
        return f"{lark.text(f'call:{tool.name}' + '{')} {inside} {lark.text('}')}"

    return body


FUNCTION_GEMMA = Dialect(
    name="functiongemma",
    marks=(("<start_function_call>",),),
    program=_PROGRAM,
    frame=Frame(open="<start_function_call>", close="<end_function_call>"),
    body=_body("<escape>"),
)

GEMMA4 = Dialect(
    name="gemma4",
    marks=(("<|tool_call>",),),
    program=_PROGRAM,
    frame=Frame(open="<|tool_call>", close="<tool_call|>"),
    body=_body('<|"|>'),
)
