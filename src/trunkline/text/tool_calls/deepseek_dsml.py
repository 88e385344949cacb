"""DeepSeek V3.2 and V4: "DSML", tags with attributes and plain text or JSON in them.

    <｜DSML｜function_calls>
    <｜DSML｜invoke name="get_weather">
    <｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>
    </｜DSML｜invoke>
    </｜DSML｜function_calls>

V4 says `tool_calls` for `function_calls`. Sources: vLLM's deepseekv32_tool_parser.py and
deepseekv4_tool_parser.py; llama.cpp's template DeepSeek-V3.2.jinja.
"""

from __future__ import annotations

from trunkline.core.types import Json
from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark, choices, each_argument, is_text
from trunkline.text.tool_calls.parameters import Fields
from trunkline.text.tool_calls.reader import Marks, Reader, Step, Tags, tagged
from trunkline.text.tool_calls.tools import Tool

_D = "｜DSML｜"
_QUOTE = Marks('"')
_VALUE_END = Marks(f"</{_D}parameter>")
_STRING = frozenset({"string"})
_INVOKE = f'<{_D}invoke name="'
_PARAMETER = f'<{_D}parameter name="'


def _call(reader: Reader) -> Step[None]:
    name, _ = yield from reader.upto(_QUOTE)
    yield from reader.space()
    yield from reader.expect(">")
    with Fields(reader, name) as fields:
        while True:
            yield from reader.space()
            tag = yield from reader.expect(_PARAMETER, f"</{_D}invoke>")
            if tag != _PARAMETER:
                break
            key, _ = yield from reader.upto(_QUOTE)
            yield from reader.space()
            kind = yield from reader.accept('string="true"', 'string="false"')
            yield from reader.space()
            yield from reader.expect(">")
            yield from fields.add(key, _VALUE_END, _STRING if "true" in kind else None)
    reader.end()


def _body(lark: Lark, tool: Tool) -> str:
    def one(name: str, schema: Json) -> str:
        options = choices(schema)
        text = bool(options) or is_text(schema)
        head = lark.text(f'{_PARAMETER}{name}" string="{"true" if text else "false"}">')
        if text and not options:
            return f'{head} {lark.upto(f"</{_D}parameter>")} "\\n"'
        value = " | ".join(lark.text(option) for option in options) or lark.json(schema)
        return f"{head} ( {value} ) {lark.text(f'</{_D}parameter>' + chr(10))}"

    head = lark.text(f'{tool.name}">\n')
    return f"{head} {lark.rule(each_argument(lark, tool, one))}"


def _dialect(name: str, section: str, *aliases: str) -> Dialect:
    return Dialect(
        name=name,
        aliases=aliases,
        marks=((_D, f"{section}>"), ("DSML", f"}}}}{section}>")),
        program=tagged(
            Tags(
                sections=(f"<{_D}function_calls>", f"<{_D}tool_calls>"),
                opens=(_INVOKE,),
                section_closes=(f"</{_D}function_calls>", f"</{_D}tool_calls>"),
            ),
            _call,
        ),
        frame=Frame(
            begin=f"<{_D}{section}>\n",
            open=_INVOKE,
            close=f"</{_D}invoke>\n",
            end=f"</{_D}{section}>",
        ),
        body=_body,
    )


DEEPSEEK_V32 = _dialect("deepseek_v32", "function_calls", "deepseekv32")
DEEPSEEK_V4 = _dialect("deepseek_v4", "tool_calls", "deepseekv4")
