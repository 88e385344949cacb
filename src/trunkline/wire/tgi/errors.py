"""Errors in TGI's shape.

    {"error": "Input validation error: ...", "error_type": "validation"}

Statuses, types and words: `router/src/server.rs` and `infer/mod.rs` (TGI db931fc, 2026-01-08). Both
clients choose their exception by `error_type`, not by status.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.wire.one_line import Encoder

_VALIDATION = "Input validation error: "
_GENERATION = "Request failed during generation: "

# kind -> (status, error_type). What is not listed has its own status and its kind as the type.
_NAMES = {
    "queue_full": (429, "overloaded"),
    "unavailable": (503, "overloaded"),
    "engine_crashed": (424, "generation"),
    "internal": (424, "generation"),
    "cancelled": (500, "incomplete_generation"),
    "request_timeout": (500, "incomplete_generation"),
}


class _Body(msgspec.Struct):
    error: str
    error_type: str


_encoder = Encoder()


def _named(error: TrunklineError) -> tuple[int, str]:
    if isinstance(error, InvalidRequest):
        return 422, "validation"
    return _NAMES.get(error.kind, (error.status, error.kind))


def status(error: TrunklineError) -> int:
    """HTTP status."""
    return _named(error)[0]


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response; within a stream, the data of its last event."""
    kind = _named(error)[1]
    message = error.message
    if kind == "validation":
        message = _VALIDATION + message
    elif kind == "generation":
        message = _GENERATION + message
    elif kind == "overloaded" and error.kind == "queue_full":
        message = f"Model is overloaded: {message}"
    return _encoder.encode(_Body(message, kind))


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed."""
    return b"data:%b\n\n" % render_error(error)
