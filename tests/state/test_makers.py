from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from trunkline.state.database import Database
from trunkline.state.makers import Maker, MakerLimits, Makers

A, B = Maker("a", "gpt"), Maker("b", "other")


async def test_who_made_a_response_is_found_at_once_and_by_its_tenant_alone() -> None:
    database = Database(None)
    makers = Makers(database)
    for number in range(50):
        makers.put("t", f"r{number}", A)
        assert await makers.get("t", f"r{number}") == A
    assert await makers.get("other", "r1") is None
    assert await makers.get("t", "nobody") is None
    makers.put("t", "r1", B)
    assert await makers.get("t", "r1") == B
    await makers.forget("t", "r1")
    await makers.forget("t", "r1")
    assert await makers.get("t", "r1") is None
    await database.close()


async def test_what_comes_meanwhile_is_written_together(tmp_path: Path) -> None:
    database = Database(tmp_path / "made")
    makers = Makers(database)
    gate = threading.Event()
    disk = database._thread.submit(gate.wait, 120)
    for number in range(20_100):
        makers.put("t", f"r{number}", A)
    # Nobody has waited for it.
    assert not disk.done()
    asked = asyncio.create_task(makers.get("t", "r19999"))
    # The thread has one piece of work for all of them.
    assert database._thread._work_queue.qsize() == 1
    gate.set()
    assert await asked == A
    # More than so many do not wait.
    assert await makers.get("t", "r20000") is None
    makers.put("t", "r20000", B)
    assert await makers.get("t", "r20000") == B
    await database.close()


async def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    path = tmp_path / "made"
    database = Database(path)
    makers = Makers(database)
    for name in "12345":
        makers.put("t", name, A)
        await makers.get("t", name)
    await makers.get("t", "1")
    await database.close()

    async def left(limits: MakerLimits) -> list[str]:
        database = Database(path)
        makers = Makers(database, limits)
        makers.put("t", "new", B)
        found = [name for name in "12345" if await makers.get("t", name)]
        await database.close()
        return found

    assert await left(MakerLimits(count=4)) == ["1", "4", "5"]
    assert await left(MakerLimits(age=0)) == []


async def test_a_file_that_is_no_database_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "made"
    path.write_bytes(b"not a database" * 1000)
    database = Database(path)
    makers = Makers(database)
    for _ in range(3):
        makers.put("t", "r", A)
        await asyncio.wrap_future(database._thread.submit(time.sleep, 0))
    assert database.dropped == 3
    assert "not remembered" in caplog.text
    await database.close()
    makers.put("t", "late", A)
    assert database.dropped == 4
