"""A server for tests that sends exactly the bytes that it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.origin import Origin
from trunkline.backends.http.pool import Pool, PoolLimits
from trunkline.backends.http.transfer import Transfer
from trunkline.core.errors import TrunklineError
from trunkline.wire.client import Head

# Seconds that nothing here may take, also on a machine that has little time for it.
PATIENCE = 30.0
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"


class Peer:
    """One connection as the server sees it."""

    def __init__(
        self, number: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        # Of the connection, from 0.
        self.number = number
        self.writer = writer
        self._reader = reader

    async def request(self) -> bytes:
        """The next request: its head and body. Raises IncompleteReadError at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return head + await self._reader.readexactly(length)

    async def send(self, *pieces: bytes) -> None:
        """Send each piece in a packet of its own, as far as that can be had."""
        for piece in pieces:
            self.writer.write(piece)
            await self.writer.drain()
            if len(pieces) > 1:
                await asyncio.sleep(0.001)

    async def gone(self) -> None:
        """Wait until the client has closed."""
        with contextlib.suppress(ConnectionError):
            while await self._reader.read(65536):
                pass

    def reset(self) -> None:
        """Break the connection off."""
        self.writer.transport.abort()


Talk = Callable[[Peer], Awaitable[None]]


@contextlib.asynccontextmanager
async def serve(talk: Talk, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server that holds `talk` with each connection, then closes it; yields its port."""
    count = 0
    talks: set[asyncio.Task[None]] = set()

    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        peer = Peer(count, reader, writer)
        count += 1
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await talk(peer)
            writer.close()
        except asyncio.CancelledError:
            writer.transport.abort()

    server = await asyncio.start_server(hold, "127.0.0.1", 0, ssl=tls)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def pooled(
    port: int, limits: PoolLimits | None = None, *, tls: bool = False, verify: bool = True
) -> AsyncIterator[Pool]:
    """A pool of connections to a local server."""
    client = HttpClient()
    try:
        origin = Origin("127.0.0.1", port, tls, verify=verify)
        yield client.pool(origin, "peer", limits or PoolLimits(connect=PATIENCE))
    finally:
        await client.close()


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that the network brings about."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110 - connections have no event for it
            await asyncio.sleep(0.01)


class Taker(Transfer, eq=False, kw_only=True):
    """A transfer that keeps what it gets."""

    head: bytes = GET
    response: Head | None = None
    pieces: list[bytes] = msgspec.field(default_factory=list)
    error: TrunklineError | None = None
    ended: bool = False
    on_first: Callable[[], None] | None = None
    _done: asyncio.Event = msgspec.field(default_factory=asyncio.Event)
    _some: asyncio.Event = msgspec.field(default_factory=asyncio.Event)

    @property
    def answer(self) -> bytes:
        return b"".join(self.pieces)

    def on_head(self, head: Head) -> None:
        assert self.response is None
        self.response = head

    def on_data(self, data: bytes) -> None:
        assert self.response is not None
        assert data
        assert not self.ended
        self.pieces.append(data)
        self._some.set()
        if self.on_first is not None:
            self.on_first()

    def on_end(self) -> None:
        assert self.response is not None
        assert self.error is None
        self.ended = True
        self._done.set()

    def on_failure(self, error: TrunklineError) -> None:
        assert not self.ended
        assert self.error is None
        self.error = error
        self._done.set()

    async def finished(self) -> Taker:
        """Wait for the end, good or bad."""
        async with asyncio.timeout(PATIENCE):
            await self._done.wait()
        return self

    async def some(self) -> None:
        """Wait for the first piece of the body."""
        async with asyncio.timeout(PATIENCE):
            await self._some.wait()


def whole(body: bytes, *lines: bytes) -> bytes:
    """A response with a length."""
    head = b"".join(line + b"\r\n" for line in lines)
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n%b\r\n%b" % (len(body), head, body)


def chunked(*pieces: bytes, lines: bytes = b"") -> bytes:
    """A response in chunks."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n%b\r\n" % lines
    return head + b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
