"""What servers say in the JSON of an error, and the error that it means.

`failures` goes by status and wording; here the words that name the kind of an error count first.
Sources (read 2026-11-21): OpenAI's platform.openai.com/docs/guides/error-codes; Azure's
learn.microsoft.com/azure/ai-foundry/openai/concepts/content-filter (the code is in `innererror`);
Anthropic's platform.claude.com/docs/en/api/errors; how vLLM, SGLang, llama.cpp and TGI word a
context that is too small is in tests/wire/test_told.py.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    PayloadTooLarge,
    PreviousNotFound,
    RateLimited,
    TrunklineError,
    UpstreamFailed,
    UpstreamRefused,
)
from trunkline.core.outline import FAULTS
from trunkline.wire.client import Head
from trunkline.wire.failures import failure, rejected, retry_after_of, shown

_any = msgspec.json.Decoder()
_NULL = Raw(b"null")

# Longest body that is looked into, in bytes.
_MOST_BODY = 256 << 10
# Longest pause that is believed, in seconds.
_MOST_PAUSE = 86_400.0

_OVERFLOW = frozenset(
    ("context_length_exceeded", "exceed_context_size_error", "context_window_exceeded")
)
_OVERFLOW_WORDS = re.compile(
    r"exceed context limit|longer than the (?:maximum|model)|prompt too long"
    r"|max_new_tokens`? must be <=|reduce the length of the",
    re.IGNORECASE,
)
_REFUSED = frozenset(
    (
        "content_filter",
        "content_policy_violation",
        "moderation_blocked",
        "responsibleaipolicyviolation",
        "invalid_prompt",
    )
)
_REFUSED_WORDS = re.compile(
    r"was flagged|content exists risk|safety system|usage polic", re.IGNORECASE
)
# OpenAI's 400 has the code; vLLM's is a 404 with these words alone.
_PREVIOUS = "previous_response_not_found"
_PREVIOUS_WORDS = re.compile(r"response with id \S+ not found", re.IGNORECASE)
_QUOTA = frozenset(("insufficient_quota", "billing_error", "billing_hard_limit_reached"))
_MODEL = frozenset(("model_not_found", "invalid_model", "deploymentnotfound", "not_found_error"))
_KEY = frozenset(("authentication_error", "permission_error", "invalid_api_key"))
_RATE = frozenset(("rate_limit_error", "rate_limit_exceeded", "429"))
_INVALID = frozenset(
    ("invalid_request_error", "badrequesterror", "unsupported_parameter", "400", "422")
)


class Told(msgspec.Struct, frozen=True):
    """What an error says of itself."""

    message: str
    # All words that may name its kind, in lower case.
    codes: frozenset[str] = frozenset()
    # The field at fault, in the server's dialect.
    param: str | None = None


class Reports(msgspec.Struct):
    """What an answer in OpenAI's dialects may be instead: an error."""

    error: Raw = _NULL
    # "error": vLLM's before 0.10, the error itself.
    object: str | None = None

    def check(self, body: bytes) -> None:
        """Raise the error that `body`, from which this was decoded, is."""
        error = self.error
        if self.object == "error" or (error is not _NULL and bytes(error) != b"null"):
            raise reported(_any.decode(body))


def refusal(head: Head, body: bytes) -> TrunklineError:
    """The error that a response with a status other than 2xx means."""
    told = _read(body)
    pause = _pause(head)
    status, codes = head.status, told.codes
    if codes & _QUOTA or status == 402:
        return UpstreamRefused(f"The backend's quota for our key is used up (HTTP {status}).")
    if status == 429:
        return failure(head, told.message, retry_after=pause)
    if (named := _named(told)) is not None:
        return named
    if status in (401, 403):
        # The server's own words may show a part of our key.
        return UpstreamRefused(f"The backend refused our credentials (HTTP {status}).")
    if codes & _MODEL or status == 405:
        return UpstreamRefused(f"The backend refused (HTTP {status}): {shown(told.message)}")
    if status == 413:
        return PayloadTooLarge(shown(told.message) or "The backend finds the request too large.")
    if status in (400, 422):
        return _rejected(told)
    return failure(head, told.message, retry_after=pause)


def reported(value: Any) -> TrunklineError:
    """The error that a server reports within an answer that has begun."""
    told = told_by(value)
    said = shown(told.message) or "no reason given"
    if told.codes & _QUOTA:
        return UpstreamRefused("The backend's quota for our key is used up.")
    if told.codes & _RATE:
        return RateLimited(f"The backend takes no more for now: {said}")
    if (named := _named(told)) is not None:
        return named
    if told.codes & _KEY:
        return UpstreamRefused("The backend refused our credentials.")
    if told.codes & _MODEL:
        return UpstreamRefused(f"The backend refused: {said}")
    if told.codes & _INVALID:
        return _rejected(told)
    return UpstreamFailed(f"The backend failed: {said}")


def _named(told: Told) -> TrunklineError | None:
    if told.codes & _OVERFLOW or _OVERFLOW_WORDS.search(told.message):
        return ContextOverflow(shown(told.message), param=told.param)
    if told.codes & _REFUSED or _REFUSED_WORDS.search(told.message):
        return ContentRefused(shown(told.message), param=told.param)
    if _PREVIOUS in told.codes or _PREVIOUS_WORDS.search(told.message):
        return PreviousNotFound(shown(told.message), param="previous_response_id")
    return None


def _rejected(told: Told) -> InvalidRequest:
    error = rejected(told.message or "no reason given")
    return type(error)(error.message, param=told.param)


def _pause(head: Head) -> float | None:
    """Seconds to stay away; OpenAI and Azure say them in milliseconds too."""
    try:
        pause = float(head.headers["retry-after-ms"]) / 1000
    except (KeyError, ValueError):
        found = retry_after_of(head)
        return None if found is None else min(found, _MOST_PAUSE)
    return min(pause, _MOST_PAUSE) if pause >= 0 else None


def _read(body: bytes) -> Told:
    """What the body of an error says; of one that is not JSON, its first line."""
    value: Any = None
    if len(body) <= _MOST_BODY:
        try:
            value = msgspec.json.decode(body)
        except FAULTS:
            value = None
    if isinstance(value, dict | list):
        return told_by(value)
    text = body[:1000].decode(errors="replace").strip()
    return Told("" if text.startswith("<") else text.partition("\n")[0])


def told_by(value: Any) -> Told:
    """What the JSON of an error says.

    OpenAI and Anthropic: {"error": {"message", "type", "code", "param"}}; vLLM before 0.10 without
    "error"; others {"error": "text"}; FastAPI: {"detail": ...}.
    """
    if isinstance(value, list):
        value = value[0] if value else None
    if not isinstance(value, dict):
        return Told(_text(value))
    inner = value.get("error")
    source = inner if isinstance(inner, dict) else value
    nested = source.get("innererror")
    places = [source, nested] if isinstance(nested, dict) else [source]
    texts = [inner if isinstance(inner, str) else None]
    texts += [_text(source.get(name)) for name in ("message", "detail")]
    codes = [place.get(name) for place in places for name in ("code", "type", "status")]
    param = source.get("param")
    return Told(
        next(filter(None, texts), ""),
        frozenset(str(code).lower() for code in codes if isinstance(code, str | int)),
        param if isinstance(param, str) and param else None,
    )


def _text(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return msgspec.json.encode(value).decode()
