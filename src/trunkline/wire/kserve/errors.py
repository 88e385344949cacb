"""Errors in KServe's shape, {"error": "..."}, with the statuses that Triton gives them.

`HttpCodeFromError` in src/http_server.cc (triton-inference-server/server e1db8a6, 2026-08-19). A
full queue is "unavailable" there.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import InvalidRequest, TrunklineError
from trunkline.wire.one_line import Encoder

_STATUSES = {"queue_full": 503}

_encoder = Encoder()


class _Body(msgspec.Struct):
    error: str


def status(error: TrunklineError) -> int:
    """HTTP status."""
    if isinstance(error, InvalidRequest):
        return 400
    return _STATUSES.get(error.kind, error.status)


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response; within a stream, the data of its last event."""
    return _encoder.encode(_Body(error.message))


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed."""
    return b"data: %b\n\n" % render_error(error)
