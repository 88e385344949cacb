"""GLM-4.5 and later: the name behind a tag, then tagged keys and values with plain text in them.

    <tool_call>get_weather
    <arg_key>city</arg_key>
    <arg_value>Paris</arg_value>
    </tool_call>

GLM-4.7 writes no line breaks. Sources: the chat template of GLM-4.6; vLLM's
glm4_moe_tool_parser.py and glm47_moe_tool_parser.py.
"""

from __future__ import annotations

import re

from trunkline.core.types import Json
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark, choices, each_argument, is_text
from trunkline.text.tool_calls.parameters import Fields
from trunkline.text.tool_calls.reader import MAX_NAME, Marks, Reader, Step, Tags, tagged
from trunkline.text.tool_calls.tools import Tool

_NAME = re.compile(r"[^\n<]*")
_KEY_END = Marks("</arg_key>")
_VALUE_END = Marks("</arg_value>")


def _call(reader: Reader) -> Step[None]:
    name = yield from reader.run(_NAME, MAX_NAME)
    with Fields(reader, name.strip()) as fields:
        while True:
            yield from reader.space()
            tag = yield from reader.expect("<arg_key>", "</tool_call>")
            if tag == "</tool_call>":
                break
            key, _ = yield from reader.upto(_KEY_END)
            yield from reader.space()
            yield from reader.expect("<arg_value>")
            yield from fields.add(key.strip(), _VALUE_END)
    reader.end()


def _body(lark: Lark, tool: Tool) -> str:
    def one(name: str, schema: Json) -> str:
        head = lark.text(f"<arg_key>{name}</arg_key>\n<arg_value>")
        if is_text(schema):
            return f'{head} {lark.upto("</arg_value>")} "\\n"'
        options = " | ".join(lark.text(text) for text in choices(schema))
        value = f"( {options} )" if options else lark.json(schema)
        return f"{head} {value} {lark.text('</arg_value>' + chr(10))}"

    return f"{lark.text(tool.name + chr(10))} {lark.rule(each_argument(lark, tool, one))}"


GLM = Dialect(
    name="glm45",
    aliases=("glm47", "glm4_moe", "glm"),
    marks=(("<arg_key>",),),
    program=tagged(Tags(opens=("<tool_call>",)), _call),
    frame=Frame(open="<tool_call>", close="</tool_call>", between="\n"),
    body=_body,
)
