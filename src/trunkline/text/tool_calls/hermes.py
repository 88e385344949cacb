"""Hermes, Qwen 2.5 and Qwen 3: a JSON object between tags, one pair of tags a call.

    <tool_call>
    {"name": "get_weather", "arguments": {"city": "Paris"}}
    </tool_call>

Sources: the chat templates of Qwen3 and NousResearch/Hermes-2-Pro; vLLM's hermes_tool_parser.py.
"""

from __future__ import annotations

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import Tags, tagged

HERMES = Dialect(
    name="hermes",
    aliases=("qwen25", "qwen3", "qwen"),
    marks=(("<tool_call>",),),
    program=tagged(Tags(opens=("<tool_call>",), closes=("</tool_call>",)), json_text.calls),
    frame=Frame(open="<tool_call>\n", close="\n</tool_call>", between="\n"),
    body=json_body('{"name": "NAME", "arguments": ', "}"),
)
