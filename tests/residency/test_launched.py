from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import signal
from collections.abc import AsyncIterator, Callable
from math import inf
from pathlib import Path

import msgspec
import pytest

from tests.backends.fakes import Sink
from tests.residency.configured import config
from tests.residency.opened import Opened, open_residency
from tests.residency.processes import alive, until
from trunkline.backends.config import BackendConfig, LaunchConfig, Probe, Timeouts
from trunkline.core.errors import Unavailable
from trunkline.core.types import ChatInput, Completed, Health, Message, Request
from trunkline.residency import launched as launched_module
from trunkline.residency.compose import (
    EnginePlan,
    Launchers,
    launched,
)
from trunkline.residency.launched import LaunchedEngine, Pace, Patience
from trunkline.residency.view import MakeBackend

MakeEngine = Callable[[BackendConfig], LaunchedEngine]


@pytest.fixture
async def make_engine(make_backend: MakeBackend, launchers: Launchers) -> AsyncIterator[MakeEngine]:
    """All of them are stopped in the end, also where a test fails."""
    made: list[LaunchedEngine] = []

    def make(config: BackendConfig) -> LaunchedEngine:
        assert config.launch is not None
        one = launched(config, config.launch, make_backend, launchers, os.environ)
        one._pace = Pace(first=0.05, longest=0.2)
        made.append(one)
        return one

    yield make
    for one in made:
        await one.unload()


async def test_ready_once_it_is_healthy(make_engine: MakeEngine, tmp_path: Path) -> None:
    well = tmp_path / "well"
    one = make_engine(config("--when", str(well)))
    assert one.backend.health().state == "starting"
    load = asyncio.create_task(one.load())
    await until(lambda: "503" in one.backend.health().detail)
    with pytest.raises(Unavailable, match="starting"):
        await one.backend.detokenize((1,))
    well.touch()
    await load
    assert one.backend.health().state == "ready"
    assert [card.name for card in one.backend.models()] == ["tiny"]
    pid = one.pid
    await one.unload()
    assert one.pid == 0
    assert not alive(pid)
    # What it serves stays known.
    assert [card.name for card in one.backend.models()] == ["tiny"]
    await one.unload()


async def test_an_engine_that_ends_at_its_start_says_why(make_engine: MakeEngine) -> None:
    one = make_engine(config("--exit", "3"))
    with pytest.raises(Unavailable, match="with status 3; its last words: the model does not"):
        await one.load()
    assert one.backend.health().state == "failed"
    assert one.pid == 0


async def test_an_engine_that_never_gets_well_is_stopped(make_engine: MakeEngine) -> None:
    made = config("--sick", "--stubborn", "--say", "hm", start_timeout=2.5, stop_timeout=0.1)
    one = make_engine(made)
    load = asyncio.create_task(one.load())
    await until(lambda: one.pid > 0)
    pid = one.pid
    with pytest.raises(Unavailable, match=r"not healthy within 2.5 s; its last words: hm"):
        await load
    assert not alive(pid)


async def test_a_crash_is_told_and_it_is_started_again(
    make_engine: MakeEngine,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    crash = tmp_path / "crash"
    one = make_engine(config("--crash-file", str(crash)))
    states: list[str] = []
    down, one.backend.down = one.backend.down, lambda h, *a: (states.append(str(h)), down(h, *a))  # type: ignore[method-assign,assignment,func-returns-value]
    await one.load()
    first, url = one.pid, one._running.url  # type: ignore[union-attr]
    with caplog.at_level(logging.ERROR, "trunkline.residency"):
        crash.touch()
        await until(lambda: one.pid not in (0, first) and one.backend.health().state == "ready")
    assert one.backend.stats().restarts == 1
    assert "ended with status 7; its last words: CUDA error" in caplog.text
    assert any("restarting" in state and "out of patience" in state for state in states)
    assert one._running is not None
    assert one._running.url == url
    await one.unload()


async def test_cancelling_a_load_stops_the_engine(make_engine: MakeEngine) -> None:
    one = make_engine(config("--sick"))
    load = asyncio.create_task(one.load())
    await until(lambda: one.pid > 0)
    pid = one.pid
    load.cancel()
    with pytest.raises(asyncio.CancelledError):
        await load
    assert not alive(pid)


async def test_a_wrong_configuration_is_refused_by_name(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    wrong = BackendConfig(name="x", kind="vllm", launch=LaunchConfig())
    with pytest.raises(ValueError, match=r"backend 'x': launch.model must say"):
        async with open_residency([wrong], (), None, make_backend, launchers, {}):
            pass


def opened(
    backends: list[BackendConfig],
    make_backend: MakeBackend,
    launchers: Launchers,
    budget: int | None = None,
    engines: tuple[EnginePlan, ...] = (),
) -> contextlib.AbstractAsyncContextManager[Opened]:
    return open_residency(backends, engines, budget, make_backend, launchers, os.environ)


def engines_of(residency: Opened) -> list[LaunchedEngine]:
    found = [slot.resident for slot in residency.slots().values()]
    return [resident for resident in found if isinstance(resident, LaunchedEngine) and resident.pid]


async def test_two_engines_take_turns_in_one_budget(
    make_backend: MakeBackend, launchers: Launchers
) -> None:
    backends = [config(name=name, on_demand=True, memory=6, model=name) for name in ("a", "b")]
    async with opened(backends, make_backend, launchers, 10) as residency:
        a, b = residency.on_demand("a"), residency.on_demand("b")
        assert [card.name for card in a.models()] == ["a"]
        assert a.health().load_seconds > 0
        await a.load()
        assert (a.resident, b.resident, residency.memory_in_use) == (True, False, 6)
        assert a.health().load_seconds == 0
        await b.load()
        assert (a.resident, b.resident, residency.memory_in_use) == (False, True, 6)
        b.unload()
        await until(lambda: residency.memory_in_use == 0)
        await a.load()
        pids = [engine.pid for engine in engines_of(residency)]
    assert len(pids) == 1
    assert not alive(pids[0])


async def test_those_that_start_with_the_server_are_waited_for(
    make_backend: MakeBackend, launchers: Launchers, tmp_path: Path
) -> None:
    well = tmp_path / "well"
    async with opened([config("--when", str(well))], make_backend, launchers) as residency:
        assert residency.backend("tiny").health().state == "starting"
        well.touch()
        await residency.started()
        assert residency.backend("tiny").health().state == "ready"
        assert residency.slots()["tiny"].pinned
    async with opened([config("--exit", "1")], make_backend, launchers) as residency:
        with pytest.raises(Unavailable, match="the model does not exist"):
            await residency.started()


async def test_killed_while_it_is_up(make_engine: MakeEngine) -> None:
    one = make_engine(config())
    await one.load()
    pid = one.pid
    os.kill(pid, signal.SIGKILL)
    await until(lambda: one.pid not in (0, pid) and one.backend.health().state == "ready")
    await one.unload()


class Asking:
    """Clients that ask again and again."""

    def __init__(self, engine: LaunchedEngine, clients: int) -> None:
        self._engine = engine
        self._tasks = [asyncio.create_task(self._ask(n)) for n in range(clients)]
        # What they were told, and how many failed.
        self.texts: list[str] = []
        self.failed = 0

    async def _ask(self, client: int) -> None:
        while True:
            sink = Sink()
            said = ChatInput((Message(role="user", content="hello"),))
            self._engine.backend.submit(Request(id=f"{client}", model="tiny", input=said), sink)
            if isinstance((await sink.done())[-1], Completed):
                self.texts.append(sink.text)
            else:
                self.failed += 1
            await asyncio.sleep(0.01)

    async def close(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


def asked(made: BackendConfig, first_token: float) -> BackendConfig:
    """With quick checks, which a busy engine misses."""
    return msgspec.structs.replace(
        made,
        health=Probe(interval=0.05, timeout=0.05),
        timeouts=Timeouts(first_token=first_token),
    )


async def test_one_that_hangs_is_started_again_although_it_is_asked(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(launched_module, "_UNWELL", 0.8)
    one = make_engine(asked(config(stop_timeout=0.1), first_token=0.5))
    await one.load()
    pid = one.pid
    clients = Asking(one, 3)
    await until(lambda: bool(clients.texts))
    os.kill(pid, signal.SIGSTOP)
    await until(lambda: one.backend.health().state == "stalled")
    await until(lambda: one.pid not in (0, pid) and clients.texts[-1] == str(one.pid))
    await clients.close()
    assert not alive(pid)
    assert re.search(r"was not well for \d+ s: .* did not answer within 0.05 s", caplog.text)


async def test_one_that_answers_slowly_is_left_to_its_work(
    make_engine: MakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It misses every check while it computes."""
    monkeypatch.setattr(launched_module, "_UNWELL", 0.6)
    one = make_engine(asked(config("--slow", "0.7"), first_token=60))
    await one.load()
    pid = one.pid
    clients = Asking(one, 3)
    states: set[str] = set()

    def enough() -> bool:
        states.add(one.backend.health().state)
        return len(clients.texts) > 3

    await until(enough)
    await clients.close()
    assert (one.pid, one.backend.restarts, clients.failed) == (pid, 0, 0)
    assert set(clients.texts) == {str(pid)}
    assert "stalled" in states


STALLED, FAILED, READY = Health("stalled"), Health("failed"), Health("ready")


@pytest.mark.parametrize(("waits", "seconds"), [(8, 60), (300, 300)])
def test_one_at_work_may_be_silent_as_long_as_anybody_waits(waits: float, seconds: float) -> None:
    one = Patience()
    assert not one.over(STALLED, waits, 100.0)
    assert not one.over(STALLED, waits, 100.0 + seconds)
    # Whether somebody asks at the moment of a check is chance.
    assert not one.over(FAILED, waits, 100.0 + seconds)
    assert one.over(STALLED, waits, 101.0 + seconds) == seconds + 1
    assert not one.over(READY, waits, 102.0 + seconds)
    assert not one.over(STALLED, waits, 103.0 + seconds)


@pytest.mark.parametrize(
    ("timeouts", "seconds"),
    [
        (Timeouts(first_token=8), 8),
        (Timeouts(first_token=0, attempt=900), 900),
        (Timeouts(first_token=0, attempt=0), inf),
    ],
)
async def test_how_long_anybody_waits(
    make_engine: MakeEngine, timeouts: Timeouts, seconds: float
) -> None:
    one = make_engine(msgspec.structs.replace(config(), timeouts=timeouts))
    assert one._waits() == seconds


def test_one_at_work_may_be_silent_for_ever_where_requests_wait_for_ever() -> None:
    one = Patience()
    assert not any(one.over(STALLED, inf, float(now)) for now in range(0, 90_000, 1000))


def test_patience_with_one_that_has_nothing_to_do() -> None:
    one = Patience()
    assert not one.over(STALLED, 300, 0.0)
    assert not one.over(FAILED, 300, 50.0)
    assert not one.over(FAILED, 300, 110.0)
    assert one.over(FAILED, 300, 111.0) == 61
    assert not one.over(READY, 300, 112.0)
    assert not one.over(FAILED, 300, 113.0)
