"""TGI's clients, unmodified: `huggingface_hub.InferenceClient` and `text-generation`.

`text-generation` pins a huggingface_hub that excludes the current one, so it runs outside the
environment of the tests; see `clients`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import GenerationError, OverloadedError, ValidationError

from tests.support.clients import run_python_client
from tests.support.server import Server, serve, write_rules

REPLY = "Hello from the rails."
UNICODE = "naïve 東京 🚂🚃 e\u0301"


@pytest.fixture(scope="module")
def scripted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all: nothing here breaks it."""
    directory = tmp_path_factory.mktemp("tgi")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "fail", "text": "so far", "action": "fail", "after": 3},
        {"contains": "slow", "text": "slow and steady", "ms_per_token": 20},
        {"contains": "unicode", "text": UNICODE},
        {"contains": "rows", "text": ["first", "second", "third"]},
        default={"text": REPLY},
    )
    with serve(directory, str(rules), "--executor", "scripted") as server:
        yield server


@pytest.fixture
def client(scripted: Server) -> InferenceClient:
    return InferenceClient(model=scripted.url, token="none", timeout=30)


def test_text(client: InferenceClient) -> None:
    # As with TGI: its hosted API put the prompt in front unless told otherwise.
    assert client.text_generation("Say it", return_full_text=False) == REPLY
    assert client.text_generation("Say it: ") == f"Say it: {REPLY}"


def test_details(client: InferenceClient) -> None:
    answer = client.text_generation(
        "Say it", details=True, return_full_text=False, do_sample=True, seed=42, top_n_tokens=2
    )
    assert answer.generated_text == REPLY
    assert answer.details is not None
    details = answer.details
    assert (details.finish_reason, details.seed) == ("eos_token", 42)
    assert "".join(token.text for token in details.tokens if not token.special) == REPLY
    assert details.tokens[-1].special
    assert details.generated_tokens == len(details.tokens) == len(REPLY) + 1


def test_stream_of_texts(client: InferenceClient) -> None:
    pieces = list(client.text_generation("unicode", stream=True))
    # The last one is the end-of-text token, which the client shows like any other.
    assert "".join(pieces[:-1]) == UNICODE


def test_stream_with_details(client: InferenceClient) -> None:
    events = list(
        client.text_generation("Say it", stream=True, details=True, return_full_text=False)
    )
    assert [event.index for event in events] == list(range(1, len(events) + 1))
    text = "".join(event.token.text for event in events if not event.token.special)
    assert text == REPLY
    *early, last = events
    assert all(event.generated_text is None and event.details is None for event in early)
    assert last.generated_text == REPLY
    assert last.details is not None
    assert (last.details.finish_reason, last.details.generated_tokens) == (
        "eos_token",
        len(events),
    )
    assert last.details.input_length > 0


async def test_async_stream(scripted: Server) -> None:
    async with AsyncInferenceClient(model=scripted.url, token="none") as client:
        stream = await client.text_generation("Say it", stream=True, max_new_tokens=5)
        assert "".join([piece async for piece in stream]) == REPLY[:5]


def test_stop_and_length(client: InferenceClient) -> None:
    answer = client.text_generation("Say", details=True, return_full_text=False, stop=["the"])
    assert answer.generated_text == "Hello from the"
    assert answer.details is not None
    assert answer.details.finish_reason == "stop_sequence"
    answer = client.text_generation("Say", details=True, return_full_text=False, max_new_tokens=4)
    assert answer.generated_text == "Hell"
    assert answer.details is not None
    assert (answer.details.finish_reason, answer.details.generated_tokens) == ("length", 4)


def test_best_of(client: InferenceClient) -> None:
    answer = client.text_generation(
        "rows", details=True, return_full_text=False, do_sample=True, best_of=3
    )
    assert answer.details is not None
    others = answer.details.best_of_sequences
    assert others is not None
    texts = {answer.generated_text, *(one.generated_text for one in others)}
    assert texts == {"first", "second", "third"}


def test_errors_have_their_classes(client: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="`temperature` must be strictly positive"):
        client.text_generation("Say it", temperature=0.0)
    with pytest.raises(ValidationError, match="watermark"):
        client.text_generation("Say it", watermark=True)
    with pytest.raises(GenerationError):
        client.text_generation("fail")
    with pytest.raises(GenerationError):
        list(client.text_generation("fail", stream=True))


async def test_overloaded(tmp_path: Path) -> None:
    rules = write_rules(
        tmp_path / "rules.json", {"text": "abc ", "ms_per_token": 5, "action": "endless"}
    )
    options = ("--executor", "scripted", "--max-num-seqs", "1", "--max-queue", "1")
    with serve(tmp_path, str(rules), *options) as server:
        async with AsyncInferenceClient(model=server.url, token="none", timeout=30) as client:
            running = await client.text_generation("go on", stream=True)
            assert await anext(running)
            # Its head comes with its first token, so this one waits.
            waiting = asyncio.create_task(client.text_generation("go on"))
            await asyncio.to_thread(server.wait_metric, "vllm:num_requests_waiting", 1)
            with pytest.raises(OverloadedError):
                await client.text_generation("go on")
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)


def test_endpoint_info(scripted: Server) -> None:
    client = InferenceClient(model=scripted.url, token="none", provider="hf-inference")
    info = client.get_endpoint_info()
    assert info["model_pipeline_tag"] == "text-generation"
    assert info["max_total_tokens"] > info["max_input_tokens"] > 0
    assert client.health_check()


def post(server: Server, path: str, body: Any) -> httpx.Response:
    return server.post(path, body)


def test_headers_tell_the_time(scripted: Server) -> None:
    answer = post(scripted, "/generate", {"inputs": "slow", "parameters": {"max_new_tokens": 5}})
    assert answer.json() == {"generated_text": "slow "}
    assert answer.headers["x-generated-tokens"] == "5"
    assert answer.headers["x-prompt-tokens"] == "4"
    assert int(answer.headers["x-inference-time"]) >= 80
    assert int(answer.headers["x-total-time"]) >= int(answer.headers["x-inference-time"])


def test_truncate_and_too_much(scripted: Server) -> None:
    cut = {"inputs": "slow 123456", "parameters": {"truncate": 6}}
    answer = post(scripted, "/generate", cut)
    # The last six tokens (bytes) do not say "slow".
    assert answer.json() == {"generated_text": REPLY}
    assert answer.headers["x-prompt-tokens"] == "6"
    much = {"inputs": "Say it", "parameters": {"max_new_tokens": 2**30}}
    refused = post(scripted, "/generate", much)
    assert refused.status_code == 422
    assert refused.json()["error_type"] == "validation"


def test_tokenize(scripted: Server) -> None:
    assert post(scripted, "/tokenize", {"inputs": "né"}).json() == [
        {"id": 110, "text": "n", "start": 0, "stop": 1},
        {"id": 195, "text": "\ufffd", "start": 1, "stop": 2},
        {"id": 169, "text": "\ufffd", "start": 2, "stop": 3},
    ]
    messages = [{"role": "user", "content": "Hi"}]
    told = post(scripted, "/chat_tokenize", {"messages": messages}).json()
    tokens = told["tokenize_response"]
    assert "Hi" in told["templated_text"]
    assert tokens[-1]["stop"] == len(told["templated_text"].encode())


def test_text_generation_client(scripted: Server) -> None:
    assert run_python_client("text_generation_calls.py", scripted.url) == {
        "whole": REPLY,
        "reason": "eos_token",
        "tokens": len(REPLY) + 1,
        "stream": UNICODE,
        "last": UNICODE,
        "best": ["first", "second", "third"],
        "chat": REPLY,
        "raised": ["ValidationError", "GenerationError"],
    }


def test_the_bundled_model(caboose: Server) -> None:
    client = InferenceClient(model=caboose.url, token="none")
    whole = client.text_generation("One, two, three", max_new_tokens=12, return_full_text=False)
    pieces = client.text_generation("One, two, three", max_new_tokens=12, stream=True, details=True)
    events = list(pieces)
    assert events[-1].generated_text == f"One, two, three{whole}"
    assert "".join(e.token.text for e in events if not e.token.special) == whole
    assert all(e.token.logprob <= 0 for e in events)
