"""The messages of `/api/chat`, as a chat template sees them.

Shapes: `Message`, `ToolCall` in api/types.go of ollama/ollama fb30760 (2026-08-21). Arguments are
objects there. Ollama pairs results with calls by `tool_name` and order; ids are optional.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Json, Message
from trunkline.wire.ollama.fields import NOTHING, no_images


class _Function(msgspec.Struct):
    name: str = ""
    arguments: Raw = NOTHING


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str | None = None


class ChatMessage(msgspec.Struct):
    """One message as it was sent."""

    role: str = ""
    content: str | None = None
    thinking: str | None = None
    images: list[Any] | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_name: str | None = None
    tool_call_id: str | None = None


def messages(sent: Sequence[ChatMessage]) -> tuple[Message, ...]:
    """The conversation. Raises `InvalidRequest` and `Unsupported`."""
    found: list[Message] = []
    # Calls without a result: (id, name).
    waiting: list[tuple[str, str]] = []
    for index, message in enumerate(sent):
        where = f"messages[{index}]"
        role = message.role.lower()
        if not role:
            raise InvalidRequest(f"{where}: role is required", param=f"{where}.role")
        no_images(message.images)
        calls = _calls(message, where, index)
        if calls:
            waiting = [(call["id"], call["function"]["name"]) for call in calls]
        answered = message.tool_call_id
        if role == "tool" and not answered:
            answered = _answered(waiting, message.tool_name)
        found.append(
            Message(
                role=role,
                content=message.content or "",
                name=message.tool_name,
                tool_calls=calls or None,
                tool_call_id=answered,
                reasoning_content=message.thinking or None,
            )
        )
    return tuple(found)


def goes_on(conversation: Sequence[Message]) -> bool:
    """Whether the last message is an answer to be continued, as Ollama's templates do."""
    last = conversation[-1]
    return last.role == "assistant" and bool(last.content) and not last.tool_calls


def _calls(message: ChatMessage, where: str, index: int) -> tuple[Json, ...]:
    return tuple(
        {
            # Nine letters and digits: Mistral's templates insist.
            "id": call.id or f"call{index % 1000:03}{number % 100:02}",
            "type": "function",
            "function": {
                "name": call.function.name,
                "arguments": _arguments(call.function.arguments, f"{where}.tool_calls[{number}]"),
            },
        }
        for number, call in enumerate(message.tool_calls or ())
    )


def _arguments(raw: Raw, where: str) -> str:
    text = bytes(raw).strip()
    if text in (b"", b"null"):
        return "{}"
    if not text.startswith(b"{"):
        param = f"{where}.function.arguments"
        raise InvalidRequest(f"{param} must be an object", param=param)
    return text.decode()


def _answered(waiting: list[tuple[str, str]], name: str | None) -> str | None:
    """The id of the call that a result without one belongs to; takes it off `waiting`."""
    if not waiting:
        return None
    index = next((i for i, (_, called) in enumerate(waiting) if called == name), 0)
    return waiting.pop(index)[0]
