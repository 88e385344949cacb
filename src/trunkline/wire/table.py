"""All routes: (method, path) and what answers there.

A row with a codec is served in place by the listener. The others cross the ASGI bridge to the
endpoint called `name`; there a GET serves HEAD as well.
"""

from __future__ import annotations

import msgspec

from trunkline.wire.codec import Codec
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.completions import COMPLETIONS


class Route(msgspec.Struct, frozen=True):
    """One row."""

    method: str
    # In Starlette's notation.
    path: str
    # Of the endpoint; in logs and metrics.
    name: str
    codec: Codec | None = None
    # True: needs a key where the server has keys. Health, version and metrics never do.
    keyed: bool = True


ROUTES = (
    Route("POST", "/v1/chat/completions", "chat_completions", CHAT),
    Route("POST", "/v1/completions", "completions", COMPLETIONS),
    Route("GET", "/v1/models", "models"),
    Route("GET", "/v1/models/{model:path}", "model"),
    Route("GET", "/", "root", keyed=False),
    Route("GET", "/version", "version", keyed=False),
    Route("GET", "/metrics", "metrics", keyed=False),
    Route("GET", "/health", "health", keyed=False),
    Route("GET", "/health/live", "live", keyed=False),
    Route("GET", "/health/ready", "ready", keyed=False),
    Route("GET", "/ready", "ready", keyed=False),
    # vLLM's and TGI's name of /health.
    Route("GET", "/ping", "health", keyed=False),
)
