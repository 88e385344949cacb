"""`POST /v1/chat/completions`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.core.types import CachePoint, ChatInput, Message, Request
from trunkline.wire.cache_points import closed
from trunkline.wire.codec import Answer, Codec, Renderer
from trunkline.wire.openai.answers import stream_error
from trunkline.wire.openai.cache_marks import Marked, lifetime
from trunkline.wire.openai.chat_answer import ChatStream, ChatWhole, Shown
from trunkline.wire.openai.chat_messages import ChatMessage, cache_points, effort, messages
from trunkline.wire.openai.errors import render_error
from trunkline.wire.openai.fields import (
    COMMON_REFUSED,
    NOTHING,
    Count,
    Refusal,
    TopCount,
    asks,
    decode,
    include_usage,
    modest,
    sampling,
    stops,
)
from trunkline.wire.openai.formats import constraint, named_error
from trunkline.wire.openai.notes import Notes, explicit
from trunkline.wire.openai.prompt_details import PromptFields, check_prompt_logprobs
from trunkline.wire.openai.tools import Tools, chat_tools, legacy_tools

# Levels of nested values in `chat_template_kwargs`.
_MAX_DEPTH = 16

_refusal = Refusal(
    (
        *COMMON_REFUSED,
        "audio",
        "web_search_options",
        "moderation",
        "documents",
        "chat_template",
        "mm_processor_kwargs",
        "echo",
    ),
    # Without options the web is searched with the default ones.
    even_empty=("web_search_options",),
)
_notes = Notes(
    *("user", "safety_identifier", "metadata", "store", "service_tier", "verbosity", "prediction"),
    *("prompt_cache_key", "prompt_cache_retention", "prompt_cache_options"),
)


class ChatFields(PromptFields, kw_only=True):
    """The body. A model of ours does not look at its `notes`."""

    messages: Annotated[list[ChatMessage], Meta(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: TopCount | None = None
    modalities: list[str] | None = None
    tools: Raw = NOTHING
    tool_choice: Raw = NOTHING
    parallel_tool_calls: bool | None = None
    # Before tools there were these.
    functions: Raw = NOTHING
    function_call: Raw = NOTHING
    # Notes.
    safety_identifier: Raw = NOTHING
    metadata: Raw = NOTHING
    store: Raw = NOTHING
    service_tier: Raw = NOTHING
    prompt_cache_key: Raw = NOTHING
    prompt_cache_retention: Raw = NOTHING
    prompt_cache_options: Raw = NOTHING
    verbosity: Raw = NOTHING
    prediction: Raw = NOTHING
    # OpenRouter's; see `cache_marks`.
    cache_control: Raw = NOTHING
    reasoning_effort: Annotated[str, Meta(max_length=64)] | None = None
    # vLLM's.
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    # Known, and refused when they ask for something.
    audio: Raw = NOTHING
    web_search_options: Raw = NOTHING
    moderation: Raw = NOTHING
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
        self._legacy = asks(fields.functions)
        self._tools = _tools(fields)
        self._grammar = constraint(fields)
        self._input = _input(fields, self._tools)
        self._stop = stops(fields)
        self._notes = _notes.of(fields)
        self._beyond = _beyond(fields)
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
            grammar=self._grammar,
            tool_choice=self._tools.choice,
            tool_name=self._tools.name,
            parallel_tool_calls=fields.parallel_tool_calls is not False and not self._legacy,
            truncate_prompt=fields.truncate_prompt_tokens,
            priority=fields.priority or 0,
            tenant=tenant,
            cache_salt=fields.cache_salt or "",
            show_prompt=bool(fields.return_token_ids),
            prompt_logprobs=fields.prompt_logprobs,
            explicit=explicit(fields),
            notes=self._notes,
            beyond=self._beyond,
        )
        return (request,)

    def renderer(self, answer: Answer) -> Renderer:
        """Chunks for a stream, else one object."""
        fields = self._fields
        shown = Shown(
            logprobs=bool(fields.logprobs),
            functions=self._legacy,
            custom=self._tools.custom,
            prompt_logprobs=fields.prompt_logprobs,
            token_ids=bool(fields.return_token_ids),
        )
        if self.stream:
            return ChatStream(answer, shown, include_usage=self._include_usage)
        return ChatWhole(answer, shown)


def decode_chat(body: bytes | bytearray) -> ChatAsk:
    """Decode and check a body. Raises `InvalidRequest` and `Unsupported`."""
    fields = decode(_decoder, body)
    check_prompt_logprobs(fields)
    return ChatAsk(fields)


def _beyond(fields: ChatFields) -> Mapping[str, str]:
    found = _refusal.of(fields)
    if fields.modalities in (None, [], ["text"]):
        return found
    return {**found, "modalities": "'modalities' other than text are not supported."}


def _logprobs(fields: ChatFields) -> int | None:
    if fields.logprobs:
        return fields.top_logprobs or 0
    if fields.top_logprobs:
        problem = "'top_logprobs' is only allowed when 'logprobs' is true."
        raise InvalidRequest(problem, param="top_logprobs")
    return None


def _tools(fields: ChatFields) -> Tools:
    if not asks(fields.functions):
        return chat_tools(fields.tools, fields.tool_choice)
    if asks(fields.tools):
        problem = "'functions' and 'tools' exclude each other."
        raise InvalidRequest(problem, param="functions")
    return legacy_tools(fields.functions, fields.function_call)


def _input(fields: ChatFields, tools: Tools) -> ChatInput:
    going_on = bool(fields.continue_final_message)
    opening = fields.add_generation_prompt
    if going_on and opening:
        problem = "'continue_final_message' and 'add_generation_prompt' exclude each other."
        raise InvalidRequest(problem, param="continue_final_message")
    if going_on and fields.messages[-1].role != "assistant":
        problem = "'continue_final_message' needs an assistant message at the end."
        raise InvalidRequest(problem, param="continue_final_message")
    variables = fields.chat_template_kwargs or {}
    if variables and not modest(variables, _MAX_DEPTH):
        problem = f"Invalid value: deeper than {_MAX_DEPTH} levels, or an integer beyond 64 bits."
        raise InvalidRequest(problem, param="chat_template_kwargs")
    found = messages(fields.messages)
    return ChatInput(
        messages=found,
        tools=tools.definitions,
        template_kwargs=effort(fields.reasoning_effort) | variables,
        add_generation_prompt=not going_on if opening is None else opening,
        continue_final_message=going_on,
        cache_points=_cache_points(fields, found, tools),
    )


def _cache_points(
    fields: ChatFields, found: tuple[Message, ...], tools: Tools
) -> tuple[CachePoint, ...]:
    points = cache_points(fields.messages, found)
    whole = lifetime((Marked(fields.cache_control),))
    if whole is not None:
        points = closed(points, found, whole)
    if tools.lifetime is None:
        return points
    return (CachePoint("tools", ttl=tools.lifetime), *points)


def _named(error: TrunklineError) -> TrunklineError:
    return named_error(error, "response_format", "structured_outputs")


CHAT = Codec(
    "chatcmpl-",
    lambda incoming: decode_chat(incoming.body),
    lambda error: render_error(_named(error)),
    lambda error: stream_error(_named(error)),
    operation="openai.chat",
)
