"""Sockets that accept connections, and the clock that ends those out of time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import stat
import time
from math import inf

from trunkline.core.looks import Looks
from trunkline.server.http.address import Address
from trunkline.server.http.connection import Connection
from trunkline.server.http.limits import Limits
from trunkline.server.http.pool import Application, ConnectionPool

_BACKLOG = 2048
# Seconds that clients have to read what was written when the listener closes.
_FLUSH = 1.0


class Listener:
    """Listens on any number of addresses; all connections share one pool."""

    def __init__(self, limits: Limits, application: Application) -> None:
        self.pool = ConnectionPool(limits, application)
        self._servers: list[asyncio.Server] = []
        self._paths: list[str] = []
        self._sweeper: asyncio.Task[None] | None = None

    async def open(self, address: Address) -> tuple[str, ...]:
        """Listen; returns the URLs, with the real port. Raises OSError."""
        loop = asyncio.get_running_loop()
        if self._sweeper is None:
            self._sweeper = asyncio.create_task(self._sweep())
        if address.path:
            _remove_stale(address.path)
            server = await loop.create_unix_server(self._connection, address.path, backlog=_BACKLOG)
            self._paths.append(address.path)
        else:
            server = await loop.create_server(
                self._connection,
                address.host or None,
                address.port,
                backlog=_BACKLOG,
                reuse_address=True,
            )
        self._servers.append(server)
        return tuple(_url(name) for name in (one.getsockname() for one in server.sockets))

    def stop_accepting(self) -> None:
        """Close the listening sockets; connections stay."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        for path in self._paths:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)
        self._paths.clear()

    async def wait_idle(self, seconds: float) -> bool:
        """Wait until no response is under way; False when `seconds` were not enough."""
        return await self.pool.until(lambda: not self.pool.active, seconds)

    async def close(self) -> None:
        """Cut the answers under way, let the last bytes of the others leave, close everything."""
        self.stop_accepting()
        for connection in list(self.pool.connections):
            if connection.busy:
                connection.cut()
            else:
                connection.close()
        await self.pool.until(lambda: not self.pool.connections, _FLUSH)
        for connection in list(self.pool.connections):
            connection.cut()
        await asyncio.sleep(0)
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)

    def _connection(self) -> Connection:
        return Connection(self.pool)

    async def _sweep(self) -> None:
        limits = self.pool.limits
        shortest = min(
            limits.header_timeout,
            limits.body_timeout,
            limits.keepalive_timeout,
            limits.write_timeout,
            limits.stream_keepalive or inf,
        )
        pause = min(1.0, max(0.01, shortest / 4))
        looks = Looks()
        while True:
            due = time.monotonic() + pause
            await asyncio.sleep(pause)
            now = time.monotonic()
            if looks.counts(now, due):
                self.pool.sweep(now)


def _url(name: tuple[str, int] | tuple[str, int, int, int] | str | bytes) -> str:
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if isinstance(name, str):
        return f"unix:{name}"
    host = f"[{name[0]}]" if ":" in name[0] else name[0]
    return f"http://{host}:{name[1]}"


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on. Raises OSError when somebody does."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            raise FileExistsError(f"{path} exists and is no socket")
        with socket.socket(socket.AF_UNIX) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
                return
        raise OSError(f"another process listens on {path}")
