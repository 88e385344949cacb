from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.server.support import CHAT, HELLO, request, running, until
from tests.support.fake_backend import FakeBackend
from tests.wire.openai.support import events
from trunkline.core.errors import ContextOverflow, EngineCrashed, QueueFull, Unavailable
from trunkline.core.types import Usage
from trunkline.server.generation import routed_form

COMPLETIONS = "/v1/completions"


async def test_a_whole_answer() -> None:
    async with running() as one:
        seen = await one.ask("POST", CHAT, {**HELLO, "model": "fake"})
        body = seen.json()
        assert seen.headers["content-type"] == "application/json"
        assert seen.headers["x-request-id"] == body["id"]
        assert body["id"].startswith("chatcmpl-")
        assert body["model"] == "fake"
        assert body["choices"][0]["message"]["content"] == "Hello there!"
        assert body["usage"]["prompt_tokens_details"]["cached_tokens"] == 2


async def test_a_streamed_answer() -> None:
    async with running() as one:
        seen = await one.ask("POST", CHAT, {**HELLO, "stream": True})
        assert seen.headers["content-type"].startswith("text/event-stream")
        assert seen.headers["cache-control"] == "no-cache"
        assert seen.headers["x-accel-buffering"] == "no"
        *chunks, done = events(seen.body)
        assert done == "[DONE]"
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        assert text == "Hello there!"


@pytest.mark.parametrize("stream", [False, True])
async def test_the_head_says_who_answered(stream: bool) -> None:
    async with running(served_model_name=("alias",)) as one:
        seen = await one.ask("POST", CHAT, {**HELLO, "model": "alias", "stream": stream})
        assert seen.headers["x-trunkline-backend"] == "fake"
        assert seen.headers["x-trunkline-model"] == "fake"
        assert seen.headers["x-trunkline-retries"] == "0"
        assert seen.headers["server-timing"].startswith("ttfb;dur=")


def test_what_was_left_out_stays_on_its_line() -> None:
    lines = routed_form("b", "m", dropped=("user", 'tools.x"\r\nset-cookie: 5%')) % 1.0
    assert lines.endswith(
        b"\r\nwarning: 199 trunkline "
        b'"not supported by the backend, left out: user, tools.x\'??set-cookie: 5%"\r\n'
    )


async def test_each_batch_of_events_is_sent_at_once() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
        await until(lambda: backend.calls)
        for word in ("a", "b"):
            backend.calls[0].delta(word)
            if word == "a":
                assert (await client.head())[0] == 200
            assert b'"content":"%b"' % word.encode() in await client.chunk()


async def test_the_model_is_called_what_the_client_calls_it() -> None:
    async with running(served_model_name=("alias",)) as one:
        for asked, told in (
            ("alias", "alias"),
            ("default", "default"),
            ("", "fake"),
            (None, "fake"),
        ):
            body = (await one.ask("POST", CHAT, {**HELLO, "model": asked})).json()
            assert body["model"] == told
        assert {call.request.model for call in one.backend.calls} == {"fake"}


async def test_an_unknown_model_is_a_404_that_lists_what_exists() -> None:
    async with running(served_model_name=("alias",)) as one:
        seen = await one.ask("POST", CHAT, {**HELLO, "model": "gpt-4"})
        error = seen.json()["error"]
        assert (seen.status, error["code"]) == (404, "model_not_found")
        assert "`fake`, `alias`" in error["message"]


async def test_several_prompts_become_several_choices_of_one_answer() -> None:
    async with running() as one:
        body = (await one.ask("POST", COMPLETIONS, {"prompt": ["a b", "c"], "n": 2})).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2, 3]
        assert {choice["text"] for choice in body["choices"]} == {"Hello there!"}
        assert body["usage"]["prompt_tokens"] == 3
        assert body["usage"]["completion_tokens"] == 12
        assert len({call.request.id for call in one.backend.calls}) == 2


async def test_several_prompts_in_a_stream() -> None:
    async with running() as one:
        asked = {"prompt": ["a", "b"], "stream": True, "stream_options": {"include_usage": True}}
        *chunks, usage, done = events((await one.ask("POST", COMPLETIONS, asked)).body)
        assert done == "[DONE]"
        assert usage["usage"]["completion_tokens"] == 6
        texts = ["", ""]
        for chunk in chunks:
            texts[chunk["choices"][0]["index"]] += chunk["choices"][0]["text"]
        assert texts == ["Hello there!"] * 2


async def test_one_failed_prompt_fails_the_call_and_stops_the_others() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", COMPLETIONS, {"prompt": ["a", "b", "c"]}))
        await until(lambda: len(backend.calls) == 3)
        backend.calls[0].delta("x")
        backend.calls[1].fail(ContextOverflow("too long", param="prompt"))
        seen = await client.response()
        assert seen.status == 400
        assert seen.json()["error"]["code"] == "context_length_exceeded"
        assert all(call.cancelled.is_set() for call in backend.calls)


@pytest.mark.parametrize(
    ("error", "status", "retry"),
    [
        (ContextOverflow("too long"), 400, None),
        (QueueFull("full", retry_after=1.2), 429, "2"),
        (Unavailable("loading", retry_after=0.1), 503, "1"),
        (EngineCrashed("died"), 500, None),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_failure_before_the_first_byte_has_its_status(
    error: Any, status: int, retry: str | None, stream: bool
) -> None:
    async with running(FakeBackend("fail", error=error)) as one:
        client = await one.connect()
        seen = await client.ask("POST", CHAT, {**HELLO, "stream": stream})
        assert seen.status == status
        assert seen.json()["error"]["message"] == error.message
        assert seen.headers.get("retry-after") == retry
        assert seen.headers["x-request-id"]
        # The connection lives on.
        assert (await client.ask("GET", "/health/live")).status == 200


async def test_a_failure_within_a_stream_is_its_last_event() -> None:
    async with running(FakeBackend("crash")) as one:
        client = await one.connect()
        seen = await client.ask("POST", CHAT, {**HELLO, "stream": True})
        assert seen.status == 200
        found = events(seen.body)
        assert found[-1]["error"]["code"] == "engine_crashed"
        assert "[DONE]" not in found
        assert await client.ended() == b""


async def test_a_failure_midway_of_a_whole_answer_has_its_status() -> None:
    async with running(FakeBackend("crash")) as one:
        assert (await one.ask("POST", CHAT, HELLO)).status == 500


async def test_events_after_the_end_are_ignored() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await until(lambda: backend.calls)
        call = backend.calls[0]
        call.delta("a")
        call.finished()
        call.completed(Usage(1, 1))
        call.delta("b")
        call.fail(EngineCrashed("late"))
        assert (await client.response()).status == 200
        assert (await client.ask("GET", "/health/live")).status == 200


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS, "/v1/models", "/v1/models/fake", "/v1/nope"])
async def test_keys_guard_everything_under_v1(path: str) -> None:
    method = "GET" if "models" in path or "nope" in path else "POST"
    async with running(api_key=("secret", "other")) as one:
        for headers in ((), ("authorization: Bearer wrong",), ("x-api-key: nope",)):
            seen = await one.ask(method, path, None, *headers)
            assert seen.status == 401
            assert seen.json()["error"]["code"] == "invalid_api_key"
        for headers in (("Authorization: Bearer secret",), ("x-api-key: other",)):
            assert (await one.ask(method, path, HELLO, *headers)).status != 401


async def test_requests_carry_their_tenant_and_nothing_of_the_key() -> None:
    async with running(api_key=("secret",)) as one:
        assert (await one.ask("POST", CHAT, HELLO, "authorization: Bearer secret")).status == 200
        (call,) = one.backend.calls
        assert call.request.tenant
        assert "secret" not in call.request.tenant


async def test_n_rows_arrive_in_one_answer() -> None:
    async with running() as one:
        body = (await one.ask("POST", CHAT, {**HELLO, "n": 3})).json()
        assert [choice["index"] for choice in body["choices"]] == [0, 1, 2]


async def test_many_streams_with_leaving_clients_leave_nothing_behind() -> None:
    backend = FakeBackend("words", ["word "] * 20, pause=0.002)
    async with running(backend) as one:

        async def client(index: int) -> None:
            connection = await one.connect()
            await connection.send(request("POST", CHAT, {**HELLO, "stream": True}))
            if index % 3 == 0:
                await connection.head()
                connection.close()
            elif index % 3 == 1:
                connection.close()
            else:
                assert (await connection.response()).body.endswith(b"data: [DONE]\n\n")

        await asyncio.gather(*(client(index) for index in range(60)))
        await until(lambda: one.pool.active == 0)
        assert not one.server._dispatch.generator._active
        for call in backend.calls:
            assert call.task is not None
            await asyncio.wait((call.task,))
