"""Request fields that generate and chat share, and what becomes of them.

Source: `GenerateRequest`, `ChatRequest`, `ThinkValue`, `Duration` in api/types.go, and the handlers
in server/routes.go, of ollama/ollama fb30760 (2026-08-21). Unknown fields are ignored. `truncate`
and `shift` are accepted and never taken up: a prompt that does not fit is an error, not cut.
"""

from __future__ import annotations

import re
from typing import Any, TypeVar

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.outline import FAULTS
from trunkline.core.types import Grammar, Json, ModelCard
from trunkline.wire.ollama.errors import malformed, not_found
from trunkline.wire.ollama.options import Options, read_options
from trunkline.wire.openai.formats import json_schema

NOTHING = Raw(b"")

_LEVELS = ("high", "medium", "low", "max")
_MUST_BE = '"high", "medium", "low", "max", true, or false'
# Go's time.ParseDuration; a sign alone or no unit is an error, but "0" is not.
_DURATION = re.compile(r"([-+]?)(?:0|(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|μs|ms|s|m|h))+")
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600,
}
_MAX_LOGPROBS = 20

T = TypeVar("T")


class CommonFields(msgspec.Struct, kw_only=True):
    """What both routes accept."""

    model: str | None = None
    stream: bool | None = None
    format: Raw = NOTHING
    keep_alive: float | str | None = None
    options: dict[str, Any] | None = None
    think: Any = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    debug_render_only: bool | None = msgspec.field(name="_debug_render_only", default=None)


class Common(msgspec.Struct, frozen=True):
    """The fields of `CommonFields`, checked."""

    model: str
    stream: bool
    grammar: Grammar | None
    options: Options
    # None: not said, the template decides.
    think: bool | str | None
    # Seconds that the model is to stay loaded after this; negative = for ever, None = not said.
    keep_alive: float | None

    def template_kwargs(self) -> Json:
        """What templates call thinking: Qwen and others, DeepSeek and Granite, gpt-oss."""
        if self.think is None:
            return {}
        wanted = bool(self.think)
        variables: Json = {"enable_thinking": wanted, "thinking": wanted}
        if isinstance(self.think, str):
            # The highest that templates know.
            variables["reasoning_effort"] = "high" if self.think == "max" else self.think
        return variables

    def check(self, card: ModelCard) -> None:
        """Raise `Unsupported` for what the model cannot do. A card without facts says nothing."""
        if not card.context_length:
            return
        if self.think and "thinking" not in card.capabilities:
            raise Unsupported(f'"{self.model}" does not support thinking', param="think")
        if self.options.num_ctx > card.context_length:
            raise Unsupported(
                f'option "num_ctx" is {self.options.num_ctx}, but "{self.model}" is served with a '
                f"context of {card.context_length} tokens",
                param="options",
            )


def decode(decoder: msgspec.json.Decoder[T], body: bytes | bytearray) -> T:
    """Decode, or raise `InvalidRequest` that says what is wrong."""
    if not body.strip():
        raise InvalidRequest("missing request body")
    try:
        return decoder.decode(body)
    except FAULTS as error:
        raise malformed(error) from error


def common(fields: CommonFields) -> Common:
    """Check. Raises `InvalidRequest`, `Unsupported`."""
    top = fields.top_logprobs or 0
    if not 0 <= top <= _MAX_LOGPROBS:
        problem = f"top_logprobs must be between 0 and {_MAX_LOGPROBS}"
        raise InvalidRequest(problem, param="top_logprobs")
    if fields.debug_render_only:
        raise Unsupported("'_debug_render_only' is not supported", param="_debug_render_only")
    return Common(
        model=fields.model or "",
        stream=fields.stream is not False,
        grammar=_grammar(fields.format),
        options=read_options(fields.options, top if fields.logprobs else None),
        think=_think(fields.think),
        keep_alive=_seconds(fields.keep_alive),
    )


def named(fields: Common) -> None:
    """Raise `ModelNotFound` where no model is named, as generate does."""
    if not fields.model:
        raise not_found("")


def no_images(images: Any) -> None:
    """Raise `Unsupported` where there are images."""
    if images:
        raise Unsupported("'images' are not passed on: send text alone", param="images")


def _think(value: Any) -> bool | str | None:
    if value is None or isinstance(value, bool):
        return value
    if not isinstance(value, str):
        raise InvalidRequest(f"think must be a boolean or string ({_MUST_BE})", param="think")
    if value not in _LEVELS:
        problem = f'invalid think value: "{value[:40]}" (must be {_MUST_BE})'
        raise InvalidRequest(problem, param="think")
    return value


def _seconds(value: float | str | None) -> float | None:
    if not isinstance(value, str):
        return value
    if not _DURATION.fullmatch(value):
        problem = f'time: invalid duration "{value[:40]}"'
        raise InvalidRequest(problem, param="keep_alive")
    parts = _PART.findall(value)
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return -seconds if value.startswith("-") else seconds


def _grammar(raw: Raw) -> Grammar | None:
    text = bytes(raw).strip()
    if text in (b"", b"null", b'""'):
        return None
    if text == b'"json"':
        return Grammar("json_object")
    if not text.startswith(b"{"):
        shown = text[:40].decode(errors="replace")
        problem = f'invalid format: {shown}; expected "json" or a valid JSON Schema object'
        raise InvalidRequest(problem, param="format")
    return json_schema(Raw(text), strict=False)
