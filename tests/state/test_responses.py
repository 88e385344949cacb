from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from trunkline.core.errors import InvalidRequest, NotFound, Unavailable
from trunkline.state import database as databases
from trunkline.state.database import Database
from trunkline.state.responses import ResponseStore, StoredResponse, StoreLimits


def one(name: str, previous: str | None = None, size: int = 10) -> StoredResponse:
    return StoredResponse(name, previous, b"x" * size, b"[]", (f"{name}-item",))


@pytest.fixture
async def database() -> AsyncIterator[Database]:
    made = Database(None)
    yield made
    await made.close()


@pytest.fixture
def store(database: Database) -> ResponseStore:
    return ResponseStore(database)


async def test_what_is_put_is_found_at_once(store: ResponseStore) -> None:
    for index in range(50):
        store.put("a", one(f"r{index}"))
        assert (await store.get("a", f"r{index}")).body == b"x" * 10


async def test_tenants_see_their_own_alone(store: ResponseStore) -> None:
    store.put("a", one("r"))
    for ask in (
        store.get("b", "r"),
        store.chain("b", "r"),
        store.delete("b", "r"),
        store.holders("b", ["r-item"]),
    ):
        with pytest.raises(NotFound):
            await ask
    assert (await store.get("a", "r")).id == "r"


async def test_a_chain_comes_oldest_first(store: ResponseStore) -> None:
    store.put("a", one("1"))
    store.put("a", one("2", "1"))
    store.put("a", one("3", "2"))
    assert [found.id for found in await store.chain("a", "3")] == ["1", "2", "3"]
    await store.delete("a", "2")
    with pytest.raises(NotFound, match="'2'"):
        await store.chain("a", "3")
    with pytest.raises(NotFound):
        await store.delete("a", "2")


async def test_a_circle_ends(store: ResponseStore) -> None:
    store.put("a", one("1", "2"))
    store.put("a", one("2", "1"))
    with pytest.raises(InvalidRequest, match="begin a new one"):
        await store.chain("a", "1")


async def test_items_lead_to_their_response(store: ResponseStore) -> None:
    store.put("a", one("1"))
    store.put("a", StoredResponse("2", None, b"", b"[]", ("1-item", "2-item")))
    found = await store.holders("a", ["1-item", "2-item"])
    assert {item: response.id for item, response in found.items()} == {"1-item": "1", "2-item": "2"}
    await store.delete("a", "2")
    with pytest.raises(NotFound):
        await store.holders("a", ["2-item"])


async def test_a_file_outlives_the_server(tmp_path: Path) -> None:
    path = tmp_path / "responses.sqlite"
    first = Database(path)
    ResponseStore(first).put("a", one("r"))
    await first.close()
    second = Database(path)
    store = ResponseStore(second)
    assert (await store.get("a", "r")).id == "r"
    await second.close()
    await second.close()
    with pytest.raises(Unavailable):
        await store.get("a", "r")
    store.put("a", one("late"))
    assert second.dropped == 1


async def swept(limits: StoreLimits, path: Path) -> list[str]:
    """What a store with these limits leaves of five responses, the first of which was used last."""
    first = Database(path)
    writer = ResponseStore(first)
    for name in "12345":
        writer.put("a", one(name, size=98))
    await writer.chain("a", "1")
    await first.close()
    second = Database(path)
    store = ResponseStore(second, limits)
    left = []
    for name in "12345":
        try:
            left.append((await store.get("a", name)).id)
        except NotFound:
            continue
    await second.close()
    with sqlite3.connect(path) as there:
        items = there.execute("SELECT count(*) FROM items").fetchone()
    there.close()
    assert items == (len(left),)
    return left


async def test_the_least_recently_used_go_first(tmp_path: Path) -> None:
    assert await swept(StoreLimits(count=3), tmp_path / "a") == ["1", "4", "5"]
    assert await swept(StoreLimits(size=250), tmp_path / "b") == ["1", "5"]
    assert await swept(StoreLimits(age=0), tmp_path / "c") == []


async def test_too_many_questions_are_refused(
    store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_MAX_WAITING", 2)
    store.put("a", one("r"))
    answers = await asyncio.gather(*(store.get("a", "r") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(answer, Unavailable) for answer in answers) == 3
    # The others are through: there is room again.
    assert (await store.get("a", "r")).id == "r"


async def test_a_slow_disk_bounds_what_waits(
    database: Database, store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_MAX_PENDING_BYTES", 30)
    gate = threading.Event()
    disk = database._thread.submit(gate.wait, 60)
    for name in "123":
        store.put("a", one(name))
    # Nobody has waited for it.
    assert not disk.done()
    assert database.dropped == 1
    gate.set()
    assert (await store.get("a", "2")).id == "2"
    store.put("a", one("3"))
    assert (await store.get("a", "3")).id == "3"


async def test_a_file_that_is_no_database_is_said_and_harms_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "responses.sqlite"
    path.write_bytes(b"not a database" * 1000)
    database = Database(path)
    store = ResponseStore(database)
    store.put("a", one("r"))
    with pytest.raises(Unavailable):
        await store.get("a", "r")
    assert database.dropped == 1
    assert "not stored" in caplog.text
    await database.close()


async def test_a_question_that_takes_too_long_ends(
    database: Database, store: ResponseStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(databases, "_TIMEOUT", 0.05)
    gate = threading.Event()
    database._thread.submit(gate.wait, 10)
    with pytest.raises(Unavailable, match="slow"):
        await store.get("a", "r")
    gate.set()
