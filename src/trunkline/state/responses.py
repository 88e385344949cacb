"""Stored responses: what `previous_response_id` and retrieval find again.

An SQLite file holds them; one thread does all the SQL, in the order in which it was asked for, so
that the event loop never waits for a disk and a response is found as soon as `put` has returned.
Number, bytes and age are bounded: the least recently used go first. Every tenant sees its own
alone.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import msgspec

from trunkline.core.errors import InvalidRequest, NotFound, Unavailable

log = logging.getLogger("trunkline.state")

T = TypeVar("T")

# Responses that one conversation may hold, one after the other, and their bytes.
MAX_CHAIN = 1000
MAX_CHAIN_BYTES = 64 * 1024 * 1024
# Bytes that wait to be written; beyond it a response is not kept.
_MAX_PENDING_BYTES = 64 * 1024 * 1024
# Questions that wait for the thread, and how long each may, in seconds.
_MAX_WAITING = 256
_TIMEOUT = 10.0
# Seconds between looks for what is too old or too much.
_SWEEP = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    tenant TEXT NOT NULL, id TEXT NOT NULL, previous TEXT, body BLOB NOT NULL, input BLOB NOT NULL,
    size INTEGER NOT NULL, used REAL NOT NULL, PRIMARY KEY (tenant, id));
CREATE INDEX IF NOT EXISTS responses_used ON responses (used, size);
CREATE TABLE IF NOT EXISTS items (
    tenant TEXT NOT NULL, item TEXT NOT NULL, response TEXT NOT NULL,
    PRIMARY KEY (tenant, item)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS items_response ON items (tenant, response);
"""


class StoreLimits(msgspec.Struct, frozen=True):
    """How much is kept, for how long."""

    # Responses.
    count: int = 100_000
    # Bytes of their bodies and inputs.
    size: int = 2 * 1024 * 1024 * 1024
    # Seconds since they were last used; OpenAI keeps them for 30 days.
    age: float = 30 * 24 * 3600.0


class StoredResponse(msgspec.Struct, frozen=True):
    """One response, and what it answered."""

    id: str
    # The response before it in the conversation.
    previous: str | None
    # The response object, JSON.
    body: bytes
    # The input items of its own request, a JSON list.
    input: bytes
    # Ids of the items in both.
    items: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Bytes that it counts for."""
        return len(self.body) + len(self.input)


class ResponseStore:
    """Keeps responses in a file; in memory when `path` is None. Close it when done."""

    def __init__(self, path: Path | None, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="responses")
        self._database: sqlite3.Connection | None = None
        self._swept = time.monotonic()
        self._lock = threading.Lock()
        self._pending_bytes = 0
        self._waiting = 0
        self._closed = False
        # Responses that were not kept, because the disk fell behind or failed.
        self.dropped = 0

    def put(self, tenant: str, response: StoredResponse) -> None:
        """Keep `response`; counted as dropped when too much waits to be written. Never waits."""
        with self._lock:
            if self._closed or self._pending_bytes + response.size > _MAX_PENDING_BYTES:
                self.dropped += 1
                log.warning("response %s is not stored: the disk is behind", response.id)
                return
            self._pending_bytes += response.size
        self._thread.submit(self._write, tenant, response)

    async def get(self, tenant: str, response_id: str) -> StoredResponse:
        """One response. Raises `NotFound`, and `Unavailable` when too many ask at once."""
        return await self._ask(lambda: self._find(tenant, response_id))

    async def chain(self, tenant: str, response_id: str) -> tuple[StoredResponse, ...]:
        """A response and all before it, the oldest first; all count as used now.

        Raises `NotFound` where one of them is gone, `InvalidRequest` where there are too many, and
        `Unavailable`.
        """
        return await self._ask(lambda: self._chain(tenant, response_id))

    async def holders(self, tenant: str, items: Sequence[str]) -> dict[str, StoredResponse]:
        """For each item the response that holds it. Raises `NotFound` and `Unavailable`."""
        return await self._ask(lambda: self._holders(tenant, items))

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget a response. Raises `NotFound` and `Unavailable`."""
        await self._ask(lambda: self._delete(tenant, response_id))

    async def close(self) -> None:
        """Write what waits, and close the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    async def _ask(self, question: Callable[[], T]) -> T:
        with self._lock:
            if self._closed or self._waiting >= _MAX_WAITING:
                raise Unavailable("the store of responses is busy; try again", retry_after=1.0)
            self._waiting += 1
        asked = self._thread.submit(question)
        asked.add_done_callback(lambda _: self._answered())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), _TIMEOUT)
        except TimeoutError as error:
            problem = "the store of responses is slow; try again"
            raise Unavailable(problem, retry_after=5.0) from error
        except sqlite3.Error as error:
            log.exception("the store of responses failed")
            raise Unavailable("the store of responses has failed; its log says more") from error

    def _answered(self) -> None:
        with self._lock:
            self._waiting -= 1

    # What follows runs in the thread.

    def _open(self) -> sqlite3.Connection:
        if self._database is None:
            database = sqlite3.connect(
                self._path or ":memory:", check_same_thread=False, isolation_level=None
            )
            try:
                # Another server may use the same file: wait for it, but not for ever.
                database.execute("PRAGMA busy_timeout=5000")
                database.execute("PRAGMA journal_mode=WAL")
                database.execute("PRAGMA synchronous=NORMAL")
                database.executescript(_SCHEMA)
            except sqlite3.Error:
                database.close()
                raise
            self._database = database
            self._sweep()
        return self._database

    def _write(self, tenant: str, response: StoredResponse) -> None:
        try:
            self._insert(tenant, response)
            if time.monotonic() - self._swept > _SWEEP:
                self._sweep()
        except sqlite3.Error:
            self.dropped += 1
            log.exception("response %s is not stored", response.id)
        finally:
            with self._lock:
                self._pending_bytes -= response.size

    def _insert(self, tenant: str, response: StoredResponse) -> None:
        database = self._open()
        database.execute("BEGIN IMMEDIATE")
        try:
            database.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(tenant, response.id, response.previous, response.body, response.input),
                    *(response.size, time.time()),
                ),
            )
            # An item that was sent again still belongs to the response that had it first.
            database.executemany(
                "INSERT OR IGNORE INTO items VALUES (?, ?, ?)",
                [(tenant, item, response.id) for item in response.items],
            )
        except sqlite3.Error:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _find(self, tenant: str, response_id: str) -> StoredResponse:
        row = self._open().execute(
            "SELECT previous, body, input FROM responses WHERE tenant = ? AND id = ? AND used > ?",
            (tenant, response_id, time.time() - self._limits.age),
        )
        found = row.fetchone()
        if found is None:
            raise NotFound(f"Response with id '{response_id[:100]}' not found.")
        return StoredResponse(response_id, *found)

    def _chain(self, tenant: str, response_id: str) -> tuple[StoredResponse, ...]:
        found: list[StoredResponse] = []
        size = 0
        at: str | None = response_id
        while at is not None:
            one = self._find(tenant, at)
            found.append(one)
            size += one.size
            if len(found) > MAX_CHAIN or size > MAX_CHAIN_BYTES:
                raise InvalidRequest(
                    f"The conversation before this has more than {MAX_CHAIN} responses or "
                    f"{MAX_CHAIN_BYTES} bytes; begin a new one."
                )
            at = one.previous
        self._open().executemany(
            "UPDATE responses SET used = ? WHERE tenant = ? AND id = ?",
            [(time.time(), tenant, one.id) for one in found],
        )
        return tuple(reversed(found))

    def _holders(self, tenant: str, items: Sequence[str]) -> dict[str, StoredResponse]:
        found: dict[str, StoredResponse] = {}
        read: dict[str, StoredResponse] = {}
        for item in items:
            row = self._open().execute(
                "SELECT response FROM items WHERE tenant = ? AND item = ?", (tenant, item)
            )
            response = row.fetchone()
            if response is None:
                raise NotFound(f"Item with id '{item[:100]}' not found.")
            holder = read.get(response[0]) or self._find(tenant, response[0])
            found[item] = read[response[0]] = holder
        return found

    def _delete(self, tenant: str, response_id: str) -> None:
        self._find(tenant, response_id)
        self._forget(tenant, response_id)

    def _forget(self, tenant: str, response_id: str) -> None:
        key = (tenant, response_id)
        self._open().execute("DELETE FROM items WHERE tenant = ? AND response = ?", key)
        self._open().execute("DELETE FROM responses WHERE tenant = ? AND id = ?", key)

    def _sweep(self) -> None:
        """Forget what is too old, then the least recently used until the rest is within bounds."""
        self._swept = time.monotonic()
        database = self._open()
        oldest = time.time() - self._limits.age
        totals = database.execute("SELECT count(*), coalesce(sum(size), 0) FROM responses")
        count, size = totals.fetchone()
        going: list[tuple[str, str]] = []
        rows = database.execute("SELECT tenant, id, size, used FROM responses ORDER BY used")
        for tenant, response_id, freed, used in rows:
            if used > oldest and count <= self._limits.count and size <= self._limits.size:
                break
            going.append((tenant, response_id))
            count, size = count - 1, size - freed
        rows.close()
        database.execute("BEGIN IMMEDIATE")
        try:
            for key in going:
                self._forget(*key)
        except sqlite3.Error:
            database.execute("ROLLBACK")
            raise
        database.execute("COMMIT")

    def _close(self) -> None:
        if self._database is not None:
            self._database.close()
            self._database = None
