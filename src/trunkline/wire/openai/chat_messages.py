"""The messages of chat completions, as a chat template sees them.

Shapes: the official client's `types/chat/chat_completion_*_message_param.py` (openai 3.52, read
2026-11-21). `reasoning_content` and `reasoning` of an assistant's turn are vLLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import CachePoint, Json, Message, TextPart
from trunkline.wire.cache_points import WHOLE, points_of
from trunkline.wire.openai.cache_marks import Marked, lifetime, part_marks

_WITH_CONTENT = ("system", "developer", "user", "tool", "function")


class _Part(Marked, kw_only=True):
    type: str
    text: str | UnsetType = UNSET
    refusal: str | UnsetType = UNSET


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _Custom(msgspec.Struct):
    name: str
    input: str


class _ToolCall(msgspec.Struct):
    function: _Function | None = None
    custom: _Custom | None = None
    id: str = ""
    type: Literal["function", "custom"] = "function"


class ChatMessage(Marked, kw_only=True):
    """One message as it was sent."""

    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    # What an assistant said instead of an answer.
    refusal: str | None = None
    # Before tools there were functions.
    function_call: _Function | None = None
    reasoning_content: str | None = None
    # vLLM's later name of the same.
    reasoning: str | None = None


def effort(level: str | None) -> Json:
    """Template variables for a reasoning effort: "none" turns off what most templates switch."""
    if level is None:
        return {}
    return {"enable_thinking": False} if level == "none" else {"reasoning_effort": level}


def messages(sent: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The conversation. Raises `InvalidRequest` and `Unsupported`."""
    return tuple([_message(index, message) for index, message in enumerate(sent)])


def cache_points(sent: Sequence[ChatMessage], found: Sequence[Message]) -> tuple[CachePoint, ...]:
    """Where messages, or parts of them, are marked; `found`: what `messages` made of `sent`."""
    points: list[CachePoint] = []
    for index, message in enumerate(sent):
        parts = message.content if isinstance(message.content, list) else []
        whole = lifetime((message,))
        marks = [] if whole is None else [(WHOLE, whole)]
        marks += part_marks(parts)
        if marks:
            points += points_of(index, found[index], marks)
    return tuple(points)


def _message(index: int, message: ChatMessage) -> Message:
    where = f"messages[{index}]"
    content = message.refusal if message.content is None else message.content
    role = message.role
    if role in _WITH_CONTENT:
        if content is None:
            problem = f"Invalid value for '{where}.content': it is missing."
            raise InvalidRequest(problem, param=f"{where}.content")
    elif role != "assistant":
        problem = (
            f"Invalid value: '{role[:40]}'. Supported values are: "
            "'system', 'developer', 'user', 'assistant', 'tool' and 'function'."
        )
        raise InvalidRequest(problem, param=f"{where}.role")
    legacy = role == "function"
    return Message(
        role="tool" if legacy else role,
        content=_parts(where, content) if isinstance(content, list) else content,
        name=message.name,
        tool_calls=_calls(where, message),
        tool_call_id=_legacy_id(message.name) if legacy else message.tool_call_id,
        reasoning_content=message.reasoning_content or message.reasoning,
    )


def _calls(where: str, message: ChatMessage) -> tuple[Json, ...] | None:
    called = message.function_call
    if called is not None:
        return (_call(_legacy_id(called.name), called),)
    found: list[Json] = []
    for index, call in enumerate(message.tool_calls or ()):
        function, custom = call.function, call.custom
        if call.type == "custom" and custom is not None:
            # As the model saw and wrote it.
            text = msgspec.json.encode({"input": custom.input}).decode()
            function = _Function(custom.name, text)
        if function is None:
            missing = f"{where}.tool_calls[{index}].{call.type}"
            raise InvalidRequest(f"Missing required parameter: '{missing}'.", param=missing)
        found.append(_call(call.id, function))
    return tuple(found) or None


def _call(call_id: str, function: _Function) -> Json:
    said = {"name": function.name, "arguments": function.arguments}
    return {"function": said, "id": call_id, "type": "function"}


def _legacy_id(name: str | None) -> str:
    # Functions were called one at a time and had no ids; templates pair calls and results by them.
    return f"call_{name}"


def _parts(where: str, parts: Sequence[_Part]) -> tuple[TextPart, ...]:
    found: list[TextPart] = []
    for index, part in enumerate(parts):
        param = f"{where}.content[{index}]"
        if part.type not in ("text", "refusal"):
            problem = f"Content of type {part.type[:40]!r} is not supported; only text is."
            raise Unsupported(problem, param=param)
        text = part.text if part.type == "text" else part.refusal
        if text is UNSET:
            raise InvalidRequest(f"'{param}.{part.type}' is missing.", param=f"{param}.{part.type}")
        found.append(TextPart(text))
    return tuple(found)
