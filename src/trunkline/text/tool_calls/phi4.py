"""Phi-4-mini: a JSON list or object between tags, or behind the word "functools".

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>
    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Sources: vLLM's phi4mini_tool_parser.py; llama.cpp's template for Phi-4-mini-instruct.
"""

from __future__ import annotations

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import Tags, tagged

PHI4 = Dialect(
    name="phi4_mini_json",
    aliases=("phi4",),
    marks=(("<|/tool|>",), ("<|/tool_call|>",), ("functools",)),
    program=tagged(
        Tags(opens=("<|tool_call|>", "functools"), closes=("<|/tool_call|>",)), json_text.calls
    ),
    frame=Frame(begin="<|tool_call|>[", between=", ", end="]<|/tool_call|>"),
    body=json_body('{"name": "NAME", "arguments": ', "}"),
)
