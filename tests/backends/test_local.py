"""The gateway's side of the front's socket, against a front that the test plays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import msgspec
import pytest

from trunkline.backends.local import LocalBackend
from trunkline.core.errors import EngineCrashed, InvalidRequest, Unavailable
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Failed,
    ModelCard,
    Request,
    TextInput,
    Timing,
    Usage,
)
from trunkline.engine.frames import (
    CancelRequest,
    CoreStats,
    CountTokens,
    EventBatch,
    Framing,
    FromFront,
    FrontStatus,
    Submit,
    ToFront,
    TokenCount,
    pack,
)

READY = FrontStatus("ready", "", ModelCard("m", 128), CoreStats(running=2, kv_total=64), 1)
DONE = Completed("a", Usage(3, 1), Timing())


class Sink:
    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_events(self, events: Sequence[Event]) -> None:
        self.events += events


class Front:
    """Plays the front: records what arrives, says what the test says."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self.writer = writer
        self._framing = Framing()
        self._waiting: list[ToFront] = []

    def say(self, message: FromFront) -> None:
        self.writer.write(pack(msgspec.msgpack.encode(message)))

    async def heard(self) -> ToFront:
        while not self._waiting:
            data = await asyncio.wait_for(self._reader.read(1 << 16), 30)
            assert data, "the backend hung up"
            decoder = msgspec.msgpack.Decoder(ToFront)
            self._waiting += [decoder.decode(payload) for payload in self._framing.feed(data)]
        return self._waiting.pop(0)


Pair = tuple[LocalBackend, Front]


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    accepted: asyncio.Queue[Front] = asyncio.Queue()
    path = str(tmp_path / "front.sock")
    server = await asyncio.start_unix_server(
        lambda reader, writer: accepted.put_nowait(Front(reader, writer)), path
    )
    backend = LocalBackend("m")
    await backend.connect(path)
    front = await accepted.get()
    front.say(READY)
    await backend.wait_ready(30)
    yield backend, front
    backend.close()
    front.writer.close()
    server.close()


def _request(name: str = "a") -> Request:
    return Request(id=name, model="m", input=TextInput("hi"))


async def _until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


async def test_events_reach_their_own_sinks(pair: Pair) -> None:
    backend, front = pair
    one, two = Sink(), Sink()
    backend.submit(_request("a"), one)
    backend.submit(_request("b"), two)
    assert [await front.heard(), await front.heard()] == [
        Submit(_request("a")),
        Submit(_request("b")),
    ]
    front.say(EventBatch((Delta("b", 0, "x"), Delta("a", 0, "y"), DONE)))
    await _until(lambda: DONE in one.events)
    assert one.events == [Delta("a", 0, "y"), DONE]
    assert two.events == [Delta("b", 0, "x")]


async def test_what_is_for_other_servers_stays_here(pair: Pair) -> None:
    backend, front = pair
    noted = Request(id="a", model="m", input=TextInput("hi"), notes={"metadata": {"a": 2**70}})
    backend.submit(noted, Sink())
    heard = await front.heard()
    assert isinstance(heard, Submit)
    assert heard.request == msgspec.structs.replace(noted, notes={})


async def test_after_cancel_nothing_arrives(pair: Pair) -> None:
    backend, front = pair
    sink = Sink()
    call = backend.submit(_request(), sink)
    await front.heard()
    call.cancel()
    call.cancel()
    assert await front.heard() == CancelRequest("a")
    front.say(EventBatch((Delta("a", 0, "late"),)))
    front.say(TokenCount("none", 0))
    await asyncio.sleep(0.05)
    assert sink.events == []


async def test_a_lost_front_fails_what_is_in_flight(pair: Pair) -> None:
    backend, front = pair
    sink = Sink()
    backend.submit(_request(), sink)
    counting = asyncio.create_task(backend.count_tokens(_request("c")))
    await front.heard()
    await front.heard()
    front.writer.close()
    await _until(lambda: bool(sink.events))
    failed = sink.events[0]
    assert isinstance(failed, Failed)
    assert failed.error.kind == EngineCrashed.kind
    with pytest.raises(EngineCrashed):
        await counting
    assert backend.health().state == "restarting"

    later = Sink()
    backend.submit(_request("d"), later)
    assert later.events == [], "a failure arrives after submit has returned"
    await _until(lambda: bool(later.events))
    refused = later.events[0]
    assert isinstance(refused, Failed)
    assert refused.error.kind == Unavailable.kind
    assert refused.error.retry_after is not None


async def test_counts(pair: Pair) -> None:
    backend, front = pair
    counting = asyncio.create_task(backend.count_tokens(_request()))
    assert await front.heard() == CountTokens(_request())
    front.say(TokenCount("a", 17))
    assert await counting == 17
    failing = asyncio.create_task(backend.count_tokens(_request("b")))
    await front.heard()
    front.say(TokenCount("b", 0, InvalidRequest("no").info()))
    with pytest.raises(InvalidRequest, match="no"):
        await failing


async def test_figures_and_restarts_add_up(pair: Pair) -> None:
    backend, front = pair
    assert backend.stats().running == 2
    assert backend.stats().kv_total == 64
    assert backend.stats().restarts == 1
    backend.front_restarts += 1
    front.writer.close()
    await _until(lambda: backend.status is None)
    assert backend.stats().restarts == 2


async def test_garbage_from_the_front_ends_the_connection(pair: Pair) -> None:
    backend, front = pair
    sink = Sink()
    backend.submit(_request(), sink)
    front.writer.write(pack(b"\xc1garbage"))
    await _until(lambda: bool(sink.events))
    assert isinstance(sink.events[0], Failed)
    assert backend.health().state == "failed"
