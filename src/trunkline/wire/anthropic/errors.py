"""Errors in Anthropic's shape.

    {"type": "error", "error": {"type": "...", "message": "..."}, "request_id": "..."}

The id is that of the `request-id` header; it is left out where nobody has told it.

Types and statuses: platform.claude.com/docs/en/api/errors and the official client's
`types/shared/error_object.py` and `_exceptions.py` (anthropic 2.11, read 2026-11-21). The client
picks its exception by HTTP status; within a stream, by the type in an `error` event.
"""

from __future__ import annotations

import re
from typing import TypeVar

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.core.outline import FAULTS
from trunkline.wire.one_line import Encoder

# kind -> type. What is not listed is an invalid request below 500, else a fault of ours.
_TYPES = {
    "unauthenticated": "authentication_error",
    "permission_denied": "permission_error",
    "not_found": "not_found_error",
    "model_not_found": "not_found_error",
    "payload_too_large": "request_too_large",
    "queue_full": "rate_limit_error",
    "rate_limited": "rate_limit_error",
    "request_timeout": "timeout_error",
    "upstream_timeout": "timeout_error",
    "cancelled": "api_error",
    "unavailable": "overloaded_error",
}
# kind -> what the client looks for in `details`, to send the whole conversation again
# (anthropic 2.11, `lib/threads/_thread_state.py`).
_CODES = {"previous_not_found": "thread_not_found"}
# Where Anthropic's status is not the usual one.
_STATUSES = {"unprocessable": 400, "unavailable": 529}

# How a prompt beyond the context is told elsewhere: by our front, by vLLM and by OpenAI.
_TOO_LONG = re.compile(
    r"maximum context length is (\d+) tokens\b.*?requested (\d+) tokens(?: \((\d+) in the)?"
)

# "[3]" of a path as msgspec spells it; "[...]" stands for any key or index.
_INDEX = re.compile(r"\[(\d+|\.\.\.)\]")


class _Details(msgspec.Struct):
    error_code: str


class _Error(msgspec.Struct):
    type: str
    message: str
    details: _Details | UnsetType = UNSET


class _Body(msgspec.Struct, tag_field="type", tag="error"):
    error: _Error
    request_id: str | UnsetType = UNSET


_encoder = Encoder()

T = TypeVar("T")


def status(error: TrunklineError) -> int:
    """HTTP status of `error`."""
    return _STATUSES.get(error.kind, error.status)


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response."""
    default = "invalid_request_error" if error.status < 500 else "api_error"
    code = _CODES.get(error.kind)
    details = UNSET if code is None else _Details(code)
    shown = _Error(_TYPES.get(error.kind, default), _message(error), details)
    return _encoder.encode(_Body(shown, error.request_id or UNSET))


def _message(error: TrunklineError) -> str:
    """Anthropic's words where clients look for them, to make their conversation shorter.

    They are those of litellm 1.106 (`exception_mapping_utils.py`), which reads and writes them.
    """
    if error.kind != "context_overflow":
        return error.message
    numbers = _TOO_LONG.search(error.message)
    if numbers is None:
        return f"prompt is too long: {error.message}"
    most, asked, prompt = numbers.groups()
    return f"prompt is too long: {prompt or asked} tokens > {most} maximum"


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed; no `message_stop` follows."""
    return b"event: error\ndata: %b\n\n" % render_error(error)


def decode(decoder: msgspec.json.Decoder[T], body: bytes | bytearray | Raw, where: str = "") -> T:
    """Decode a body, or its part at `where`; or raise `InvalidRequest` that names what is wrong."""
    try:
        return decoder.decode(body)
    except FAULTS as error:
        raise _malformed(error, where) from error


def _malformed(error: Exception, where: str) -> InvalidRequest:
    if isinstance(error, msgspec.ValidationError):
        # "Expected `int` >= 1 - at `$.messages[0].role`" -> "messages.0.role: Expected ...".
        reason, _, path = str(error).partition(" - at `$")
        path = _INDEX.sub(r".\1", where + path.rstrip("`")).lstrip(".")
        return InvalidRequest(f"{path}: {reason}" if path else reason, param=path or None)
    if isinstance(error, RecursionError):
        return InvalidRequest("The request body is nested too deeply.")
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return InvalidRequest(f"The request body is not valid JSON: {reason}")
