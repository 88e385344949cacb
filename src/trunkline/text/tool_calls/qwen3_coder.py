"""Qwen3-Coder: a tag for the function and one for each parameter, with plain text in it.

    <tool_call>
    <function=get_weather>
    <parameter=city>
    Paris
    </parameter>
    </function>
    </tool_call>

The model leaves `<tool_call>` out at times. Sources: the chat template of
Qwen/Qwen3-Coder-30B-A3B-Instruct; vLLM's qwen3coder_tool_parser.py.
"""

from __future__ import annotations

from trunkline.core.types import Json
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark, choices, each_argument, is_text
from trunkline.text.tool_calls.parameters import Fields
from trunkline.text.tool_calls.reader import Marks, Reader, Step, Tags, tagged
from trunkline.text.tool_calls.tools import Tool

_NAME_END = Marks(">")
# The line breaks around a value are not part of it.
_VALUE_END = Marks("\n</parameter>", "</parameter>")


def _call(reader: Reader) -> Step[None]:
    name, _ = yield from reader.upto(_NAME_END)
    with Fields(reader, name.strip()) as fields:
        while True:
            yield from reader.space()
            tag = yield from reader.expect("<parameter=", "</function>")
            if tag == "</function>":
                break
            key, _ = yield from reader.upto(_NAME_END)
            yield from reader.accept("\n")
            yield from fields.add(key.strip(), _VALUE_END)
    reader.end()


def _body(lark: Lark, tool: Tool) -> str:
    def one(name: str, schema: Json) -> str:
        head = lark.text(f"<parameter={name}>\n")
        tail = lark.text("\n</parameter>\n")
        if is_text(schema):
            return f'{head} {lark.upto("</parameter>")} "\\n"'
        options = " | ".join(lark.text(text) for text in choices(schema))
        return f"{head} {f'( {options} )' if options else lark.json(schema)} {tail}"

    arguments = lark.rule(each_argument(lark, tool, one))
    return f"{lark.text(f'<function={tool.name}>')} {lark.text(chr(10))} {arguments}"


QWEN3_CODER = Dialect(
    name="qwen3_coder",
    aliases=("qwen3_xml", "mimo"),
    marks=(("<function=", "<parameter="),),
    program=tagged(
        Tags(sections=("<tool_call>",), opens=("<function=",), section_closes=("</tool_call>",)),
        _call,
    ),
    frame=Frame(open="<tool_call>\n", close="</function>\n</tool_call>", between="\n"),
    body=_body,
    ends_reasoning=("<tool_call>",),
)
