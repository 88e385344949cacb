"""Which backend made a response that it keeps itself: whom to ask for it, and for what follows.

Relayed responses stay where they were made. Number and age are bounded: the least recently used go
first. Every tenant sees its own alone.
"""

from __future__ import annotations

import threading
import time

import msgspec

from trunkline.state.database import Connection, Database, transaction

# Bytes that one of them takes while it waits to be written, about; and how many may.
_SIZE = 500
_MAX_NEW = 20_000
# Seconds between looks for what is too old or too many.
_SWEEP = 60.0

_SCHEMA = """
CREATE TABLE IF NOT EXISTS makers (
    tenant TEXT NOT NULL, id TEXT NOT NULL, backend TEXT NOT NULL, model TEXT NOT NULL,
    used REAL NOT NULL, PRIMARY KEY (tenant, id)) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS makers_used ON makers (used);
"""


class Maker(msgspec.Struct, frozen=True):
    """Who made a response."""

    # As the configuration calls it.
    backend: str
    # As the client that asked for the response called the model.
    model: str


class MakerLimits(msgspec.Struct, frozen=True):
    """How many are remembered, for how long."""

    count: int = 1_000_000
    # Seconds since they were last asked for; OpenAI keeps responses for 30 days.
    age: float = 30 * 24 * 3600.0


class Makers:
    """A table of a database."""

    def __init__(self, database: Database, limits: MakerLimits | None = None) -> None:
        self._database = database
        self._limits = limits or MakerLimits()
        self._swept = 0.0
        self._lock = threading.Lock()
        # What the thread has not taken yet: one transaction for all that came meanwhile.
        self._new: list[tuple[str, str, str, str, float]] = []
        database.prepare(lambda there: there.executescript(_SCHEMA))

    def put(self, tenant: str, response_id: str, maker: Maker) -> None:
        """Remember who made a response. Never waits."""
        row = (tenant, response_id, maker.backend, maker.model, time.time())
        with self._lock:
            if len(self._new) < _MAX_NEW:
                self._new.append(row)
            if len(self._new) > 1:
                # The thread will find it there.
                return
        failed = "who made a response is not remembered"
        self._database.post(self._write, _SIZE * _MAX_NEW, failed, self._new.clear)

    async def get(self, tenant: str, response_id: str) -> Maker | None:
        """Who made a response; it counts as used now. Raises `Unavailable`."""
        return await self._database.ask(lambda there: self._find(there, tenant, response_id))

    async def forget(self, tenant: str, response_id: str) -> None:
        """The response is gone. Harmless where it is not known. Raises `Unavailable`."""
        key = (tenant, response_id)
        await self._database.ask(
            lambda there: there.execute("DELETE FROM makers WHERE tenant = ? AND id = ?", key)
        )

    # What follows runs in the thread.

    def _write(self, connection: Connection) -> None:
        with self._lock:
            new = self._new.copy()
            self._new.clear()
        with transaction(connection):
            connection.executemany("INSERT OR REPLACE INTO makers VALUES (?, ?, ?, ?, ?)", new)
        if time.monotonic() - self._swept > _SWEEP:
            self._sweep(connection)

    def _find(self, connection: Connection, tenant: str, response_id: str) -> Maker | None:
        now = time.time()
        row = connection.execute(
            "UPDATE makers SET used = ? WHERE tenant = ? AND id = ? AND used > ? "
            "RETURNING backend, model",
            (now, tenant, response_id, now - self._limits.age),
        )
        found = row.fetchall()
        return Maker(*found[0]) if found else None

    def _sweep(self, connection: Connection) -> None:
        self._swept = time.monotonic()
        oldest = time.time() - self._limits.age
        with transaction(connection):
            connection.execute("DELETE FROM makers WHERE used <= ?", (oldest,))
            (count,) = connection.execute("SELECT count(*) FROM makers").fetchone()
            connection.execute(
                "DELETE FROM makers WHERE (tenant, id) IN "
                "(SELECT tenant, id FROM makers ORDER BY used LIMIT ?)",
                (max(0, count - self._limits.count),),
            )
