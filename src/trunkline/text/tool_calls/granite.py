"""IBM Granite: a JSON list behind a tag (3.x), or Hermes' form (4).

    <|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]

Granite 3.0 has the token `<|tool_call|>`, 3.1 and later write `<tool_call>`, the 20B function
calling model `<function_call>`. Sources: vLLM's granite_tool_parser.py, granite4_tool_parser.py
and granite_20b_fc_tool_parser.py.
"""

from __future__ import annotations

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import Tags, tagged

_PROGRAM = tagged(
    Tags(opens=("<|tool_call|>", "<tool_call>", "<function_call>"), closes=("</tool_call>",)),
    json_text.calls,
)
_BODY = json_body('{"name": "NAME", "arguments": ', "}")

GRANITE = Dialect(
    name="granite",
    marks=(("<|start_of_role|>", "<|tool_call|>"),),
    program=_PROGRAM,
    frame=Frame(begin="<|tool_call|>[", between=", ", end="]"),
    body=_BODY,
)

GRANITE4 = Dialect(
    name="granite4",
    marks=(("<|start_of_role|>", "<tool_call>"),),
    program=_PROGRAM,
    frame=Frame(open="<tool_call>\n", close="\n</tool_call>", between="\n"),
    body=_BODY,
)

GRANITE_20B = Dialect(
    name="granite-20b-fc",
    marks=(("<function_call>", "starcoder"),),
    program=_PROGRAM,
    frame=Frame(open="<function_call> ", between="\n"),
    body=_BODY,
)
