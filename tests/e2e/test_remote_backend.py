"""A real server behind a remote backend: every part of it against what another Trunkline says."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

import trunkline
from tests.backends.fakes import Sink
from tests.backends.http.peer import until
from tests.support.llama_server import llama_server
from tests.support.server import Server, serve, write_rules
from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.backends.connect import Remote, connect
from trunkline.backends.http.client import HttpClient
from trunkline.core.errors import UpstreamTimeout
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Message,
    RawRequest,
    Relayed,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
    TokensInput,
)
from trunkline.wire.speakers import SPEAKERS

TEXT = "Hello from the rails."


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("upstream")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "endless", "text": "abc ", "ms_per_token": 5, "action": "endless"},
        {"contains": "slow", "text": "slow and steady " * 8, "ms_per_token": 50},
        default={"text": TEXT},
    )
    with serve(directory, str(rules), "--executor", "scripted") as server:
        yield server


@pytest.fixture(scope="module")
def llamacpp(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """llama.cpp's own server; its URL."""
    model = Path(trunkline.__file__).parent / "models_bundled" / "caboose.gguf"
    with llama_server(model, tmp_path_factory.mktemp("llama.cpp")) as url:
        yield url


@contextlib.asynccontextmanager
async def remote(server: Server | str, **config: Any) -> AsyncIterator[Remote]:
    client = HttpClient()
    url = server if isinstance(server, str) else server.url
    given = {"name": "other", "kind": "trunkline", "url": url, "probe": False, **config}
    found = connect(BackendConfig(**given), client, SPEAKERS, {})
    try:
        yield found
    finally:
        await found.watcher.close()
        await client.close()


async def model(found: Remote) -> str:
    await found.watcher.look()
    assert found.backend.health().state == "ready"
    return found.backend.models()[0].name


def request(prompt: str, name: str, raw: bool = False) -> Request:
    given = TextInput(prompt) if raw else ChatInput((Message("user", prompt),))
    return Request(id="r", model=name, input=given, sampling=SamplingParams(max_tokens=2000))


@pytest.mark.parametrize("dialect", ["openai", "anthropic", "openai.responses"])
async def test_chat_is_translated(upstream: Server, dialect: str) -> None:
    async with remote(upstream, dialect=dialect) as found:
        sink = Sink()
        found.backend.submit(request("Hi", await model(found)), sink)
        events = await sink.done()
        assert sink.text == TEXT
        assert sink.routed.backend == "other"
        finished = next(event for event in events if isinstance(event, RowFinished))
        assert finished.reason == "stop"
        last = events[-1]
        assert isinstance(last, Completed)
        assert last.usage.prompt_tokens > 0
        assert last.usage.completion_tokens > 0


async def test_prompts_are_translated(upstream: Server) -> None:
    async with remote(upstream) as found:
        sink = Sink()
        found.backend.submit(request("Once", await model(found), raw=True), sink)
        await sink.done()
        assert sink.text == TEXT


async def test_chat_is_relayed(upstream: Server) -> None:
    async with remote(upstream) as found:
        name = await model(found)
        fields = {"model": "alias", "stream": True, "messages": [{"role": "user", "content": "Hi"}]}
        raw = RawRequest(
            id="r",
            operation="openai.chat",
            model=name,
            asked_model="alias",
            stream=True,
            fields={key: msgspec.Raw(msgspec.json.encode(value)) for key, value in fields.items()},
            translate=lambda: request("Hi", name),
        )
        sink = Sink()
        found.backend.relay(raw, sink)
        events = await sink.done()
        data = b"".join(event.data for event in events if isinstance(event, Relayed))
        chunks = [line[6:] for line in data.splitlines() if line.startswith(b"data: {")]
        told = [msgspec.json.decode(chunk) for chunk in chunks]
        text = "".join(c["choices"][0]["delta"].get("content") or "" for c in told)
        assert text == TEXT
        assert {chunk["model"] for chunk in told} == {"alias"}
        assert isinstance(events[-1], Completed)


async def test_cancelling_frees_the_row_there(upstream: Server) -> None:
    async with remote(upstream) as found:
        sink = Sink()
        call = found.backend.submit(request("endless", await model(found)), sink)
        await until(lambda: any(isinstance(event, Delta) for event in sink.events))
        call.cancel()
        await asyncio.to_thread(upstream.wait_metric, "vllm:num_requests_running", 0.0)


async def test_a_try_is_bounded_as_a_whole(upstream: Server) -> None:
    async with remote(upstream, timeouts=Timeouts(attempt=0.5)) as found:
        sink = Sink()
        found.backend.submit(request("slow", await model(found)), sink)
        async with asyncio.timeout(10):
            await sink.done()
        assert isinstance(sink.error, UpstreamTimeout)


async def test_questions_and_load(upstream: Server) -> None:
    async with remote(upstream) as found:
        name = await model(found)
        backend = found.backend
        tokenization = await backend.tokenize(request("Once upon", name, raw=True))
        assert tokenization.token_ids
        assert "Once upon" in (await backend.detokenize(tokenization.token_ids)).text
        assert await backend.count_tokens(request("Hi", name)) > 0
        assert backend.models()[0].context_length > 0
        await found.watcher.look()
        assert backend.stats().kv_total >= 0


async def test_probe_of_a_real_server(upstream: Server) -> None:
    async with remote(upstream, probe=True) as found:
        await model(found)
        told = found.backend.conformance
        assert told is not None
        assert {"stream", "stream_usage"} <= told.gained
        assert told.operations == {"anthropic.messages": True, "openai.responses": True}


async def test_llamacpp_answers(llamacpp: str) -> None:
    """Chat, prompts of text, and of tokens."""
    async with remote(llamacpp, kind="llamacpp", dialect="openai") as found:
        name = await model(found)
        backend = found.backend
        tokenization = await backend.tokenize(request("Once upon a time", name, raw=True))
        assert tokenization.token_ids
        inputs = (
            ChatInput((Message("user", "Hi"),)),
            TextInput("Once upon a time"),
            TokensInput(tokenization.token_ids),
        )
        for given in inputs:
            sampling = SamplingParams(max_tokens=8, temperature=0.0)
            sink = Sink()
            backend.submit(Request(id="r", model=name, input=given, sampling=sampling), sink)
            last = (await sink.done())[-1]
            assert isinstance(last, Completed), last
            assert 0 < last.usage.completion_tokens <= 8
            assert last.usage.prompt_tokens > 0


async def test_llamacpp_is_known(llamacpp: str) -> None:
    async with remote(llamacpp, kind="llamacpp", probe=True) as found:
        name = await model(found)
        assert found.backend.models()[0].context_length > 0
        told = found.backend.conformance
        assert told is not None
        assert {"stream", "stream_usage", "tools"} <= told.gained
        assert told.operations["anthropic.messages"]
        chat = request("Hi", name)
        tokenization = await found.backend.tokenize(chat)
        assert "Hi" in tokenization.text
        assert await found.backend.count_tokens(chat) == len(tokenization.token_ids)
        assert (await found.backend.detokenize(tokenization.token_ids)).text
