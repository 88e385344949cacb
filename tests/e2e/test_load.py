"""Many clients at once, rude ones among them; afterwards every token is accounted for."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.server import Server, serve

PROMPTS = [
    "What is 12 + 30?",
    "Count from 3 to 9.",
    "Spell the word harbor.",
    "Tell me a tiny story about a brass bell.",
    "Give me a JSON object with name Ines and age 41.",
    "Who are you?",
    "Repeat after me: the last train leaves at nine.",
    "What is Trunkline?",
]


# Longer than a block of the KV cache: what is shared is shared in blocks.
SYSTEM = (
    "You are the station master of a small railway in the mountains. You answer every question in "
    "as few words as you can, you never guess, and you are kind to children and to lost dogs."
)


def _body(prompt: str, **fields: Any) -> dict[str, Any]:
    return {"model": "caboose", "messages": [{"role": "user", "content": prompt}], **fields}


def _idle(server: Server) -> None:
    server.wait_metric("trunkline_requests_running", 0)
    server.wait_metric("trunkline_requests_waiting", 0)
    # The core checks when it is idle that free + cached + in use = all, and ends if it is not so.
    server.wait_metric("trunkline_kv_in_use_tokens", 0)
    metrics = server.metrics()
    assert metrics["trunkline_kv_cached_tokens"] <= metrics["trunkline_kv_tokens"]
    assert metrics["trunkline_engine_restarts_total"] == 0


async def _rude(client: httpx.AsyncClient, server: Server, number: int) -> str:
    chance = random.Random(number)
    body = _body(chance.choice(PROMPTS), stream=number % 4 != 0, n=chance.choice([1, 1, 1, 3]))
    body["max_tokens"] = chance.randint(1, 60)
    patience = chance.choice([0.01, 0.1, 0.4, 60, 60, 60])
    try:
        async with asyncio.timeout(patience):
            response = await client.post(f"{server.url}/v1/chat/completions", json=body)
    except TimeoutError:
        return "left"
    assert response.status_code == 200, response.text
    return "answered"


async def test_64_streams_with_random_disconnects(caboose: Server) -> None:
    limits = httpx.Limits(max_connections=64)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:
        outcomes = await asyncio.gather(*(_rude(client, caboose, n) for n in range(192)))
    assert outcomes.count("left") > 10
    assert outcomes.count("answered") > 50
    _idle(caboose)


async def _tokens(client: httpx.AsyncClient, server: Server, prompt: str) -> list[dict[str, Any]]:
    body = _body(prompt, temperature=0, logprobs=True, top_logprobs=2, max_tokens=80)
    body["messages"].insert(0, {"role": "system", "content": SYSTEM})
    response = await client.post(f"{server.url}/v1/chat/completions", json=body)
    content: list[dict[str, Any]] = response.json()["choices"][0]["logprobs"]["content"]
    return content


def _differ_only_at_a_tie(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> bool:
    for left, right in zip(one, other, strict=False):
        if left["token"] != right["token"]:
            best, second = left["top_logprobs"][:2]
            return bool(best["logprob"] - second["logprob"] < 0.05)
    return len(one) == len(other)


async def test_batching_with_prefix_sharing_gives_the_text_of_one_at_a_time(
    caboose: Server, tmp_path: Path
) -> None:
    with serve(tmp_path, "--no-prefix-cache", "--max-num-seqs", "1") as alone:
        async with httpx.AsyncClient(timeout=120) as client:
            singly = [await _tokens(client, alone, prompt) for prompt in PROMPTS]
            together = await asyncio.gather(
                *(_tokens(client, caboose, prompt) for prompt in PROMPTS * 4)
            )
    for number, tokens in enumerate(together):
        assert _differ_only_at_a_tie(singly[number % len(PROMPTS)], tokens)
    caboose.wait_above("trunkline_prefix_hits_total", 0)


async def test_n_and_preemption_together(tmp_path: Path) -> None:
    # Room for about one long answer of the eight that run at once.
    with serve(tmp_path, "--ctx-size", "512", "--kv-memory", "4M") as server:
        body = _body("Tell me a tiny story about a brass bell.", n=4, ignore_eos=True)
        body |= {"max_tokens": 220, "temperature": 0.8}
        async with httpx.AsyncClient(timeout=240) as client:
            url = f"{server.url}/v1/chat/completions"
            answers = await asyncio.gather(
                *(client.post(url, json=body | {"seed": seed}) for seed in (1, 2, 3, 4, 5, 6))
            )
            alone = await client.post(url, json=body | {"seed": 1})
        for answer in (*answers, alone):
            assert answer.status_code == 200, answer.text
            assert answer.json()["usage"]["completion_tokens"] == 4 * 220
        server.wait_above("trunkline_preemptions_total", 0)
        _idle(server)


def test_the_queue_is_bounded(scripted: Server) -> None:
    async def flood() -> list[int]:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(timeout=120, limits=limits) as client:
            url = f"{scripted.url}/v1/chat/completions"
            responses = await asyncio.gather(
                *(client.post(url, json=_body("slow") | {"model": "default"}) for _ in range(40))
            )
        for response in responses:
            if response.status_code == 429:
                assert int(response.headers["retry-after"]) >= 1
        return [response.status_code for response in responses]

    codes = asyncio.run(flood())
    assert codes.count(429) >= 20
    assert codes.count(200) >= 8
    assert set(codes) == {200, 429}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_client_that_leaves_frees_its_row(scripted: Server, stream: bool) -> None:
    body = _body("endless", stream=stream) | {"model": "default"}
    url = f"{scripted.url}/v1/chat/completions"
    async with httpx.AsyncClient() as client:
        request = asyncio.create_task(client.post(url, json=body, timeout=30))
        await asyncio.to_thread(scripted.wait_metric, "trunkline_requests_running", 1)
        request.cancel()
        await asyncio.gather(request, return_exceptions=True)
    # Far sooner than it would end by itself.
    await asyncio.to_thread(scripted.wait_metric, "trunkline_requests_running", 0, 12.0)


def test_unicode_is_never_broken_in_a_stream(scripted: Server) -> None:
    body = _body("unicode", stream=True) | {"model": "default"}
    text = ""
    with httpx.stream("POST", f"{scripted.url}/v1/chat/completions", json=body) as response:
        for line in response.iter_lines():
            if line.startswith("data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    text += choice["delta"].get("content") or ""
    assert text == "naïve 東京 🚂🚃 e\u0301"


def test_rows_have_their_own_texts(scripted: Server) -> None:
    body = _body("rows", n=3) | {"model": "default"}
    answer = scripted.post("/v1/chat/completions", body).json()
    texts = [choice["message"]["content"] for choice in answer["choices"]]
    assert texts == ["first", "second", "third"]
