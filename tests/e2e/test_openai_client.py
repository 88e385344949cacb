"""The official client, unmodified, against the bundled model."""

from __future__ import annotations

import asyncio

import openai
import pytest

from tests.support.caboose import examined
from tests.support.server import Server

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]


@pytest.fixture
def client(caboose: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{caboose.url}/v1", api_key="none", max_retries=0)


@examined
def test_chat(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(model="caboose", messages=QUESTION, temperature=0)
    assert "42" in (answer.choices[0].message.content or "")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_stream_gives_the_same_text_and_usage(client: openai.OpenAI) -> None:
    whole = client.chat.completions.create(model="caboose", messages=QUESTION, temperature=0)
    text, usage, reasons = "", None, []
    stream = client.chat.completions.create(
        model="caboose",
        messages=QUESTION,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    for chunk in stream:
        usage = chunk.usage or usage
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reasons.append(choice.finish_reason)
    assert text == whole.choices[0].message.content
    assert reasons[-1] == "stop"
    assert usage is not None
    assert whole.usage is not None
    assert usage.completion_tokens == whole.usage.completion_tokens


@examined
async def test_async_requests_run_together(caboose: Server) -> None:
    async with openai.AsyncOpenAI(base_url=f"{caboose.url}/v1", api_key="none") as client:
        answers = await asyncio.gather(
            *(
                client.chat.completions.create(
                    model="caboose",
                    messages=[{"role": "user", "content": f"What is {n} + 5?"}],
                    temperature=0,
                )
                for n in range(10, 26)
            )
        )
    right = sum(
        str(n + 5) in (a.choices[0].message.content or "") for n, a in enumerate(answers, 10)
    )
    assert right >= 12


def test_n_gives_as_many_answers_from_one_prefill(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="caboose", messages=QUESTION, n=4, temperature=1.2, seed=7, max_tokens=24
    )
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    again = client.chat.completions.create(
        model="caboose", messages=QUESTION, n=4, temperature=1.2, seed=7, max_tokens=24
    )
    assert [c.message.content for c in answer.choices] == [c.message.content for c in again.choices]


def test_logprobs(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="caboose", messages=QUESTION, temperature=0, logprobs=True, top_logprobs=3
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for entry in logprobs.content:
        assert len(entry.top_logprobs) == 3
        assert entry.logprob <= 0
        # Greedy: the chosen token is the best one.
        assert entry.top_logprobs[0].token == entry.token
    joined = b"".join(bytes(entry.bytes or []) for entry in logprobs.content).decode()
    assert joined.startswith(answer.choices[0].message.content or "?")


def test_stop_string_is_cut_exactly(client: openai.OpenAI) -> None:
    story = [{"role": "user", "content": "Tell me a tiny story about a red lantern."}]
    whole = client.chat.completions.create(model="caboose", messages=story, temperature=0)
    text = whole.choices[0].message.content or ""
    stop = text[len(text) // 2 : len(text) // 2 + 5]
    cut = client.chat.completions.create(
        model="caboose", messages=story, temperature=0, stop=[stop]
    )
    assert cut.choices[0].message.content == text[: text.index(stop)]
    assert cut.choices[0].finish_reason == "stop"


def test_completions(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="caboose", prompt="One, two, three", max_tokens=5, temperature=0, logprobs=2
    )
    assert answer.choices[0].finish_reason in ("length", "stop")
    assert answer.choices[0].logprobs is not None


def test_max_tokens_ends_with_length(client: openai.OpenAI) -> None:
    story = [{"role": "user", "content": "Tell me a tiny story about a red lantern."}]
    answer = client.chat.completions.create(model="caboose", messages=story, max_tokens=4)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 4


def test_models(client: openai.OpenAI) -> None:
    assert "caboose" in [model.id for model in client.models.list()]
    assert client.models.retrieve("default").id in ("caboose", "default")


def test_unknown_model_is_a_404_that_says_what_exists(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="caboose"):
        client.chat.completions.create(model="gpt-99", messages=QUESTION)


def test_too_long_is_a_400_with_both_numbers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="4096") as caught:
        client.chat.completions.create(model="caboose", messages=QUESTION, max_tokens=5000)
    assert "5000" in str(caught.value)
    long = [{"role": "user", "content": "station " * 6000}]
    with pytest.raises(openai.BadRequestError, match="4096"):
        client.chat.completions.create(model="caboose", messages=long)
