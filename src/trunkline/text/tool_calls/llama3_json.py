"""Llama 3.x and 4: a bare JSON object, several separated by ";".

    {"name": "get_weather", "parameters": {"city": "Paris"}}

`<|python_tag|>` (Llama 4: `<|python_start|>`) may precede it. Nothing else marks a call, so only
an object that begins with "name" or "type" and names one of the request's tools is one.
Sources: the chat template of Llama-3.1-8B-Instruct; vLLM's llama_tool_parser.py.
"""

from __future__ import annotations

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import Marks, Reader, Step

_MARKS = Marks("<|python_tag|>", "<|python_start|>", "{")


def _call(reader: Reader, mark: str) -> Step[None]:
    if mark == "{":
        reader.position -= 1
    yield from reader.space()
    yield from json_text.call(reader, known=True)


def _program(reader: Reader) -> Step[None]:
    while (mark := (yield from reader.answer(_MARKS))) is not None:
        if (yield from reader.attempt(mark, _call(reader, mark))):
            yield from reader.close(";", "<|python_end|>")


LLAMA3_JSON = Dialect(
    name="llama3_json",
    aliases=("llama4_json", "llama3"),
    marks=(("<|python_tag|>",), ("<|python_start|>",), ('{"name": function name, "parameters"',)),
    program=_program,
    frame=Frame(between="; "),
    body=json_body('{"name": "NAME", "parameters": ', "}"),
    has_trigger=False,
)
