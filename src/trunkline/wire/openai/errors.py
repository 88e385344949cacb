"""Errors in OpenAI's shape.

    {"error": {"message": "...", "type": "...", "param": null, "code": null}}

Shape and codes: platform.openai.com/docs/guides/error-codes and the official client's
`_exceptions.py` (openai 3.52, read 2026-11-21), which picks its exception by HTTP status and,
within a stream, raises `APIError` for an event that has `error`. Statuses of what OpenAI has no
equal for are vLLM's.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.wire.one_line import Encoder

# kind -> (type, code). What is not listed is an invalid request below 500, else a server error.
_NAMES = {
    "context_overflow": ("invalid_request_error", "context_length_exceeded"),
    "unsupported": ("invalid_request_error", "unsupported_parameter"),
    "previous_not_found": ("invalid_request_error", "previous_response_not_found"),
    "unauthenticated": ("invalid_request_error", "invalid_api_key"),
    "permission_denied": ("permission_error", "permission_denied"),
    "not_found": ("invalid_request_error", "not_found"),
    "model_not_found": ("invalid_request_error", "model_not_found"),
    "method_not_allowed": ("invalid_request_error", "method_not_supported"),
    "request_timeout": ("timeout_error", "request_timeout"),
    "payload_too_large": ("invalid_request_error", "payload_too_large"),
    "queue_full": ("rate_limit_error", "rate_limit_exceeded"),
    "engine_crashed": ("server_error", "engine_crashed"),
    "unavailable": ("server_error", "service_unavailable"),
}


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: str | None


class _Body(msgspec.Struct):
    error: _Error


_encoder = Encoder()


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response; within a stream, the data of its last event."""
    default = ("invalid_request_error" if error.status < 500 else "server_error", None)
    name, code = _NAMES.get(error.kind, default)
    return _encoder.encode(_Body(_Error(error.message, name, error.param, code)))


def malformed(error: Exception, where: str = "") -> TrunklineError:
    """What is wrong with a body, or the part of one at `where`, that msgspec could not decode."""
    if isinstance(error, msgspec.ValidationError):
        # "Expected `int` >= 1 - at `$.n`" -> param "n".
        reason, _, path = str(error).partition(" - at `$")
        param = (where + path.rstrip("`")).lstrip(".") or None
        where = f"Invalid value for '{param}'" if param else "Invalid request body"
        return InvalidRequest(f"{where}: {_lower_first(reason)}.", param=param)
    if isinstance(error, RecursionError):
        return InvalidRequest("The JSON body of your request is nested too deeply.")
    reason = "it is not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
    return InvalidRequest(
        "We could not parse the JSON body of your request. (HINT: This likely means you aren't "
        f"using your HTTP library correctly. The API expects a JSON payload; {reason}.)"
    )


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
