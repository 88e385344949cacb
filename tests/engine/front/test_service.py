"""The front with a real core process and the scripted executor, over a real socket."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.support.stops import stops
from trunkline.core.errors import TrunklineError
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Failed,
    Message,
    Request,
    RowFinished,
    SamplingParams,
    TextInput,
)
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import (
    CancelRequest,
    CountTokens,
    EventBatch,
    Framing,
    FromFront,
    FrontStatus,
    StopFront,
    Submit,
    ToFront,
    TokenCount,
    pack,
)
from trunkline.engine.front.core_link import core_argv
from trunkline.engine.front.service import Front

RULES = [
    {"contains": "story", "text": "Once upon a time END and more", "ms_per_token": 1},
    {"contains": "rows", "text": ["one", "two!", "three"]},
    {"contains": "endless", "text": "abc", "action": "endless", "ms_per_token": 2},
    {"contains": "flood", "text": "abc" * 100, "action": "endless"},
    {"contains": "crash", "text": "abc", "action": "crash", "after": 2},
    {"contains": "hang", "text": "abc", "action": "hang", "after": 2},
    {"contains": "~", "text": "x", "ms_per_token": 1200},
    {"contains": "fail", "text": "abc", "action": "fail", "after": 2},
]

_EVENT_TIMEOUT = 60.0


class Gateway:
    """A gateway worker, as a test sees one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._framing = Framing()
        self.statuses: list[FrontStatus] = []
        self.counts: list[TokenCount] = []
        self.batches: list[EventBatch] = []
        self.events: dict[str, list[Event]] = {}

    def send(self, message: ToFront) -> None:
        self._writer.write(pack(msgspec.msgpack.encode(message)))

    def submit(self, text: str, **options: Any) -> str:
        """Begin a request; its id is its text unless one is given."""
        request_id = options.pop("id", text)
        sampling = SamplingParams(max_tokens=options.pop("max_tokens", None))
        self.send(
            Submit(
                Request(
                    id=request_id, model="m", input=TextInput(text), sampling=sampling, **options
                )
            )
        )
        return str(request_id)

    async def until(self, done: Callable[[], object]) -> None:
        """Read until `done` is true. Raises EOFError, TimeoutError."""
        async with asyncio.timeout(_EVENT_TIMEOUT):
            while not done():
                data = await self._reader.read(65536)
                if not data:
                    raise EOFError
                for payload in self._framing.feed(data):
                    self._note(msgspec.msgpack.decode(payload, type=FromFront))

    def _note(self, message: FromFront) -> None:
        match message:
            case FrontStatus():
                self.statuses.append(message)
            case TokenCount():
                self.counts.append(message)
            case EventBatch():
                self.batches.append(message)
                for event in message.events:
                    self.events.setdefault(event.request_id, []).append(event)

    async def ready(self) -> FrontStatus:
        await self.until(lambda: self.statuses and self.statuses[-1].state == "ready")
        return self.statuses[-1]

    async def outcome(self, request_id: str) -> Completed | Failed:
        def last() -> Event | None:
            return self.events.get(request_id, [None])[-1]

        await self.until(lambda: isinstance(last(), Completed | Failed))
        found = last()
        assert isinstance(found, Completed | Failed)
        return found

    async def some(self, request_id: str) -> None:
        """Wait for the first text."""
        await self.until(lambda: self.events.get(request_id))

    def text(self, request_id: str, row: int = 0) -> str:
        deltas = (e for e in self.events.get(request_id, ()) if isinstance(e, Delta))
        return "".join(delta.text for delta in deltas if delta.row == row)

    async def idle(self) -> None:
        """Wait until the core has nothing left."""

        def nothing_left() -> bool:
            stats = self.statuses[-1].stats
            return stats.steps > 0 and stats.running == stats.waiting == 0

        self.statuses = self.statuses[-1:]
        await self.until(lambda: len(self.statuses) > 1 and nothing_left())

    def close(self) -> None:
        self._writer.close()


class House:
    """A front that runs, and the way to it."""

    def __init__(self, front: Front, path: Path, task: asyncio.Task[None]) -> None:
        self.front = front
        self.path = path
        self.task = task
        self.gateways: list[Gateway] = []

    async def gateway(self) -> Gateway:
        gateway = Gateway(*await asyncio.open_unix_connection(str(self.path)))
        self.gateways.append(gateway)
        return gateway


@asynccontextmanager
async def running(
    directory: Path,
    argv: Callable[[int, EngineConfig], Sequence[str]] = core_argv,
    *,
    context: int = 1000,
    **options: Any,
) -> AsyncIterator[House]:
    rules = directory / "rules.json"
    rules.write_text(json.dumps({"context": context, "rules": RULES, "default": {"text": "Hi."}}))
    config = EngineConfig(name="m", model=str(rules), executor="scripted", **options)
    front = Front(config, argv)
    path = directory / "s"
    loop = asyncio.get_running_loop()
    server = await loop.create_unix_server(front.connection, str(path))
    house = House(front, path, asyncio.create_task(front.run()))
    try:
        yield house
    finally:
        front.stop(0.0)
        for gateway in house.gateways:
            gateway.close()
        await asyncio.gather(house.task, return_exceptions=True)
        server.close()
        await server.wait_closed()


async def test_requests_of_all_kinds(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        status = await gateway.ready()
        assert status.card is not None
        assert (status.card.context_length, status.executor) == (1000, "ScriptedExecutor")

        outcome = await gateway.outcome(gateway.submit("hello"))
        assert isinstance(outcome, Completed)
        assert (gateway.text("hello"), outcome.usage.completion_tokens) == ("Hi.", 4)

        outcome = await gateway.outcome(gateway.submit("story", stop=("END",)))
        assert isinstance(outcome, Completed)
        assert gateway.text("story") == "Once upon a time "
        assert outcome.usage.completion_tokens == len("Once upon a time END")
        assert RowFinished("story", 0, "stop", "END") in gateway.events["story"]

        await gateway.outcome(gateway.submit("rows", n=3))
        assert [gateway.text("rows", row) for row in range(3)] == ["one", "two!", "three"]

        chat = Request(id="chat", model="m", input=ChatInput((Message("user", "x"),)))
        gateway.send(CountTokens(chat))
        gateway.send(Submit(chat))
        outcome = await gateway.outcome("chat")
        await gateway.until(lambda: gateway.counts)
        assert isinstance(outcome, Completed)
        assert gateway.counts == [TokenCount("chat", outcome.usage.prompt_tokens)]


async def test_refusals(tmp_path: Path) -> None:
    async with running(tmp_path, max_queue=0, max_num_seqs=2) as house:
        gateway = await house.gateway()
        await gateway.ready()
        for request_id, options, kind in (
            ("x" * 1000, {}, "context_overflow"),
            ("too much", {"max_tokens": 10_000}, "context_overflow"),
            ("", {"id": "empty"}, "invalid_request"),
            ("many", {"n": 3}, "invalid_request"),
        ):
            outcome = await gateway.outcome(gateway.submit(request_id, **options))
            assert isinstance(outcome, Failed)
            assert outcome.error.kind == kind
        for name in ("endless 1", "endless 2", "one too many"):
            gateway.submit(name)
        outcome = await gateway.outcome("one too many")
        assert isinstance(outcome, Failed)
        assert (outcome.error.kind, outcome.error.retry_after) == ("queue_full", 1.0)


async def test_one_batch_for_each_step(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        await gateway.outcome(gateway.submit("hello", n=8))
        # Eight rows, a token each per step: three of text, and the end.
        assert len(gateway.batches) <= 8
        assert max(len(batch.events) for batch in gateway.batches) >= 8


async def test_cancel_frees_the_row(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        await gateway.some(gateway.submit("endless"))
        gateway.send(CancelRequest("endless"))
        await gateway.idle()
        seen = len(gateway.events["endless"])
        await gateway.outcome(gateway.submit("hello"))
        assert len(gateway.events["endless"]) == seen
        assert not isinstance(gateway.events["endless"][-1], Completed | Failed)


async def test_a_lost_gateway_takes_only_its_own_requests_along(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        first, second = await house.gateway(), await house.gateway()
        await first.ready()
        await second.ready()
        await first.some(first.submit("endless"))
        second.submit("story")
        first.close()
        assert isinstance(await second.outcome("story"), Completed)
        await second.idle()
        assert not house.front.busy


async def test_a_crash_fails_what_is_in_flight_and_is_counted(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        before = await gateway.ready()
        await gateway.some(gateway.submit("endless"))
        outcome = await gateway.outcome(gateway.submit("crash"))
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "engine_crashed"
        assert "killed by signal 9" in outcome.error.message
        assert isinstance(await gateway.outcome("endless"), Failed)
        # A request that comes meanwhile waits for the next core.
        assert isinstance(await gateway.outcome(gateway.submit("hello")), Completed)
        assert {s.state for s in gateway.statuses} >= {"ready", "restarting"}
        assert gateway.statuses[-1].restarts == 1
        assert gateway.statuses[-1].core_pid != before.core_pid
        # The model stays known while nothing can answer for it.
        assert all(s.card == before.card for s in gateway.statuses if s.state == "restarting")


async def test_a_stuck_core_is_killed(tmp_path: Path) -> None:
    async with running(tmp_path, step_timeout=1.5) as house:
        gateway = await house.gateway()
        await gateway.ready()
        outcome = await gateway.outcome(gateway.submit("hang"))
        assert isinstance(outcome, Failed)
        assert "no progress for 1.5 s" in outcome.error.message
        assert isinstance(await gateway.outcome(gateway.submit("hello")), Completed)
        assert "stalled" in {s.state for s in gateway.statuses}


async def test_time_in_which_we_were_stopped_does_not_count_as_stuck(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As by `docker pause`, or where a machine gives us no processor."""
    async with running(tmp_path, step_timeout=1.0) as house:
        gateway = await house.gateway()
        await gateway.ready()
        request = gateway.submit("hang")
        await asyncio.sleep(0.2)
        with stops(4.0) as stop:
            stop()
            # The first of these is over when we go on, before anybody is told of anything.
            for _ in range(2):
                await asyncio.sleep(0.2)
            assert "no progress" not in caplog.text
        # It counts from now on.
        outcome = await gateway.outcome(request)
        assert isinstance(outcome, Failed)
        assert "no progress for 1 s" in outcome.error.message


async def test_idle_time_does_not_count_as_stuck(tmp_path: Path) -> None:
    async with running(tmp_path, step_timeout=2.0) as house:
        gateway = await house.gateway()
        await gateway.ready()
        await gateway.outcome(gateway.submit("hello"))
        await asyncio.sleep(1.8)
        # Its first step ends when the watchdog set for the request before has long gone off.
        assert isinstance(await gateway.outcome(gateway.submit("~")), Completed)
        assert gateway.statuses[-1].restarts == 0


async def test_one_request_fails_alone(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        gateway.submit("story")
        outcome = await gateway.outcome(gateway.submit("fail"))
        assert isinstance(outcome, Failed)
        assert isinstance(await gateway.outcome("story"), Completed)


async def test_a_reader_that_stops_reading_loses_its_request(tmp_path: Path) -> None:
    async with running(tmp_path, context=4_000_000, max_stream_buffer=4096) as house:
        reader, other = await house.gateway(), await house.gateway()
        await reader.ready()
        await other.ready()
        reader.submit("flood", n=16)

        def cut_off() -> bool:
            stats = other.statuses[-1].stats
            return stats.steps > 20 and stats.running == 0

        await other.until(cut_off)
        assert isinstance(await other.outcome(other.submit("hello")), Completed)
        outcome = await reader.outcome("flood")
        assert isinstance(outcome, Failed)
        assert "4096 bytes behind" in outcome.error.message


async def test_draining_finishes_what_is_in_flight(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        await gateway.some(gateway.submit("story"))
        gateway.send(StopFront(10.0))
        outcome = await gateway.outcome(gateway.submit("late"))
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "unavailable"
        assert isinstance(await gateway.outcome("story"), Completed)
        with pytest.raises(EOFError):
            await gateway.until(lambda: False)
        await house.task


async def test_draining_has_a_bound(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        await gateway.ready()
        await gateway.some(gateway.submit("endless"))
        gateway.send(StopFront(0.2))
        outcome = await gateway.outcome("endless")
        assert isinstance(outcome, Failed)
        assert outcome.error.kind == "unavailable"
        await house.task


async def test_a_model_that_cannot_be_loaded(tmp_path: Path) -> None:
    async with running(tmp_path, chat_template=str(tmp_path / "missing")) as house:
        gateway = await house.gateway()
        await gateway.until(lambda: gateway.statuses and gateway.statuses[-1].state == "failed")
        assert "missing" in gateway.statuses[-1].detail
        with pytest.raises(TrunklineError, match="missing"):
            await house.task


async def test_a_core_that_says_why_is_not_started_again(tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("{")

    def argv(fd: int, config: EngineConfig) -> Sequence[str]:
        return core_argv(fd, msgspec.structs.replace(config, model=str(bad)))

    async with running(tmp_path, argv) as house:
        with pytest.raises(TrunklineError, match=r"bad\.json"):
            await house.task
        assert house.front.status().restarts == 0


async def test_a_core_that_dies_wordlessly_is_tried_three_times(tmp_path: Path) -> None:
    def argv(fd: int, config: EngineConfig) -> Sequence[str]:
        return (sys.executable, "-c", f"open({str(tmp_path / 'log')!r}, 'a').write('x')")

    async with running(tmp_path, argv) as house:
        gateway = await house.gateway()
        outcome = await gateway.outcome(gateway.submit("early"))
        assert isinstance(outcome, Failed)
        with pytest.raises(TrunklineError, match="3 times"):
            await house.task
    assert (tmp_path / "log").read_text() == "xxx"


async def test_a_core_that_talks_rubbish_is_killed(tmp_path: Path) -> None:
    def argv(fd: int, config: EngineConfig) -> Sequence[str]:
        code = f"import os, time; os.write({fd}, b'\\xff' * 9); time.sleep(60)"
        return (sys.executable, "-c", code)

    async with running(tmp_path, argv) as house:
        with pytest.raises(TrunklineError, match="signal 9"):
            await house.task


async def test_a_core_killed_while_idle_comes_back(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        gateway = await house.gateway()
        status = await gateway.ready()
        os.kill(status.core_pid, signal.SIGKILL)
        await gateway.until(lambda: gateway.statuses[-1].state == "restarting")
        await gateway.ready()
        assert isinstance(await gateway.outcome(gateway.submit("hello")), Completed)
