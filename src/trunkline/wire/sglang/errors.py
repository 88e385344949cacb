"""Errors in SGLang's shape: `entrypoints/http_server.py` (sgl-project/sglang 0025436, 2026).

{"error": {"message": "..."}}
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.wire.one_line import Encoder

DONE = b"data: [DONE]\n\n"

_encoder = Encoder()


class _Error(msgspec.Struct):
    message: str


class _Body(msgspec.Struct):
    error: _Error


def render_error(error: TrunklineError) -> bytes:
    """The body of an error response; within a stream, the data of an event."""
    return _encoder.encode(_Body(_Error(error.message)))


def stream_error(error: TrunklineError) -> bytes:
    """What ends a stream that failed; SGLang says [DONE] after that as well."""
    return b"data: %b\n\n%b" % (render_error(error), DONE)
