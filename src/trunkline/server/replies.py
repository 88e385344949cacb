"""Pieces of responses that several kinds of answers need."""

from __future__ import annotations

import math
import secrets

from trunkline.core.errors import TrunklineError
from trunkline.server.http.exchange import JSON, Exchange
from trunkline.wire.codec import Codec


def respond_error(
    exchange: Exchange,
    error: TrunklineError,
    codec: Codec,
    request_id: str,
    headers: bytes = b"",
) -> None:
    """Answer with `error` in the dialect of `codec`. `headers`: further lines."""
    error.request_id = request_id
    lines = id_line(request_id) + headers + retry_line(error)
    exchange.respond(codec.status(error), codec.error(error), JSON, lines)


# OpenAI's spelling, and Anthropic's.
ID_FORM = b"x-request-id: %b\r\nrequest-id: %b\r\n"


class Ids:
    """Ids that nobody can guess: 96 random bits each, fetched from the system 128 at a time."""

    def __init__(self) -> None:
        self._ready: list[str] = []

    def next(self) -> str:
        """24 hexadecimal digits."""
        if not self._ready:
            digits = secrets.token_hex(12 * 128)
            self._ready = [digits[i : i + 24] for i in range(0, len(digits), 24)]
        return self._ready.pop()


def new_request_id() -> str:
    """Of a request that has failed before a codec gave it an id."""
    return f"req_{secrets.token_hex(12)}"


def id_line(request_id: str) -> bytes:
    """The header by which a client and its provider speak of a request."""
    name = request_id.encode()
    return ID_FORM % (name, name)


def retry_line(error: TrunklineError) -> bytes:
    """`Retry-After`, in whole seconds, where a retry makes sense."""
    if error.retry_after is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after))
