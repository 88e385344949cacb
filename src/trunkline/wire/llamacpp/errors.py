"""Errors in llama.cpp's shape: {"error": {"code", "message", "type"}}.

Source: `format_error_response` in tools/server/server-common.cpp of llama.cpp b11549. Statuses that
it has no type for get the nearest one.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.wire.one_line import Encoder

# kind -> (type, code); what is not listed is an invalid request below 500, else a server error.
_TYPES = {
    "unsupported": ("not_supported_error", 501),
    "context_overflow": ("exceed_context_size_error", 400),
    "unprocessable": ("invalid_request_error", 400),
    "unauthenticated": ("authentication_error", 401),
    "permission_denied": ("permission_error", 403),
    "not_found": ("not_found_error", 404),
    "model_not_found": ("not_found_error", 404),
    "method_not_allowed": ("not_found_error", 405),
    "queue_full": ("unavailable_error", 503),
    "unavailable": ("unavailable_error", 503),
}

_encoder = Encoder()


class _Error(msgspec.Struct):
    code: int
    message: str
    type: str


class _Body(msgspec.Struct):
    error: _Error


def status(error: TrunklineError) -> int:
    """HTTP status of `error`; the same as its `code`."""
    return _named(error)[1]


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response."""
    name, code = _named(error)
    return _encoder.encode(_Body(_Error(code, error.message, name)))


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed."""
    return b"data: %b\n\n" % render_error(error)


def malformed(error: Exception) -> TrunklineError:
    """What is wrong with a body that msgspec could not decode."""
    if isinstance(error, msgspec.ValidationError):
        # "Expected `int`, got `str` - at `$.n_predict`" -> "n_predict".
        reason, _, path = str(error).partition(" - at `$")
        param = path.rstrip("`").lstrip(".") or None
        where = f"Field '{param}': " if param else ""
        return InvalidRequest(f"{where}{reason}", param=param)
    if isinstance(error, RecursionError):
        return InvalidRequest("parse error: the JSON is nested too deeply")
    return InvalidRequest(f"parse error: {error}")


def _named(error: TrunklineError) -> tuple[str, int]:
    default = "invalid_request_error" if error.status < 500 else "server_error"
    return _TYPES.get(error.kind, (default, error.status))
