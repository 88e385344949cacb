"""A load client for OpenAI-compatible servers that takes prompts as token ids.

Token ids make prompt lengths exact without a tokenizer, on every server. One connection per
request, plain asyncio, so that the client costs little on the cores that the server needs.
"""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass, field
from typing import Any

# Seconds that one request may take.
TIMEOUT = 900.0


@dataclass
class Answer:
    """One streamed completion, with the arrival time of each chunk (seconds)."""

    started: float
    ended: float = 0.0
    chunks: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    completion_tokens: int = 0
    cached_tokens: int = 0

    @property
    def first(self) -> float:
        """Seconds to the first chunk."""
        return self.chunks[0] - self.started

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """(end of the gap, its length) between neighbouring chunks."""
        return [(b, b - a) for a, b in zip(self.chunks, self.chunks[1:], strict=False)]


async def complete(port: int, prompt: list[int], tokens: int, **options: Any) -> Answer:
    """Stream `tokens` tokens after `prompt`. Raises RuntimeError on anything but success."""
    body = {"model": "m", "prompt": prompt, "max_tokens": tokens, "ignore_eos": True}
    body |= {"temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    async with asyncio.timeout(TIMEOUT):
        return await _stream(port, json.dumps(body | options).encode())


async def _stream(port: int, body: bytes) -> Answer:
    answer = Answer(time.perf_counter())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
    try:
        writer.write(
            b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body
        )
        status = await reader.readline()
        if b" 200 " not in status:
            raise RuntimeError(f"{status!r} {(await reader.read(2000))!r}")
        async for line in reader:
            if line.startswith(b"data: {"):
                _take(answer, json.loads(line[6:]))
    finally:
        writer.close()
    answer.ended = time.perf_counter()
    if not answer.completion_tokens or not answer.chunks:
        raise RuntimeError("the stream ended without usage or without text")
    return answer


def _take(answer: Answer, event: dict[str, Any]) -> None:
    if "error" in event:
        raise RuntimeError(str(event["error"]))
    usage = event.get("usage")
    if usage:
        answer.prompt_tokens = usage["prompt_tokens"]
        answer.completion_tokens = usage["completion_tokens"]
        details = usage.get("prompt_tokens_details") or {}
        answer.cached_tokens = details.get("cached_tokens") or 0
    if any(choice.get("text") for choice in event.get("choices") or ()):
        answer.chunks.append(time.perf_counter())
