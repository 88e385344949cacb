"""Golden transcripts, and the codec driven as the server drives it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from trunkline.core.types import (
    ChatInput,
    Delta,
    Event,
    Message,
    Request,
    RowFinished,
    Timing,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.anthropic.messages import MessagesAsk, decode_messages
from trunkline.wire.codec import Answer, Incoming

GOLDEN = Path(__file__).parent.parent / "golden" / "anthropic"
HELLO = [{"role": "user", "content": "Hello!"}]
ANSWER = Answer("msg_01", "caboose", 1_795_226_400, "fp")


def golden(name: str) -> Any:
    """A transcript: one value, or the data of the events of a stream."""
    text = (GOLDEN / name).read_text()
    return events(text.encode()) if name.endswith(".sse") else json.loads(text)


def events(sse: bytes) -> list[Any]:
    """The data of each server-sent event; its name must be its type."""
    assert sse.endswith(b"\n\n")
    found = []
    for part in sse.decode().removesuffix("\n\n").split("\n\n"):
        name, data = part.split("\n")
        value = json.loads(data.removeprefix("data: "))
        assert name == f"event: {value['type']}"
        found.append(value)
    return found


def ask(**fields: Any) -> MessagesAsk:
    """A decoded call; `messages` and `max_tokens` are given unless `fields` give them."""
    body = {"max_tokens": 100, "messages": HELLO, **fields}
    return decode_messages(Incoming(json.dumps(body).encode()))


def request(**fields: Any) -> Request:
    """Its request."""
    (one,) = ask(**fields).requests("msg_1", "m", "")
    return one


def chat(**fields: Any) -> ChatInput:
    """Its conversation."""
    one = request(**fields).input
    assert isinstance(one, ChatInput)
    return one


def said(*messages: tuple[str, Any], **fields: Any) -> tuple[Message, ...]:
    """The messages of turns: (role, content)."""
    sent = [{"role": role, "content": content} for role, content in messages]
    return chat(messages=sent, **fields).messages


def tool(name: str, **fields: Any) -> dict[str, Any]:
    """A definition."""
    return {"name": name, "input_schema": {"type": "object", "properties": {}}, **fields}


def text(content: str) -> Delta:
    """Text of the answer."""
    return Delta("id", 0, content, (1,))


def thought(content: str) -> Delta:
    """Text of the thinking before it."""
    return Delta("id", 0, "", (1,), reasoning=content)


def called(index: int, arguments: str, name: str | None = None) -> Delta:
    """More of a tool call; the first piece has its name."""
    call = ToolCallDelta(index, f"call_{index + 1}" if name else None, name, arguments)
    return Delta("id", 0, "", (1,), tool_calls=(call,))


def ended(reason: Any = "stop", stop: str | int | None = None) -> RowFinished:
    """The end of the answer."""
    return RowFinished("id", 0, reason, stop)


def answered(call: MessagesAsk, batches: Iterable[Sequence[Event]], usage: Usage) -> bytes:
    """The whole body for batches of events."""
    renderer = call.renderer(ANSWER)
    body = b"".join([renderer.take(0, batch) for batch in batches])
    return body + renderer.finish(usage, Timing())
