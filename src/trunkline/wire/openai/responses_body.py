"""The response object of the Responses API, and the items of its output.

Shapes: the official client's `types/responses/response.py`, `response_output_item.py` and
`response_usage.py` (openai 3.52), and the examples of OpenAI's OpenAPI description (commit
f85dbe2 of github.com/openai/openai-openapi, 2026-08-21). Read 2026-11-21.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.errors import TrunklineError
from trunkline.core.types import Usage
from trunkline.wire.openai.answers import encoder
from trunkline.wire.openai.chat_answer import Token
from trunkline.wire.openai.errors import render_error

Status = Literal["in_progress", "completed", "incomplete", "failed"]


class OutputText(msgspec.Struct, tag_field="type", tag="output_text"):
    """What is said."""

    text: str
    annotations: tuple[()] = ()
    logprobs: list[Token] | UnsetType = UNSET


class ReasoningText(msgspec.Struct):
    """What is thought; `type` tells the whole from a summary."""

    text: str
    type: Literal["reasoning_text", "summary_text"]


class MessageItem(msgspec.Struct, tag_field="type", tag="message"):
    """An answer."""

    id: str
    status: Status
    content: list[OutputText]
    role: Literal["assistant"] = "assistant"


class ReasoningItem(msgspec.Struct, tag_field="type", tag="reasoning"):
    """The thoughts before an answer."""

    id: str
    summary: list[ReasoningText]
    content: list[ReasoningText] | UnsetType = UNSET
    encrypted_content: str | UnsetType = UNSET
    status: Status | UnsetType = UNSET


class FunctionCallItem(msgspec.Struct, tag_field="type", tag="function_call"):
    """A call of a function."""

    id: str
    status: Status
    call_id: str
    name: str
    arguments: str
    namespace: str | UnsetType = UNSET


class CustomCallItem(msgspec.Struct, tag_field="type", tag="custom_tool_call"):
    """A call of a custom tool."""

    id: str
    status: Status
    call_id: str
    name: str
    input: str
    namespace: str | UnsetType = UNSET


OutputItem = MessageItem | ReasoningItem | FunctionCallItem | CustomCallItem


class _InputDetails(msgspec.Struct):
    cached_tokens: int
    # Writing into the prefix cache of a model that runs here costs nothing.
    cache_write_tokens: int


class _OutputDetails(msgspec.Struct):
    reasoning_tokens: int


class ResponseUsage(msgspec.Struct):
    """`usage`."""

    input_tokens: int
    input_tokens_details: _InputDetails
    output_tokens: int
    output_tokens_details: _OutputDetails
    total_tokens: int


class ResponseError(msgspec.Struct):
    """`error` of a response that failed."""

    code: str
    message: str


class Reasoning(msgspec.Struct):
    """`reasoning`, sent and sent back."""

    effort: str | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None


class AskedReasoning(Reasoning):
    """`reasoning` as it is sent; what more it says than is sent back are notes."""

    # The older name of `summary`.
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    context: str | None = None
    mode: str | None = None


class ResponseBody(msgspec.Struct, kw_only=True):
    """The response object."""

    id: str
    object: Literal["response"] = "response"
    created_at: int
    status: Status = "in_progress"
    completed_at: int | None = None
    background: Literal[False] = False
    error: ResponseError | None = None
    incomplete_details: dict[str, str] | None = None
    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    model: str
    # Raw: as whoever began the response had it.
    output: list[OutputItem | Raw] = []
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | UnsetType
    reasoning: Reasoning
    safety_identifier: str | UnsetType
    store: bool
    temperature: float
    text: Any
    tool_choice: Raw
    tools: Sequence[Raw]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"] = "disabled"
    usage: ResponseUsage | None = None
    user: str | None
    metadata: dict[str, str]


def response_usage(usage: Usage) -> ResponseUsage:
    """`usage` in the shape of this API."""
    return ResponseUsage(
        usage.prompt_tokens,
        _InputDetails(usage.cached_tokens, usage.cache_write_tokens),
        usage.completion_tokens,
        _OutputDetails(usage.reasoning_tokens),
        usage.prompt_tokens + usage.completion_tokens,
    )


def response_error(error: TrunklineError) -> ResponseError:
    """`error` in a response, with one of the codes that the API lists."""
    if error.kind == "queue_full":
        code = "rate_limit_exceeded"
    else:
        code = "server_error" if error.status >= 500 else "invalid_prompt"
    return ResponseError(code, error.message)


class _ErrorFields(msgspec.Struct):
    message: str
    param: str | None
    code: str | None


class _ErrorEnvelope(msgspec.Struct):
    error: _ErrorFields


def error_event(error: TrunklineError, sequence: int) -> bytes:
    """The event of a stream that fails without a response to say so."""
    fields = msgspec.json.decode(render_error(error), type=_ErrorEnvelope).error
    body = {
        "type": "error",
        "sequence_number": sequence,
        "code": fields.code or "server_error",
        "message": fields.message,
        "param": fields.param,
    }
    return b"event: error\ndata: %b\n\n" % encoder.encode(body)
