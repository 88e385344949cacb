"""A backend that is connected to a server of the test."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from tests.backends.fakes import speakers
from tests.backends.http.peer import Peer, Talk
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import Remote, connect
from trunkline.backends.http.client import HttpClient
from trunkline.wire.client import Speaker

SAY = speakers("openai.chat", "openai.completions", "anthropic.messages")
EVENTS = b"content-type: text/event-stream\r\n"


@contextlib.asynccontextmanager
async def connected(
    port: int,
    spoken: Mapping[str, Speaker] | None = None,
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> AsyncIterator[Remote]:
    given = {"name": "one", "kind": "vllm", "url": f"http://127.0.0.1:{port}/v1", **config}
    client = HttpClient()
    try:
        yield connect(BackendConfig(**given), client, spoken or SAY, environ or {})
    finally:
        await client.close()


def answering(*pieces: bytes, seen: list[bytes] | None = None) -> Talk:
    """Answers each request with these pieces."""

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if seen is not None:
                seen.append(request)
            await peer.send(*pieces)

    return talk
