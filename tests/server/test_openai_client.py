"""The official client, against a server on a fake backend."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import pytest

from tests.server.support import Running, running, until
from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import ContextOverflow, QueueFull

HELLO: Any = [{"role": "user", "content": "Hello"}]


def client(one: Running, key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{one.url}/v1", api_key=key, max_retries=0, timeout=30)


async def test_chat() -> None:
    async with running() as one, client(one) as api:
        seen = await api.chat.completions.create(model="fake", messages=HELLO, n=2)
        assert [choice.message.content for choice in seen.choices] == ["Hello there!"] * 2
        assert seen.choices[0].finish_reason == "stop"
        assert seen.usage is not None
        assert seen.usage.total_tokens == 11
        assert seen.usage.prompt_tokens_details is not None
        assert seen.usage.prompt_tokens_details.cached_tokens == 2


async def test_chat_streaming_with_usage() -> None:
    async with running() as one, client(one) as api:
        stream = await api.chat.completions.create(
            model="fake", messages=HELLO, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        text = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
        assert text == "Hello there!"
        assert chunks[0].choices[0].delta.role == "assistant"
        assert chunks[-1].usage is not None
        assert chunks[-1].usage.completion_tokens == 3
        assert [chunk.usage for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)


async def test_completions() -> None:
    async with running() as one, client(one) as api:
        whole = await api.completions.create(model="fake", prompt=["a", "b"])
        assert [choice.text for choice in whole.choices] == ["Hello there!"] * 2
        stream = await api.completions.create(model="fake", prompt=[1, 2], stream=True)
        assert "".join([chunk.choices[0].text async for chunk in stream]) == "Hello there!"


async def test_models() -> None:
    async with running(served_model_name=("alias",)) as one, client(one) as api:
        assert [model.id async for model in await api.models.list()] == ["fake", "alias"]
        assert (await api.models.retrieve("alias")).id == "alias"


async def test_the_synchronous_client() -> None:
    async with running() as one:

        def talk() -> tuple[str | None, str]:
            with openai.OpenAI(base_url=f"{one.url}/v1", api_key="x", max_retries=0) as api:
                whole = api.chat.completions.create(model="fake", messages=HELLO)
                with api.chat.completions.create(
                    model="fake", messages=HELLO, stream=True
                ) as stream:
                    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
                return whole.choices[0].message.content, "".join(pieces)

        assert await asyncio.to_thread(talk) == ("Hello there!", "Hello there!")


@pytest.mark.parametrize(
    ("backend", "options", "error"),
    [
        (FakeBackend(), {"temperature": 9}, openai.BadRequestError),
        (FakeBackend(), {"model": "gpt-4"}, openai.NotFoundError),
        (FakeBackend("fail", error=ContextOverflow("too long")), {}, openai.BadRequestError),
        (FakeBackend("fail", error=QueueFull("full")), {}, openai.RateLimitError),
        (FakeBackend("fail"), {}, openai.InternalServerError),
    ],
)
async def test_errors_are_the_clients_own_classes(
    backend: FakeBackend, options: dict[str, Any], error: type[openai.APIStatusError]
) -> None:
    async with running(backend) as one, client(one) as api:
        with pytest.raises(error) as caught:
            await api.chat.completions.create(**{"model": "fake", "messages": HELLO, **options})
        assert isinstance(caught.value.body, dict)
        assert caught.value.body["message"]
        assert caught.value.request_id


async def test_a_wrong_key() -> None:
    async with running(api_key=("right",)) as one:
        async with client(one, "wrong") as api:
            with pytest.raises(openai.AuthenticationError):
                await api.models.list()
        async with client(one, "right") as api:
            assert (await api.models.list()).data


async def test_an_error_within_a_stream_is_raised() -> None:
    async with running(FakeBackend("crash")) as one, client(one) as api:
        stream = await api.chat.completions.create(model="fake", messages=HELLO, stream=True)
        pieces: list[str] = []
        with pytest.raises(openai.APIError, match="engine died") as caught:
            await _collect(stream, pieces)
        assert "".join(pieces) == "Hello there!"
        assert caught.value.code == "engine_crashed"


async def test_closing_a_stream_stops_the_work() -> None:
    backend = FakeBackend("words", ["word "] * 1000, pause=0.005)
    async with running(backend) as one, client(one) as api:
        stream = await api.chat.completions.create(model="fake", messages=HELLO, stream=True)
        async for _ in stream:
            break
        await stream.close()
        async with asyncio.timeout(30):
            await backend.calls[0].cancelled.wait()
        await until(lambda: one.pool.active == 0)


async def test_a_cancelled_call_stops_the_work() -> None:
    backend = FakeBackend("hang")
    async with running(backend) as one, client(one) as api:
        task = asyncio.create_task(api.chat.completions.create(model="fake", messages=HELLO))
        await until(lambda: backend.calls)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        async with asyncio.timeout(30):
            await backend.calls[0].cancelled.wait()


async def _collect(stream: Any, into: list[str]) -> None:
    async for chunk in stream:
        # Not extended with a list: that would lose what came before an error.
        into.append(chunk.choices[0].delta.content or "")  # noqa: PERF401
