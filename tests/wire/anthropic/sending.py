"""What tests of the Messages speaker share: terms, and bodies as they go out."""

from __future__ import annotations

import functools
import json
from typing import Any

import pydantic
from anthropic.types.message_create_params import (
    MessageCreateParamsNonStreaming,
    MessageCreateParamsStreaming,
)

from tests.wire.client_support import terms
from trunkline.core.types import Json, Request
from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.client import Terms

SPEAKER = MessagesSpeaker()
TOOL = {
    "type": "function",
    "function": {
        "name": "f",
        "description": "d",
        "parameters": {"type": "object", "properties": {"a": {}}},
        "strict": True,
    },
}
CLAUDE = terms(
    "stream", "stream_usage", "tools", "tool_choice", "parallel_tool_calls", "json_schema",
    "top_k", "reasoning", "continue_final_message",
)  # fmt: skip
SCHEMA = '{"type":"object","properties":{},"additionalProperties":false}'


@functools.cache
def adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """What checks a body; making one takes long."""
    return pydantic.TypeAdapter(kind)


def call(call_id: str, arguments: str) -> Json:
    """A call of `TOOL`."""
    return {"id": call_id, "type": "function", "function": {"name": "f", "arguments": arguments}}


def named(model: str) -> Terms:
    """`CLAUDE`, for another model."""
    return Terms(model=model, features=CLAUDE.features)


def sent(request: Request, on: Terms = CLAUDE) -> Json:
    """The body that goes out; checked against the official client's types."""
    outgoing = SPEAKER.encode(request, on)
    assert (outgoing.method, outgoing.path) == ("POST", "/v1/messages")
    assert dict(outgoing.headers)["anthropic-version"] == "2023-06-01"
    body: Json = json.loads(outgoing.body)
    # The older version of the API has these; the client's types are the newer one's.
    checked = {key: body[key] for key in body if key not in ("temperature", "top_k", "top_p")}
    streams = body.get("stream", False)
    kind: Any = MessageCreateParamsStreaming if streams else MessageCreateParamsNonStreaming
    adapter(kind).validate_python(checked)
    return body
