"""What a client may ask of the listener."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """Bounds and timeouts of every connection."""

    max_connections: Annotated[
        int, Meta(ge=1, description="Open connections; the next one is answered 503.")
    ] = 8192
    max_body: Annotated[
        int,
        Meta(
            ge=0,
            extra={"unit": "bytes"},
            description="Size of a request's body; a larger one is answered 413.",
        ),
    ] = 32 * 1024 * 1024
    max_header_bytes: Annotated[
        int,
        Meta(
            ge=256,
            extra={"unit": "bytes"},
            description="Size of a request's head; a larger one is answered 431.",
        ),
    ] = 32 * 1024
    max_headers: Annotated[
        int, Meta(ge=1, description="Header fields of a request; one more is answered 431.")
    ] = 100
    max_url: Annotated[
        int,
        Meta(
            ge=16,
            extra={"unit": "bytes"},
            description="Size of a request's URL; a longer one is answered 414.",
        ),
    ] = 8 * 1024
    max_pipelined: Annotated[
        int,
        Meta(ge=1, description="Requests that wait on one connection before it is read no more."),
    ] = 16
    max_write_buffer: Annotated[
        int,
        Meta(
            ge=4096,
            extra={"unit": "bytes"},
            description="Output that may wait for one slow reader before it is cut off.",
        ),
    ] = 4 * 1024 * 1024
    header_timeout: Annotated[
        float, Meta(gt=0, description="Seconds that a client may take to send a request's head.")
    ] = 20.0
    body_timeout: Annotated[
        float, Meta(gt=0, description="Seconds that a client may take to send a request's body.")
    ] = 120.0
    keepalive_timeout: Annotated[
        float, Meta(gt=0, description="Seconds that a connection may stay open without a request.")
    ] = 75.0
    write_timeout: Annotated[
        float,
        Meta(gt=0, description="Seconds without a byte read by a client that has output waiting."),
    ] = 60.0
    stream_keepalive: Annotated[
        float,
        Meta(
            ge=0,
            description="Seconds of silence after which a stream of events gets a comment, so that "
            "nobody on the way takes it for dead; 0 = never.",
        ),
    ] = 15.0
