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


# When the server has keys, what lies below this needs one; health, version and metrics never do.
KEYED = "/v1/"

ROUTES = (
    Route("POST", "/v1/chat/completions", "chat_completions", CHAT),
    Route("POST", "/v1/completions", "completions", COMPLETIONS),
    Route("GET", "/v1/models", "models"),
    Route("GET", "/v1/models/{model:path}", "model"),
    Route("GET", "/", "root"),
    Route("GET", "/version", "version"),
    Route("GET", "/metrics", "metrics"),
    Route("GET", "/health", "health"),
    Route("GET", "/health/live", "live"),
    Route("GET", "/health/ready", "ready"),
    Route("GET", "/ready", "ready"),
    # vLLM's and TGI's name of /health.
    Route("GET", "/ping", "health"),
)
