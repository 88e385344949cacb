"""Stored responses: what `previous_response_id` and retrieval find again.

A table of `database.Database` holds them, so that the event loop never waits for a disk and a
response is found as soon as `put` has returned. Number, bytes and age are bounded: the least
recently used go first. Every tenant sees its own alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec

from trunkline.core.errors import InvalidRequest, NotFound, response_not_found
from trunkline.state.database import Connection, Database, transaction

# Responses that one conversation may hold, one after the other, and their bytes.
MAX_CHAIN = 1000
MAX_CHAIN_BYTES = 64 * 1024 * 1024
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
    """Keeps responses in a database."""

    def __init__(self, database: Database, limits: StoreLimits | None = None) -> None:
        self._database = database
        self._limits = limits or StoreLimits()
        self._swept = time.monotonic()
        database.prepare(self._prepare)

    def put(self, tenant: str, response: StoredResponse) -> None:
        """Keep `response`; counted as dropped when too much waits to be written. Never waits."""
        failed = f"response {response.id} is not stored"
        self._database.post(
            lambda there: self._write(there, tenant, response), response.size, failed
        )

    async def get(self, tenant: str, response_id: str) -> StoredResponse:
        """One response. Raises `NotFound`, and `Unavailable` when too many ask at once."""
        return await self._database.ask(lambda there: self._find(there, tenant, response_id))

    async def chain(self, tenant: str, response_id: str) -> tuple[StoredResponse, ...]:
        """A response and all before it, the oldest first; all count as used now.

        Raises `NotFound` where one of them is gone, `InvalidRequest` where there are too many, and
        `Unavailable`.
        """
        return await self._database.ask(lambda there: self._chain(there, tenant, response_id))

    async def holders(self, tenant: str, items: Sequence[str]) -> dict[str, StoredResponse]:
        """For each item the response that holds it. Raises `NotFound` and `Unavailable`."""
        return await self._database.ask(lambda there: self._holders(there, tenant, items))

    async def delete(self, tenant: str, response_id: str) -> None:
        """Forget a response. Raises `NotFound` and `Unavailable`."""
        await self._database.ask(lambda there: self._delete(there, tenant, response_id))

    # What follows runs in the thread.

    def _prepare(self, connection: Connection) -> None:
        connection.executescript(_SCHEMA)
        self._sweep(connection)

    def _write(self, connection: Connection, tenant: str, response: StoredResponse) -> None:
        self._insert(connection, tenant, response)
        if time.monotonic() - self._swept > _SWEEP:
            self._sweep(connection)

    def _insert(self, connection: Connection, tenant: str, response: StoredResponse) -> None:
        with transaction(connection):
            connection.execute(
                "INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?, ?, ?, ?)",
                (
                    *(tenant, response.id, response.previous, response.body, response.input),
                    *(response.size, time.time()),
                ),
            )
            # An item that was sent again still belongs to the response that had it first.
            connection.executemany(
                "INSERT OR IGNORE INTO items VALUES (?, ?, ?)",
                [(tenant, item, response.id) for item in response.items],
            )

    def _find(self, connection: Connection, tenant: str, response_id: str) -> StoredResponse:
        row = connection.execute(
            "SELECT previous, body, input FROM responses WHERE tenant = ? AND id = ? AND used > ?",
            (tenant, response_id, time.time() - self._limits.age),
        )
        found = row.fetchone()
        if found is None:
            raise response_not_found(response_id)
        return StoredResponse(response_id, *found)

    def _chain(
        self, connection: Connection, tenant: str, response_id: str
    ) -> tuple[StoredResponse, ...]:
        found: list[StoredResponse] = []
        size = 0
        at: str | None = response_id
        while at is not None:
            one = self._find(connection, tenant, at)
            found.append(one)
            size += one.size
            if len(found) > MAX_CHAIN or size > MAX_CHAIN_BYTES:
                raise InvalidRequest(
                    f"The conversation before this has more than {MAX_CHAIN} responses or "
                    f"{MAX_CHAIN_BYTES} bytes; begin a new one."
                )
            at = one.previous
        connection.executemany(
            "UPDATE responses SET used = ? WHERE tenant = ? AND id = ?",
            [(time.time(), tenant, one.id) for one in found],
        )
        return tuple(reversed(found))

    def _holders(
        self, connection: Connection, tenant: str, items: Sequence[str]
    ) -> dict[str, StoredResponse]:
        found: dict[str, StoredResponse] = {}
        read: dict[str, StoredResponse] = {}
        for item in items:
            row = connection.execute(
                "SELECT response FROM items WHERE tenant = ? AND item = ?", (tenant, item)
            )
            response = row.fetchone()
            if response is None:
                raise NotFound(f"Item with id '{item[:100]}' not found.")
            holder = read.get(response[0]) or self._find(connection, tenant, response[0])
            found[item] = read[response[0]] = holder
        return found

    def _delete(self, connection: Connection, tenant: str, response_id: str) -> None:
        self._find(connection, tenant, response_id)
        self._forget(connection, tenant, response_id)

    def _forget(self, connection: Connection, tenant: str, response_id: str) -> None:
        key = (tenant, response_id)
        connection.execute("DELETE FROM items WHERE tenant = ? AND response = ?", key)
        connection.execute("DELETE FROM responses WHERE tenant = ? AND id = ?", key)

    def _sweep(self, connection: Connection) -> None:
        """Forget what is too old, then the least recently used until the rest is within bounds."""
        self._swept = time.monotonic()
        oldest = time.time() - self._limits.age
        totals = connection.execute("SELECT count(*), coalesce(sum(size), 0) FROM responses")
        count, size = totals.fetchone()
        going: list[tuple[str, str]] = []
        rows = connection.execute("SELECT tenant, id, size, used FROM responses ORDER BY used")
        for tenant, response_id, freed, used in rows:
            if used > oldest and count <= self._limits.count and size <= self._limits.size:
                break
            going.append((tenant, response_id))
            count, size = count - 1, size - freed
        rows.close()
        with transaction(connection):
            for key in going:
                self._forget(connection, *key)
