"""Kimi K2: special tokens around an id that holds the name, and JSON arguments.

    <|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0
    <|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>

(on one line). The id goes to the client: the template wants it back with the result. Sources:
docs/tool_call_guidance.md of moonshotai/Kimi-K2-Instruct; SGLang's kimik2_detector.py; vLLM's
kimi_k2_tool_parser.py, which also has the section tags in the singular.
"""

from __future__ import annotations

import re

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark
from trunkline.text.tool_calls.reader import Marks, Reader, Step, Tags, tagged
from trunkline.text.tool_calls.tools import Tool

_SECTIONS = ("<|tool_calls_section_begin|>", "<|tool_call_section_begin|>")
_ARGUMENTS = "<|tool_call_argument_begin|>"
_MARKS = Marks(_ARGUMENTS)
_ID = re.compile(r"(?:functions\.)?(?P<name>.+?)(?::[0-9]+)?")


def _call(reader: Reader) -> Step[None]:
    head, _ = yield from reader.upto(_MARKS)
    call_id = head.strip()
    found = _ID.fullmatch(call_id)
    reader.start(found["name"] if found else "", call_id)
    yield from reader.space()
    if (yield from reader.peek()) == "<":
        reader.arguments("{}")
    else:
        yield from json_text.arguments(reader)
    reader.end()


def _body(lark: Lark, tool: Tool) -> str:
    schema = {"type": "object", **tool.parameters}
    head = lark.text(f"functions.{tool.name}:")
    return f"{head} /[0-9]{{1,3}}/ {lark.text(_ARGUMENTS)} {lark.json(schema)}"


KIMI = Dialect(
    name="kimi_k2",
    aliases=("kimi",),
    marks=(("<|tool_call_argument_begin|>",), ("<|im_middle|>", "<|im_system|>tool")),
    program=tagged(
        Tags(
            sections=_SECTIONS,
            opens=("<|tool_call_begin|>",),
            closes=("<|tool_call_end|>",),
            section_closes=("<|tool_calls_section_end|>", "<|tool_call_section_end|>"),
        ),
        _call,
    ),
    frame=Frame(
        begin=_SECTIONS[0],
        open="<|tool_call_begin|>",
        close="<|tool_call_end|>",
        end="<|tool_calls_section_end|>",
    ),
    body=_body,
    ends_reasoning=_SECTIONS,
)
