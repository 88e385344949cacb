"""Whatever the work does to its worker, the next piece of work is done."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import msgspec
import pytest
import pytest_asyncio

from tests.engine.bounded_echo import Do, Hello
from tests.support.processes import killed
from trunkline.core.errors import InternalError, InvalidRequest
from trunkline.engine.bounded_worker import BoundedWorker, Died, Limits, TooSlow

ROOT = Path(__file__).resolve().parents[2]
LIMITS = Limits(0.3, 1 << 30, 20.0)


def make(word: str = "hi", limits: Limits = LIMITS) -> BoundedWorker:
    async def greeting() -> msgspec.Struct:
        return Hello(word)

    paths = os.pathsep.join((str(ROOT), str(ROOT / "src")))
    return BoundedWorker("tests.engine.bounded_echo", greeting, limits, env={"PYTHONPATH": paths})


@pytest_asyncio.fixture
async def worker() -> AsyncIterator[BoundedWorker]:
    found = make()
    yield found
    await found.end()


async def still_works(worker: BoundedWorker) -> bool:
    return await worker.ask(Do("x")) == "['hi'] x"


async def test_one_process_serves_many(worker: BoundedWorker) -> None:
    assert worker.pid == 0
    assert await still_works(worker)
    first = worker.pid
    assert first > 0
    assert await still_works(worker)
    assert worker.pid == first


@pytest.mark.parametrize("what", ["refuse", "surrogate"])
async def test_what_it_refuses_is_told(worker: BoundedWorker, what: str) -> None:
    with pytest.raises(InvalidRequest, match=r"refused|cannot be used"):
        await worker.ask(Do(what))
    assert worker.pid > 0
    assert await still_works(worker)


async def test_work_without_end_is_killed(worker: BoundedWorker) -> None:
    with pytest.raises(TooSlow, match=r"more than 0\.3 s"):
        await worker.ask(Do("loop"))
    assert worker.pid == 0
    assert await still_works(worker)


async def test_wall_clock_time_is_bounded_too() -> None:
    worker = make(limits=Limits(60.0, 1 << 30, 0.3))
    with pytest.raises(TooSlow):
        await worker.ask(Do("loop"))
    assert worker.pid == 0


async def test_memory_is_bounded(worker: BoundedWorker) -> None:
    with pytest.raises(Died) as caught:
        await worker.ask(Do("fill"))
    assert caught.value.code != 0
    assert await still_works(worker)


async def _killed(worker: BoundedWorker) -> None:
    await killed(worker.pid)


async def _cancelled(worker: BoundedWorker) -> None:
    task = asyncio.create_task(worker.ask(Do("loop")))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert worker.pid == 0


@pytest.mark.parametrize("harm", [_killed, _cancelled])
async def test_death_between_two_is_not_noticed(
    worker: BoundedWorker, harm: Callable[[BoundedWorker], Awaitable[None]]
) -> None:
    assert await still_works(worker)
    await harm(worker)
    assert await still_works(worker)


async def test_a_greeting_that_is_refused_leaves_no_process() -> None:
    worker = make("go away")
    with pytest.raises(InvalidRequest, match="no"):
        await worker.ask(Do("x"))
    assert worker.pid == 0


async def test_no_process_at_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/nowhere/python")
    with pytest.raises(InternalError, match="cannot start"):
        await make().ask(Do("x"))
