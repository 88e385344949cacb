"""Log probabilities of prompts in every dialect, against llama.cpp's own server on one model."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from huggingface_hub import InferenceClient
from openai.types import CompletionChoice

from tests.support.llama_server import llama_server
from tests.support.server import Server, serve, write_rules
from tests.support.tiny_gguf import tokens, write_tiny_gguf

VOCABULARY = len(tokens())
PROMPT = "hello world, hello: naïve 🚂 wagons rattle on"
# f16 keys and values, and sums in another order; the least probable ones lie at -40.
NEAR: dict[str, float] = {"abs": 0.02, "rel": 0.01}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: every log probability differs from every other."""
    path = tmp_path_factory.mktemp("logprobs") / "tiny.gguf"
    return write_tiny_gguf(path, metadata={".context_length": 4096})


@pytest.fixture(scope="module")
def ours(model: Path) -> Iterator[Server]:
    with serve(model.parent, str(model), "--served-model-name", "tiny", "--threads", "1") as server:
        yield server


@pytest.fixture(scope="module")
def client(ours: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{ours.url}/v1", api_key="x", max_retries=0) as made:
        yield made


@pytest.fixture(scope="module")
def ids(ours: Server) -> list[int]:
    """The prompt's tokens."""
    found: list[int] = ours.post("/tokenize", {"prompt": PROMPT}).json()["tokens"]
    return found


@pytest.fixture(scope="module")
def reference(model: Path, ids: list[int]) -> list[dict[int, float]]:
    """Behind each prefix of the prompt, the log probability of every token, as llama.cpp's server
    tells it when it generates there."""
    found = []
    with llama_server(model, model.parent) as url:
        for end in range(1, len(ids) + 1):
            body = {
                "prompt": ids[:end],
                "n_predict": 1,
                "n_probs": VOCABULARY,
                "temperature": 0,
                "cache_prompt": False,
                # So that it is a whole character; the probabilities are those without.
                "logit_bias": [[ord("a"), 1000.0]],
            }
            answer = httpx.post(f"{url}/completion", json=body, timeout=60).json()
            (step,) = answer["completion_probabilities"]
            found.append({top["id"]: top["logprob"] for top in step["top_logprobs"]})
    return found


def right(reference: list[dict[int, float]], ids: list[int]) -> list[float]:
    return [reference[position - 1][ids[position]] for position in range(1, len(ids))]


def logprobs(choice: CompletionChoice) -> dict[str, Any]:
    """As they came: the client's types know no null among them."""
    assert choice.logprobs is not None
    return choice.logprobs.to_dict()


def test_echo(client: openai.OpenAI, ids: list[int], reference: list[dict[int, float]]) -> None:
    answer = client.completions.create(
        model="tiny", prompt=PROMPT, echo=True, logprobs=3, max_tokens=2, temperature=0
    )
    (choice,) = answer.choices
    told = logprobs(choice)
    assert len(told["tokens"]) == len(ids) + 2
    assert told["token_logprobs"][0] is None
    assert told["top_logprobs"][0] is None
    assert told["token_logprobs"][1 : len(ids)] == pytest.approx(right(reference, ids), **NEAR)
    for position in range(1, len(ids)):
        best = max(reference[position - 1].values())
        # Parts of characters look alike: there may be fewer than were asked for.
        assert max(told["top_logprobs"][position].values()) == pytest.approx(best, **NEAR)
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len(ids), 2)
    # It goes on as it does without.
    plain = client.completions.create(model="tiny", prompt=PROMPT, max_tokens=2, temperature=0)
    assert choice.text == PROMPT + plain.choices[0].text


def test_the_prompt_alone(client: openai.OpenAI, ids: list[int]) -> None:
    answer = client.completions.create(
        model="tiny", prompt=[ids, ids[:1]], echo=True, logprobs=0, max_tokens=0
    )
    whole, single = answer.choices
    assert (whole.text, whole.finish_reason) == (PROMPT, "length")
    told = logprobs(whole)
    assert len(told["tokens"]) == len(ids)
    for offset, token in zip(told["text_offset"], told["tokens"], strict=True):
        assert token in ("\ufffd", PROMPT[offset:][: len(token)])
    assert logprobs(single)["token_logprobs"] == [None]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


def test_a_stream_says_the_same(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {
        "model": "tiny",
        "prompt": PROMPT,
        "echo": True,
        "logprobs": 2,
        "max_tokens": 6,
        "temperature": 0,
    }
    (whole,) = client.completions.create(**options).choices
    chunks = [chunk.choices[0] for chunk in client.completions.create(**options, stream=True)]
    assert "".join(chunk.text for chunk in chunks) == whole.text
    parts = [logprobs(chunk) for chunk in chunks if chunk.logprobs is not None]
    told = logprobs(whole)
    for name in ("tokens", "text_offset"):
        assert [one for part in parts for one in part[name]] == told[name]
    first, *others = [one for part in parts for one in part["token_logprobs"]]
    assert first is None
    assert others == pytest.approx(told["token_logprobs"][1:], **NEAR)


def test_vllm(ours: Server, ids: list[int], reference: list[dict[int, float]]) -> None:
    body = {"prompt": PROMPT, "max_tokens": 2, "prompt_logprobs": 2, "return_token_ids": True}
    (choice,) = ours.post("/v1/completions", body | {"temperature": 0}).json()["choices"]
    first, *others = choice["prompt_logprobs"]
    assert first is None
    assert [next(iter(one)) for one in others] == [str(token) for token in ids[1:]]
    for position, one in enumerate(others, 1):
        row = reference[position - 1]
        order = sorted(row, key=lambda token: -row[token])
        for token, told in one.items():
            assert told["logprob"] == pytest.approx(row[int(token)], **NEAR)
            assert abs(order.index(int(token)) + 1 - told["rank"]) <= 2
        assert {told["rank"] for told in one.values()} >= {1, 2}
    assert choice["prompt_token_ids"] == ids
    assert len(choice["token_ids"]) == 2
    chat = ours.post(
        "/v1/chat/completions",
        {"messages": [{"role": "user", "content": "hello"}], "prompt_logprobs": 0, "max_tokens": 1},
    ).json()
    assert len(chat["prompt_logprobs"]) == chat["usage"]["prompt_tokens"]
    assert chat["prompt_logprobs"][0] is None


def test_tgi(ours: Server, ids: list[int], reference: list[dict[int, float]]) -> None:
    answer = InferenceClient(ours.url).text_generation(
        PROMPT, details=True, decoder_input_details=True, max_new_tokens=2
    )
    assert answer.details is not None
    prefill = answer.details.prefill
    assert [one.id for one in prefill] == ids
    assert [one.logprob for one in prefill[:1]] == [None]
    assert [one.logprob for one in prefill[1:]] == pytest.approx(right(reference, ids), **NEAR)
    # One of the two is enough, and the end of the prompt is all that is used.
    body = {"inputs": PROMPT, "parameters": {"decoder_input_details": True, "truncate": 4}}
    details = ours.post("/generate", body).json()["details"]
    assert [one["id"] for one in details["prefill"]] == ids[-4:]
    refused = ours.post("/generate_stream", body)
    assert refused.status_code == 422


def test_sglang(ours: Server, ids: list[int], reference: list[dict[int, float]]) -> None:
    body = {
        "text": PROMPT,
        "return_logprob": True,
        "top_logprobs_num": 2,
        "return_text_in_logprobs": True,
        "sampling_params": {"max_new_tokens": 0},
    }
    for start in (0, 7):
        answer = ours.post("/generate", body | {"logprob_start_len": start}).json()
        meta = answer["meta_info"]
        told = meta["input_token_logprobs"]
        assert [one[1] for one in told] == ids[start:]
        assert told[0][0] is None
        values = right(reference, ids)[start:]
        assert [one[0] for one in told[1:]] == pytest.approx(values, **NEAR)
        assert meta["input_top_logprobs"][0] is None
        assert [len(one) for one in meta["input_top_logprobs"][1:]] == [2] * len(values)
        assert (answer["text"], meta["finish_reason"]) == ("", {"type": "length", "length": 0})
        assert meta["completion_tokens"] == 0
    beyond = ours.post("/generate", body | {"logprob_start_len": len(ids)})
    assert beyond.status_code == 400
    assert f"the prompt has {len(ids)}" in beyond.text


def test_a_long_prompt_comes_in_pieces_and_is_not_reused(ours: Server) -> None:
    text = "hello world " * 240
    body = {"prompt": text, "max_tokens": 1, "temperature": 0}
    plain = [ours.post("/v1/completions", body).json()["usage"] for _ in range(2)]
    assert plain[1]["prompt_tokens_details"]["cached_tokens"] > 1000
    scored = ours.post("/v1/completions", body | {"prompt_logprobs": 1}).json()
    assert scored["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    told = scored["choices"][0]["prompt_logprobs"]
    assert len(told) == scored["usage"]["prompt_tokens"] > 1000
    assert all(told[1:])


def test_beside_others(ours: Server) -> None:
    """Both prompts at once, with a row that decodes meanwhile: each its own figures."""
    bodies = [
        {"prompt": f"{word} " * 300, "max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
        for word in ("hello", "world")
    ]
    alone = [ours.post("/v1/completions", body).json()["choices"][0] for body in bodies]
    together: list[Any] = [None, None, None]

    def ask(index: int, body: dict[str, Any]) -> None:
        together[index] = ours.post("/v1/completions", body).json()["choices"][0]

    long = {"prompt": "hello", "max_tokens": 200, "ignore_eos": True}
    jobs = [threading.Thread(target=ask, args=job) for job in enumerate([*bodies, long])]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    for one, other in zip(alone, together[:2], strict=True):
        pairs = zip(one["prompt_logprobs"][1:], other["prompt_logprobs"][1:], strict=True)
        for mine, its in pairs:
            assert list(mine) == list(its)
            for token in mine:
                assert mine[token]["logprob"] == pytest.approx(its[token]["logprob"], **NEAR)


def test_the_client_leaves_in_the_middle(tmp_path: Path) -> None:
    rules = write_rules(
        tmp_path / "rules.json", {"contains": "slow", "text": "x", "ms_per_prompt_token": 5}
    )
    with serve(tmp_path, str(rules), "--executor", "scripted") as server:
        body = {"prompt": "slow " * 400, "echo": True, "logprobs": 1, "max_tokens": 1}
        with pytest.raises(httpx.ReadTimeout):
            server.post("/v1/completions", body, timeout=1.0)
        server.wait_metric("trunkline_requests_running", 0)
        server.wait_metric("trunkline_kv_in_use_tokens", 0)
        quick = server.post("/v1/completions", {"prompt": "hi", "echo": True, "logprobs": 1}).json()
        assert json.dumps(quick["choices"][0]["logprobs"]["token_logprobs"][:2]) == "[null, 0.0]"
