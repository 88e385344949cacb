"""Errors in vLLM's shape: `ErrorResponse` in entrypoints/serve/engine/protocol.py (vLLM, 2026).

    {"error": {"message": "...", "type": "BadRequestError", "param": null, "code": 400}}

Unlike OpenAI's, `code` is the HTTP status.
"""

from __future__ import annotations

from http import HTTPStatus

import msgspec

from trunkline.core.errors import TrunklineError

_TYPES = {
    400: "BadRequestError",
    401: "AuthenticationError",
    404: "NotFoundError",
    422: "UnprocessableEntityError",
    429: "RateLimitError",
    500: "InternalServerError",
    503: "ServiceUnavailableError",
}


class _Error(msgspec.Struct):
    message: str
    type: str
    param: str | None
    code: int


class _Body(msgspec.Struct):
    error: _Error


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response."""
    name = _TYPES.get(error.status) or _phrase(error.status)
    return msgspec.json.encode(_Body(_Error(error.message, name, error.param, error.status)))


def stream_error(error: TrunklineError) -> bytes:
    """The last event of a stream that failed."""
    return b"data: %b\n\n" % render_error(error)


def _phrase(status: int) -> str:
    known = {one.value for one in HTTPStatus}
    return HTTPStatus(status).phrase.replace(" ", "") if status in known else "Error"
