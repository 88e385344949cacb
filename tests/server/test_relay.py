"""Answers that a backend relays, and those that go on in core events."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Sequence

import pytest

from tests.server.support import running
from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    RawRequest,
    Relayed,
    Resumed,
    Routed,
    RowFinished,
    Timing,
    Usage,
)

_PATH = "/v1/chat/completions"
_CHUNK = (
    b'data: {"id":"up-1","created":7,"model":"asked","choices":[{"index":0,"delta":'
    b'{"content":"Hello"}}]}\n\n'
)
_REST: tuple[Event, ...] = (
    Delta("r", 0, " there"),
    RowFinished("r", 0, "stop"),
    Completed("r", Usage(3, 2), Timing()),
)


class RelayingBackend(FakeBackend):
    """Answers a relayed request with given events, one batch each."""

    def __init__(self, *batches: Sequence[Event], translates: bool = False) -> None:
        super().__init__()
        self.batches = batches
        self.translates = translates
        self.seen: list[RawRequest] = []

    def relays(self, operation: str) -> bool:
        return operation == "openai.chat"

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        self.seen.append(raw)
        if self.translates:
            # As for a hedge: somebody else has to be asked in core types.
            raw.translate()

        async def answer() -> None:
            for batch in self.batches:
                sink.on_events(batch)
                await asyncio.sleep(0)

        self.task = asyncio.get_running_loop().create_task(answer())
        return _Idle()


class _Idle:
    def cancel(self) -> None:
        """Nothing is under way."""


def body(**more: object) -> dict[str, object]:
    return {"model": "fake", "messages": [{"role": "user", "content": "Hi"}], **more}


@pytest.mark.parametrize("translates", [False, True])
async def test_bytes_pass_as_they_are(translates: bool) -> None:
    """Also where the request was decoded for a backend that did not answer in the end."""
    events = (
        (Routed("r", "up", "m"), Relayed("r", _CHUNK, 1)),
        (Completed("r", Usage(3, 1), Timing()),),
    )
    backend = RelayingBackend(*events, translates=translates)
    async with running(backend) as one:
        response = await one.ask("POST", _PATH, body(stream=True, nobody_knows=1))
    assert response.body == _CHUNK
    assert response.headers["x-trunkline-backend"] == "up"
    assert bytes(backend.seen[0].fields["nobody_knows"]) == b"1"


@pytest.mark.parametrize("stream", [False, True])
async def test_names_do_not_break_the_head(stream: bool) -> None:
    """Clients make up names of models, and backends do."""
    data = _CHUNK if stream else b"{}"
    events = (Routed("r", "up", "x\r\nevil: 1\u2028" + "y" * 5000), Relayed("r", data, 1))
    backend = RelayingBackend((*events, Completed("r", Usage(3, 1), Timing())))
    async with running(backend) as one:
        response = await one.ask("POST", _PATH, body(stream=stream))
    assert "evil" not in response.headers
    assert response.headers["x-trunkline-model"].startswith("x??evil: 1?yy")
    assert len(response.headers["x-trunkline-model"]) < 300


async def test_header_fields_of_a_dialect_go_on() -> None:
    """A list may have a line for each of its members; of anything else the first counts."""
    backend = RelayingBackend((Relayed("r", b"{}", 1), Completed("r", Usage(3, 1), Timing())))
    lines = (
        "Anthropic-Beta: a",
        "anthropic-version: 1",
        "x-other: 1",
        "anthropic-beta: b,c ",
        "anthropic-version: 2",
        "anthropic-beta: d",
    )
    async with running(backend) as one:
        assert (await one.ask("POST", _PATH, body(), *lines)).status == 200
    assert dict(backend.seen[0].headers) == {
        "anthropic-beta": "a, b,c, d",
        "anthropic-version": "1",
    }


async def test_a_whole_answer_in_pieces() -> None:
    pieces = (Relayed("r", b'{"a":'),), (Relayed("r", b"1}"), Completed("r", Usage(3, 1), Timing()))
    async with running(RelayingBackend(*pieces)) as one:
        response = await one.ask("POST", _PATH, body())
    assert response.body == b'{"a":1}'


async def test_another_dialect_answers() -> None:
    """The request is decoded, and what comes is rendered."""
    async with running(RelayingBackend((Delta("r", 0, "Hi"),), _REST)) as one:
        response = await one.ask("POST", _PATH, body())
    assert json.loads(response.body)["choices"][0]["message"]["content"] == "Hi there"


async def test_another_backend_goes_on() -> None:
    """What the client has is not sent again, and the rest is rendered with no second preamble."""
    resumed = Resumed("r", Delta("r", 0, "Hello"), _CHUNK)
    events = (Relayed("r", _CHUNK, 1),), (resumed,), _REST
    async with running(RelayingBackend(*events)) as one:
        response = await one.ask("POST", _PATH, body(stream=True))
    first, rest = response.body[: len(_CHUNK)], response.body[len(_CHUNK) :]
    assert first == _CHUNK
    chunks = [json.loads(line[6:]) for line in rest.splitlines() if line.startswith(b"data: {")]
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks) == " there"
    assert not any("role" in c["choices"][0]["delta"] for c in chunks)
    assert {(c["id"], c["created"], c["model"]) for c in chunks} == {("up-1", 7, "asked")}
    assert rest.endswith(b"data: [DONE]\n\n")


async def test_an_error_behind_the_first_byte() -> None:
    """In the words of the caller's dialect, without anything having been decoded."""
    failed = Failed("r", UpstreamFailed("backend 'up' closed the connection").info())
    async with running(RelayingBackend((Relayed("r", _CHUNK, 1),), (failed,))) as one:
        response = await one.ask("POST", _PATH, body(stream=True))
    assert response.body.startswith(_CHUNK)
    last = json.loads(response.body[len(_CHUNK) :].splitlines()[0][6:])
    assert "closed the connection" in last["error"]["message"]


class LoadableBackend(RelayingBackend):
    """Speaks Ollama's dialect, and its model is loaded on demand."""

    def __init__(self, *batches: Sequence[Event], translates: bool = False) -> None:
        super().__init__(*batches, translates=translates)
        self.kept: list[float] = []

    def relays(self, operation: str) -> bool:
        return operation == "ollama.chat"

    async def load(self) -> None:
        """It is there."""

    def keep(self, seconds: float) -> None:
        self.kept.append(seconds)

    def unload(self) -> None:
        """It stays."""

    def leaves_in(self) -> float:
        return math.inf


async def test_a_relayed_call_says_how_long_its_model_is_kept() -> None:
    answer = Relayed("r", b'{"done":true}'), Completed("r", Usage(3, 1), Timing())
    backend = LoadableBackend(answer)
    async with running(backend) as one:
        response = await one.ask("POST", "/api/chat", body(stream=False, keep_alive="5m"))
    assert response.status == 200
    assert backend.kept == [300.0]


async def test_who_cannot_be_told_to_load() -> None:
    """A request without a prompt, where the one who answers does not speak Ollama's dialect."""
    backend = LoadableBackend(translates=True)
    async with running(backend) as one:
        response = await one.ask("POST", "/api/chat", {"model": "fake", "messages": []})
    assert response.status == 400
    assert "without a prompt" in json.loads(response.body)["error"]
