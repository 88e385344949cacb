"""Harmony, the format of gpt-oss: every message has a header with a channel.

    <|channel|>analysis<|message|>The user wants...<|end|><|start|>assistant<|channel|>commentary
    to=functions.get_weather <|constrain|>json<|message|>{"city": "Paris"}<|call|>

(on one line; the prompt ends with `<|start|>assistant`). "analysis" is thinking; "final", and
"commentary" to nobody, are the answer; a message to a function is a call. The recipient may also
stand before the channel. The beginning of a header at the very end is dropped: it is never
content. Source: https://cookbook.openai.com/articles/openai-harmony.
"""

from __future__ import annotations

import re

from trunkline.text.tool_calls.dialect import Dialect
from trunkline.text.tool_calls.lark import Frame, Lark, json_body
from trunkline.text.tool_calls.reader import (
    Malformed,
    Marks,
    Reader,
    Reasoning,
    Step,
    Take,
    Text,
)

_ENDS = ("<|end|>", "<|call|>", "<|return|>")
_HEADERS = ("<|start|>", "<|channel|>", " to=functions.")
_NEXT = Marks("<|start|>", "<|channel|>")
_MESSAGE = Marks("<|message|>")
_BODY_END = Marks(*_ENDS, "<|start|>")
_RECIPIENT = re.compile(r"to=([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")


def _program(reader: Reader) -> Step[None]:
    begun = yield from reader.accept(*_HEADERS)
    while True:
        if not begun:
            begun = (yield from reader.answer(_NEXT)) or ""
            if not begun:
                return
        reader.hold()
        try:
            header, _ = yield from reader.upto(_MESSAGE)
        except Malformed:
            if reader.ended:
                return
            # Too long for a header.
            reader.rewind()
            reader.emit(Text(begun))
            begun = ""
            continue
        reader.release()
        begun = yield from _message(reader, begun + header)


def _message(reader: Reader, header: str) -> Step[str]:
    """Read a message; the tag of the next header, if that has begun."""
    recipient = _RECIPIENT.search(header)
    name = recipient[1] if recipient else ""
    function = name.removeprefix("functions.")
    if function != name or function in reader.tools:
        return (yield from _call(reader, function))
    channel = _CHANNEL.search(header)
    piece = Reasoning if name or (channel and channel[1] == "analysis") else Text
    end = yield from _streamed(reader, lambda text: reader.emit(piece(text)))
    return (yield from _behind(reader, end))


def _call(reader: Reader, name: str) -> Step[str]:
    size = 0

    def take(text: str) -> None:
        nonlocal size
        size += len(text)
        reader.arguments(text)

    try:
        reader.start(name)
    except Malformed:
        end = yield from _streamed(reader, lambda text: reader.emit(Text(text)))
        return (yield from _behind(reader, end))
    end = yield from _streamed(reader, take)
    if not size:
        reader.arguments("{}")
    # The tag that ends a call is an end-of-text token, which never comes as text.
    reader.end()
    return (yield from _behind(reader, end))


def _streamed(reader: Reader, take: Take) -> Step[str]:
    """The body of a message; the tag that ends it, "" at the end of the output."""
    try:
        return (yield from reader.stream(_BODY_END, take))
    except Malformed:
        return ""


def _behind(reader: Reader, end: str) -> Step[str]:
    if end == "<|start|>":
        return end
    return (yield from reader.accept(*_HEADERS))


def _thinking(lark: Lark) -> str:
    head = lark.text("<|channel|>analysis<|message|>")
    return f"( {head} {lark.upto('<|end|>')} {lark.text('<|start|>assistant')} )?"


HARMONY = Dialect(
    name="openai",
    aliases=("harmony", "gpt_oss", "gptoss"),
    marks=(("<|channel|>", "<|message|>"),),
    program=_program,
    frame=Frame(
        open="<|channel|>commentary to=functions.", close="<|call|>", between="<|start|>assistant"
    ),
    body=json_body("NAME <|constrain|>json<|message|>", ""),
    has_trigger=False,
    reasons=True,
    before=_thinking,
)
