"""The body of a request, and the parts of it that say how to answer.

Fields: the official client's `types/message_create_params.py` and
`types/message_count_tokens_params.py` (anthropic 2.11, API version 2026-10-21); `temperature`,
`top_k` and `top_p` are those of API version 2023-06-01. Read 2026-11-21.

What else a body may have says nothing about a model that runs here; it is noted for backends that
have a place for it (`notes`). Nor does `cache_control` matter here: every prompt goes through the
prefix cache. It decides how usage is spelled, and is passed on to backends that want to be told.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar, Json, SamplingParams
from trunkline.wire.anthropic.content import Block, CacheControl, Turn
from trunkline.wire.anthropic.errors import decode
from trunkline.wire.openai.fields import NOTHING, PositiveShare, asks
from trunkline.wire.openai.tools import MAX_TOOLS

_MAX_STOPS = 64
# Anthropic's own limit.
_MAX_MESSAGES = 100_000

# Levels of Anthropic's `effort` that templates with a `reasoning_effort` do not know.
_EFFORTS = {"xhigh": "high", "max": "high"}


class ToolChoice(msgspec.Struct):
    """`tool_choice`."""

    type: Literal["auto", "any", "tool", "none"]
    name: str = ""
    disable_parallel_tool_use: bool | None = None


class Thinking(msgspec.Struct):
    """`thinking`."""

    type: Literal["enabled", "disabled", "adaptive", "between_tools"]
    budget_tokens: int | None = None
    # "omitted": thinking blocks have no text.
    display: str | None = None


class Format(msgspec.Struct):
    """`output_config.format`."""

    type: Literal["json_schema"]
    schema: Raw


class OutputConfig(msgspec.Struct):
    """`output_config`."""

    effort: str | None = None
    format: Format | None = None


class PromptFields(msgspec.Struct, kw_only=True):
    """What a prompt is made of; all that `count_tokens` wants."""

    messages: Annotated[list[Turn], Meta(min_length=1, max_length=_MAX_MESSAGES)]
    model: str | None = None
    system: str | list[Block] | None = None
    tools: Annotated[list[dict[str, Any]], Meta(max_length=MAX_TOOLS)] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    cache_control: CacheControl | None = None


class MessagesFields(PromptFields, kw_only=True):
    """The body of `POST /v1/messages`."""

    # 0: the prompt goes into the prefix cache, and nothing is said.
    max_tokens: Annotated[int, Meta(ge=0, le=2**31 - 1)]
    stream: bool | None = None
    stop_sequences: Annotated[list[str], Meta(max_length=_MAX_STOPS)] | None = None
    temperature: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0, le=2**31 - 1)] | None = None
    top_p: PositiveShare | None = None
    # The name that `output_config.format` had while it was in beta.
    output_format: Raw = NOTHING
    # What is noted, and what is refused (`noted`).
    billing_policy: Any = None
    compaction: Any = None
    container: Any = None
    context_management: Any = None
    diagnostics: Any = None
    fallback_credit_token: Any = None
    fallbacks: Any = None
    inference_geo: Any = None
    mcp_servers: Any = None
    metadata: Any = None
    service_tier: Any = None
    speed: Any = None
    thread: Any = None


_format = msgspec.json.Decoder(Format)


def template_variables(fields: PromptFields) -> Json:
    """What thinking and effort say to the chat template."""
    variables: Json = {}
    thinking = fields.thinking.type if fields.thinking else None
    if thinking == "disabled":
        variables["enable_thinking"] = False
    elif thinking in ("enabled", "adaptive"):
        variables["enable_thinking"] = True
        if fields.thinking and fields.thinking.budget_tokens is not None:
            variables["thinking_budget"] = fields.thinking.budget_tokens
    effort = fields.output_config.effort if fields.output_config else None
    if effort is not None:
        variables["reasoning_effort"] = _EFFORTS.get(effort, effort)
    return variables


def constraint(fields: MessagesFields) -> Grammar | None:
    """The schema that the answer must follow. Raises `InvalidRequest`."""
    wanted = fields.output_config.format if fields.output_config else None
    if wanted is None and asks(fields.output_format):
        wanted = decode(_format, fields.output_format, "output_format")
    if wanted is None:
        return None
    schema = bytes(wanted.schema).strip()
    if not schema.startswith(b"{"):
        where = "output_config.format.schema"
        raise InvalidRequest(f"{where}: Expected an object", param=where)
    return Grammar("json_schema", schema.decode())


def stops(fields: MessagesFields) -> tuple[str, ...]:
    """Stop strings. Raises `InvalidRequest` for an empty one."""
    found = tuple(fields.stop_sequences or ())
    if "" in found:
        where = "stop_sequences"
        raise InvalidRequest(f"{where}: each stop sequence must have characters", param=where)
    return found


def sampling(fields: MessagesFields) -> SamplingParams:
    """Sampling parameters; what was not given is left at its neutral default."""
    given = {
        "temperature": fields.temperature,
        "top_k": fields.top_k,
        "top_p": fields.top_p,
    }
    wanted: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    # A prompt that is only to be cached still needs one step of its own.
    return SamplingParams(max_tokens=fields.max_tokens or 1, **wanted)


def explicit(fields: MessagesFields) -> tuple[str, ...]:
    """Sampling parameters that were given, though the value is the neutral one."""
    given = {"temperature": fields.temperature, "top_p": fields.top_p}
    return tuple([name for name, value in given.items() if value == 1])
