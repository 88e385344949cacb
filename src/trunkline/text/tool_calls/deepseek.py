"""DeepSeek V3, R1 and V3.1: tags that are special tokens, arguments in JSON.

V3 and R1 (a type, the name, and a fenced block):

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather
    ```json
    {"city": "Paris"}
    ```<｜tool▁call▁end｜><｜tool▁calls▁end｜>

V3.1:

    <｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}
    <｜tool▁call▁end｜><｜tool▁calls▁end｜>

(on one line). Sources: vLLM's deepseekv3_tool_parser.py; the chat template of DeepSeek-V3.1.
"""

from __future__ import annotations

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import Marks, Reader, Step, Tags, tagged

_SEPARATOR = Marks("<｜tool▁sep｜>")
_LINE = Marks("\n")
_END = "<｜tool▁call▁end｜>"


def _call(reader: Reader) -> Step[None]:
    name, _ = yield from reader.upto(_SEPARATOR)
    yield from reader.space()
    fenced = (yield from reader.peek()) not in ("{", "<")
    if fenced:
        name, _ = yield from reader.upto(_LINE)
        yield from reader.space()
        yield from reader.expect("```json")
        yield from reader.space()
    reader.start(name.strip())
    if (yield from reader.peek()) in ("<", "`"):
        reader.arguments("{}")
    else:
        yield from json_text.arguments(reader)
    reader.end()
    if fenced:
        yield from reader.close("```")


_PROGRAM = tagged(
    Tags(
        sections=("<｜tool▁calls▁begin｜>",),
        opens=("<｜tool▁call▁begin｜>",),
        closes=(_END,),
        section_closes=("<｜tool▁calls▁end｜>",),
    ),
    _call,
)
_FRAME = Frame(
    begin="<｜tool▁calls▁begin｜>",
    open="<｜tool▁call▁begin｜>",
    close=_END,
    end="<｜tool▁calls▁end｜>",
)

DEEPSEEK_V3 = Dialect(
    name="deepseek_v3",
    aliases=("deepseekv3", "deepseek_r1"),
    marks=(("<｜tool▁sep｜>", "```json"),),
    program=_PROGRAM,
    frame=_FRAME._replace(between="\n"),
    body=json_body("function<｜tool▁sep｜>NAME\n```json\n", "\n```"),
)

DEEPSEEK_V31 = Dialect(
    name="deepseek_v31",
    aliases=("deepseekv31",),
    marks=(("<｜tool▁sep｜>",),),
    program=_PROGRAM,
    frame=_FRAME,
    body=json_body("NAME<｜tool▁sep｜>", ""),
)
