"""What is measured of an engine, through its HTTP API."""

from __future__ import annotations

import asyncio
import random
import statistics
from typing import Any

from benchmarks.engine.client import Answer, complete

# Sampling as people use it, against greedy.
SAMPLED = {"temperature": 1.0, "top_p": 0.95}


class Prompts:
    """Random prompts: fresh token ids each time, so that nothing is cached by accident."""

    def __init__(self, vocabulary: int) -> None:
        self._random = random.Random()
        # Leave out the ids at both ends, where special tokens live.
        self._ids = range(1000, vocabulary - 1000)

    def __call__(self, length: int) -> list[int]:
        return [self._random.choice(self._ids) for _ in range(length)]


async def prefill(port: int, prompts: Prompts, length: int) -> dict[str, float]:
    """Prompt tokens per second, from request to first token, median of three."""
    times = []
    for _ in range(3):
        answer = await complete(port, prompts(length), 1)
        times.append(answer.ended - answer.started)
    return {"tok_s": length / statistics.median(times)}


async def decode(port: int, prompts: Prompts, streams: int, **options: Any) -> dict[str, float]:
    """Output tokens per second of all streams while all of them decode."""
    # So many that the first streams have most of them to go when the last prompt is done.
    length = max(64, 12 * streams)
    answers = await asyncio.gather(
        *(complete(port, prompts(128), length, **options) for _ in range(streams))
    )
    begin = max(answer.chunks[0] for answer in answers)
    end = min(answer.chunks[-1] for answer in answers)
    tokens = sum(_tokens_within(answer, begin, end) for answer in answers)
    if end <= begin:
        raise RuntimeError(f"the {streams} streams never decoded together")
    return {"tok_s": tokens / (end - begin)}


def _tokens_within(answer: Answer, begin: float, end: float) -> float:
    # A chunk may hold more than one token (incomplete UTF-8 is held back).
    per_chunk = answer.completion_tokens / len(answer.chunks)
    return per_chunk * sum(begin < at <= end for at in answer.chunks)


async def mixed(port: int, prompts: Prompts, alone: float | None = None) -> dict[str, float]:
    """Longest gap that four decoding streams see while a 2,048-token prompt is served.

    `alone` is the prefill speed with nothing beside it, in tokens/s; the result has the ratio.
    """
    streams = [asyncio.create_task(complete(port, prompts(128), 160)) for _ in range(4)]
    await complete(port, prompts(16), 24)
    long = await complete(port, prompts(2048), 2)
    answers = await asyncio.gather(*streams)
    gaps = [gap for answer in answers for at, gap in answer.gaps if long.started <= at]
    result = {"gap_s": max(gaps), "prefill_tok_s": 2048 / long.first}
    if alone:
        result["prefill_vs_alone"] = result["prefill_tok_s"] / alone
    result["streams_alive"] = float(sum(answer.ended > long.started for answer in answers))
    return result


async def prefix(port: int, prompts: Prompts) -> dict[str, float]:
    """Seconds for 16 requests that share 1,024 tokens, four at a time: cold, then again."""
    shared = prompts(1024)
    requests = [shared + prompts(32) for _ in range(16)]
    result = {}
    for name in ("cold_s", "warm_s"):
        answers = await _pool(port, requests, 4)
        result[name] = max(a.ended for a in answers) - min(a.started for a in answers)
        result[name.replace("_s", "_cached")] = float(sum(a.cached_tokens for a in answers))
    return result


async def _pool(port: int, requests: list[list[int]], concurrency: int) -> list[Answer]:
    queue = list(requests)
    answers: list[Answer] = []

    async def worker() -> None:
        while queue:
            answers.append(await complete(port, queue.pop(0), 16))

    await asyncio.gather(*(worker() for _ in range(concurrency)))
    return answers
