"""An SQLite file, and the one thread that does all the SQL in the order in which it was asked for.

The event loop never waits for a disk. What waits to be written is bounded in bytes, and what waits
for an answer in number and time.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from trunkline.core.errors import Unavailable

log = logging.getLogger("trunkline.state")

T = TypeVar("T")
Connection = sqlite3.Connection

# Bytes that wait to be written; beyond it nothing more is taken.
_MAX_PENDING_BYTES = 64 * 1024 * 1024
# Questions that wait for the thread, and how long each may, in seconds.
_MAX_WAITING = 256
_TIMEOUT = 10.0


class Database:
    """One file; in memory when `path` is None. Close it when done."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="state")
        self._connection: Connection | None = None
        self._prepared: list[Callable[[Connection], object]] = []
        self._lock = threading.Lock()
        self._pending_bytes = 0
        self._waiting = 0
        self._closed = False
        # Work that was not done, because the disk fell behind or failed.
        self.dropped = 0

    def prepare(self, work: Callable[[Connection], object]) -> None:
        """`work` is done in the thread when the file is opened; for those who use it, at first."""
        self._prepared.append(work)

    def post(
        self,
        work: Callable[[Connection], None],
        size: int,
        failed: str,
        lost: Callable[[], None] | None = None,
    ) -> None:
        """Do `work` later, which holds so many bytes until then. Never waits.

        Where it cannot be done the log says `failed`, and `lost` is called, in either thread.
        """
        with self._lock:
            taken = not self._closed and self._pending_bytes + size <= _MAX_PENDING_BYTES
            self._pending_bytes += size if taken else 0
        if taken:
            self._thread.submit(self._do, work, size, failed, lost)
            return
        log.warning("%s: the disk is behind", failed)
        self._drop(lost)

    async def ask(self, question: Callable[[Connection], T]) -> T:
        """The answer to `question`, in its turn. Raises what it raises, and `Unavailable`."""
        with self._lock:
            if self._closed or self._waiting >= _MAX_WAITING:
                raise Unavailable("the store of responses is busy; try again", retry_after=1.0)
            self._waiting += 1
        asked = self._thread.submit(lambda: question(self._open()))
        asked.add_done_callback(lambda _: self._answered())
        try:
            return await asyncio.wait_for(asyncio.wrap_future(asked), _TIMEOUT)
        except TimeoutError as error:
            problem = "the store of responses is slow; try again"
            raise Unavailable(problem, retry_after=5.0) from error
        except sqlite3.Error as error:
            log.exception("the store of responses failed")
            raise Unavailable("the store of responses has failed; its log says more") from error

    async def close(self) -> None:
        """Write what waits, and close the file."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        await asyncio.wrap_future(self._thread.submit(self._close))
        self._thread.shutdown(wait=False)

    def _answered(self) -> None:
        with self._lock:
            self._waiting -= 1

    def _drop(self, lost: Callable[[], None] | None) -> None:
        with self._lock:
            self.dropped += 1
        if lost is not None:
            lost()

    # What follows runs in the thread.

    def _do(
        self,
        work: Callable[[Connection], None],
        size: int,
        failed: str,
        lost: Callable[[], None] | None,
    ) -> None:
        try:
            work(self._open())
        except sqlite3.Error:
            log.exception("%s", failed)
            self._drop(lost)
        finally:
            with self._lock:
                self._pending_bytes -= size

    def _open(self) -> Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                self._path or ":memory:", check_same_thread=False, isolation_level=None
            )
            try:
                # Another server may use the same file: wait for it, but not for ever.
                connection.execute("PRAGMA busy_timeout=5000")
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=NORMAL")
                for work in self._prepared:
                    work(connection)
            except sqlite3.Error:
                connection.close()
                raise
            self._connection = connection
        return self._connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


@contextlib.contextmanager
def transaction(connection: Connection) -> Iterator[None]:
    """All of what is done in the block, or nothing."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except sqlite3.Error:
        connection.execute("ROLLBACK")
        raise
    connection.execute("COMMIT")
