"""Pieces of responses that several kinds of answers need."""

from __future__ import annotations

import math

from trunkline.core.errors import TrunklineError
from trunkline.server.http.exchange import JSON, Exchange
from trunkline.wire.codec import Codec


def respond_error(
    exchange: Exchange, error: TrunklineError, codec: Codec, headers: bytes = b""
) -> None:
    """Answer with `error` in the dialect of `codec`."""
    exchange.respond(codec.status(error), codec.error(error), JSON, headers + retry_line(error))


def id_line(request_id: str) -> bytes:
    """The header by which a client and its provider speak of a request."""
    name = request_id.encode()
    # OpenAI's spelling, and Anthropic's.
    return b"x-request-id: %b\r\nrequest-id: %b\r\n" % (name, name)


def retry_line(error: TrunklineError) -> bytes:
    """`Retry-After`, in whole seconds, where a retry makes sense."""
    if error.retry_after is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after))
