"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import ChatInput, Message, Request, TextPart
from trunkline.wire.codec import Answer, Codec, Renderer
from trunkline.wire.openai.answers import stream_error
from trunkline.wire.openai.chat_answer import ChatStream, ChatWhole
from trunkline.wire.openai.errors import render_error
from trunkline.wire.openai.fields import (
    COMMON_REFUSED,
    NOTHING,
    CommonFields,
    Count,
    Refusal,
    TopCount,
    asks,
    decode,
    include_usage,
    plain_text,
    sampling,
    stops,
)

_refusal = Refusal(
    (
        *COMMON_REFUSED,
        "functions",
        "audio",
        "web_search_options",
        "documents",
        "chat_template",
        "mm_processor_kwargs",
        "echo",
    )
)


# Levels of nested values in `chat_template_kwargs`.
_MAX_DEPTH = 16


class _Part(msgspec.Struct):
    type: str
    text: str | UnsetType = UNSET


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    function: _Function
    id: str = ""
    type: Literal["function"] = "function"


class _Message(msgspec.Struct):
    role: str
    content: str | list[_Part] | None = None
    name: str | None = None
    tool_calls: list[_ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    # vLLM's later name of the same.
    reasoning: str | None = None


class ChatFields(CommonFields, kw_only=True):
    """The body. `prediction`, `user`, `metadata`, `store` and the like are ignored."""

    messages: Annotated[list[_Message], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopCount | None = None
    modalities: list[str] | None = None
    tools: Raw = NOTHING
    tool_choice: Raw = NOTHING
    reasoning_effort: str | None = None
    # vLLM's.
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # Known, and refused when they ask for something.
    functions: Raw = NOTHING
    audio: Raw = NOTHING
    web_search_options: Raw = NOTHING
    documents: Raw = NOTHING
    chat_template: Raw = NOTHING
    mm_processor_kwargs: Raw = NOTHING
    echo: Raw = NOTHING


_decoder = msgspec.json.Decoder(ChatFields)


class ChatAsk:
    """A decoded call."""

    def __init__(self, fields: ChatFields) -> None:
        self.model = fields.model or ""
        self.stream = bool(fields.stream)
        self._fields = fields
        self._include_usage = include_usage(fields)
        self._input = _input(fields)
        self._stop = stops(fields)
        self._sampling = sampling(
            fields,
            max_tokens=fields.max_completion_tokens or fields.max_tokens,
            logprobs=_logprobs(fields),
        )

    def requests(self, request_id: str, model: str, tenant: str) -> tuple[Request, ...]:
        """The one request."""
        fields = self._fields
        request = Request(
            id=request_id,
            model=model,
            input=self._input,
            sampling=self._sampling,
            n=fields.n or 1,
            stop=self._stop,
            include_stop=bool(fields.include_stop_str_in_output),
            skip_special_tokens=fields.skip_special_tokens is not False,
            tool_choice="none",
            priority=fields.priority or 0,
            tenant=tenant,
            cache_salt=fields.cache_salt or "",
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Chunks for a stream, else one object."""
        if self.stream:
            return ChatStream(answer, include_usage=self._include_usage)
        return ChatWhole(answer, logprobs=bool(self._fields.logprobs))


def decode_chat(body: bytes | bytearray) -> ChatAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    _refusal.check(fields)
    if asks(fields.tools) and bytes(fields.tool_choice) != b'"none"':
        problem = "'tools' is only supported with tool_choice \"none\"."
        raise Unsupported(problem, param="tools")
    plain_text(fields)
    if fields.modalities not in (None, [], ["text"]):
        raise Unsupported("'modalities' other than text are not supported.", param="modalities")
    return ChatAsk(fields)


def _logprobs(fields: ChatFields) -> int | None:
    if fields.logprobs:
        return fields.top_logprobs or 0
    if fields.top_logprobs:
        problem = "'top_logprobs' is only allowed when 'logprobs' is true."
        raise InvalidRequest(problem, param="top_logprobs")
    return None


def _input(fields: ChatFields) -> ChatInput:
    going_on = bool(fields.continue_final_message)
    opening = fields.add_generation_prompt
    if going_on and opening:
        problem = "'continue_final_message' and 'add_generation_prompt' exclude each other."
        raise InvalidRequest(problem, param="continue_final_message")
    if going_on and fields.messages[-1].role != "assistant":
        problem = "'continue_final_message' needs an assistant message at the end."
        raise InvalidRequest(problem, param="continue_final_message")
    variables = fields.chat_template_kwargs or {}
    if variables and not _modest(variables, _MAX_DEPTH):
        problem = f"Invalid value: deeper than {_MAX_DEPTH} levels, or an integer beyond 64 bits."
        raise InvalidRequest(problem, param="chat_template_kwargs")
    if fields.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", fields.reasoning_effort)
    return ChatInput(
        messages=tuple([_message(i, message) for i, message in enumerate(fields.messages)]),
        template_kwargs=variables,
        add_generation_prompt=not going_on if opening is None else opening,
        continue_final_message=going_on,
    )


def _modest(value: object, depth: int) -> bool:
    """Whether `value` can be sent on to another process; JSON allows more than MessagePack."""
    if isinstance(value, dict | list):
        inner = value.values() if isinstance(value, dict) else value
        return depth > 0 and all(_modest(one, depth - 1) for one in inner)
    return not isinstance(value, int) or -(2**63) <= value < 2**63


def _message(index: int, message: _Message) -> Message:
    where = f"messages[{index}]"
    content = message.content
    if message.role in ("system", "developer", "user", "tool"):
        if content is None:
            problem = f"Invalid value for '{where}.content': it is missing."
            raise InvalidRequest(problem, param=f"{where}.content")
    elif message.role != "assistant":
        problem = (
            f"Invalid value: '{message.role[:40]}'. Supported values are: "
            "'system', 'developer', 'user', 'assistant' and 'tool'."
        )
        raise InvalidRequest(problem, param=f"{where}.role")
    calls = message.tool_calls
    return Message(
        role=message.role,
        content=_parts(where, content) if isinstance(content, list) else content,
        name=message.name,
        tool_calls=tuple(msgspec.to_builtins(call) for call in calls) if calls else None,
        tool_call_id=message.tool_call_id,
        reasoning_content=message.reasoning_content or message.reasoning,
    )


def _parts(where: str, parts: Sequence[_Part]) -> tuple[TextPart, ...]:
    found: list[TextPart] = []
    for index, part in enumerate(parts):
        param = f"{where}.content[{index}]"
        if part.type != "text":
            problem = f"Content of type {part.type[:40]!r} is not supported; only text is."
            raise Unsupported(problem, param=param)
        if part.text is UNSET:
            raise InvalidRequest(f"'{param}.text' is missing.", param=f"{param}.text")
        found.append(TextPart(part.text))
    return tuple(found)


CHAT = Codec("chatcmpl-", lambda incoming: decode_chat(incoming.body), render_error, stream_error)
