"""Llama 3.2 and 4, LFM2: a Python list of calls with named arguments.

    [get_weather(city="Paris"), get_time(zone="CET")]

Llama 4 may put it between `<|python_start|>` and `<|python_end|>`, LFM2 between
`<|tool_call_start|>` and `<|tool_call_end|>`. A "[" marks a call only where one of the request's
tools and "(" follow. Sources: vLLM's pythonic_tool_parser.py, llama4_pythonic_tool_parser.py and
lfm2_tool_parser.py.
"""

from __future__ import annotations

import re

from trunkline.core.types import Json
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark, choices, each_argument
from trunkline.text.tool_calls.literals import PYTHON, arguments
from trunkline.text.tool_calls.reader import MAX_NAME, Malformed, Marks, Reader, Step
from trunkline.text.tool_calls.tools import Tool

_OPENS = ("<|python_start|>", "<|tool_call_start|>")
_CLOSES = ("<|python_end|>", "<|tool_call_end|>")
_MARKS = Marks(*_OPENS, "[")
_NAME = re.compile(r"[\w.\-]*")


def _calls(reader: Reader, mark: str) -> Step[None]:
    if mark != "[":
        yield from reader.space()
        yield from reader.expect("[")
    while True:
        yield from reader.space()
        name = yield from reader.run(_NAME, MAX_NAME)
        yield from reader.expect("(")
        if name not in reader.tools:
            raise Malformed
        yield from arguments(reader, PYTHON, name)
        reader.end()
        yield from reader.space()
        if not (yield from reader.accept(",")):
            break
    yield from reader.expect("]")
    reader.hold()


def _program(reader: Reader) -> Step[None]:
    while (mark := (yield from reader.answer(_MARKS))) is not None:
        if (yield from reader.attempt(mark, _calls(reader, mark))):
            yield from reader.close(*_CLOSES)


def _body(lark: Lark, tool: Tool) -> str:
    def one(name: str, schema: Json) -> str:
        if schema.get("type") == "boolean":
            value = '( "True" | "False" )'
        elif schema.get("type") == "null":
            value = '"None"'
        else:
            value = " | ".join(lark.text(f'"{text}"') for text in choices(schema))
            value = f"( {value} )" if value else lark.json(schema)
        return f"{lark.text(name + '=')} {value}"

    inside = lark.rule(each_argument(lark, tool, one, separator=", "))
    return f"{lark.text(tool.name + '(')} {inside} {lark.text(')')}"


PYTHONIC = Dialect(
    name="pythonic",
    aliases=("llama4_pythonic",),
    marks=(("func_name1(",),),
    program=_program,
    frame=Frame(begin="[", between=", ", end="]"),
    body=_body,
    has_trigger=False,
)

LFM2 = Dialect(
    name="lfm2",
    marks=(("<|tool_call_start|>",), ("<|tool_list_start|>",)),
    program=_program,
    frame=Frame(begin="<|tool_call_start|>[", between=", ", end="]<|tool_call_end|>"),
    body=_body,
)
