"""Mistral, by tokenizer version: a JSON list (up to v7), or a tag before each call (v11 and up).

    [TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]
    [TOOL_CALLS]get_weather[CALL_ID]abcDEF123[ARGS]{"city": "Paris"}
    [TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}

Some templates of v11 leave `[ARGS]` out. Sources: vLLM's mistral_tool_parser.py; the chat
templates of Mistral-Small-3.1 and 3.2 and of Magistral-Small-2509.
"""

from __future__ import annotations

import re

from trunkline.text.tool_calls import json_text
from trunkline.text.tool_calls.dialect import Dialect, mistral_id
from trunkline.text.tool_calls.lark import Frame, json_body
from trunkline.text.tool_calls.reader import MAX_NAME, Malformed, Reader, Step, Tags, tagged

_NAME = re.compile(r"[^\s\[\]{}<>\"]*")
_ID = re.compile(r"[A-Za-z0-9]*")


def _call(reader: Reader) -> Step[None]:
    yield from reader.space()
    if (yield from reader.peek()) in ("[", "{"):
        yield from json_text.calls(reader)
        return
    name = yield from reader.run(_NAME, MAX_NAME)
    call_id = None
    if (yield from reader.accept("[CALL_ID]")):
        call_id = yield from reader.run(_ID, MAX_NAME)
    args = yield from reader.accept("[ARGS]")
    yield from reader.space()
    if not args and (yield from reader.peek()) != "{":
        raise Malformed
    reader.start(name, call_id)
    yield from json_text.arguments(reader)
    reader.end()


_PROGRAM = tagged(Tags(opens=("[TOOL_CALLS]",)), _call)

MISTRAL = Dialect(
    name="mistral",
    marks=(("[TOOL_CALLS]",),),
    program=_PROGRAM,
    frame=Frame(begin="[TOOL_CALLS][", between=", ", end="]"),
    body=json_body('{"name": "NAME", "arguments": ', "}"),
    new_id=mistral_id,
)

MISTRAL_V11 = Dialect(
    name="mistral_v11",
    marks=(("[TOOL_CALLS]", "[ARGS]"),),
    program=_PROGRAM,
    frame=Frame(open="[TOOL_CALLS]"),
    body=json_body("NAME[ARGS]", ""),
    new_id=mistral_id,
)
