"""Clients that read slowly, or not at all."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from tests.server.support import (
    CHAT,
    HELLO,
    PATIENCE,
    Client,
    Running,
    answer,
    request,
    running,
    text_of,
    until,
)
from tests.support.fake_backend import FakeBackend
from trunkline.core.types import Completed, Delta, RowFinished, Timing, Usage
from trunkline.server.http import connection as connections
from trunkline.server.http.pool import ConnectionPool

LIVE = request("GET", "/health/live")


class Clock:
    """What connections take for the time; that of the machine is chance."""

    def __init__(self) -> None:
        self.now = time.monotonic()

    def monotonic(self) -> float:
        """As of `time`."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The test alone looks at deadlines."""
    found = Clock()
    monkeypatch.setattr(connections, "time", found)
    monkeypatch.setattr(ConnectionPool, "sweep", lambda *_: None)
    return found


async def test_a_reader_that_falls_behind_is_cut_off() -> None:
    backend = FakeBackend("manual")
    bound = 256 * 1024
    async with running(backend, max_write_buffer=bound) as one:
        client = await _stream(one, backend)
        call = backend.calls[0]
        largest = 0
        for _ in range(2000):
            call.delta("x" * 8192)
            if call.cancelled.is_set():
                break
            connection = one.connection()
            largest = max(largest, connection._buffered())
            await asyncio.sleep(0)
        assert call.cancelled.is_set()
        assert largest <= bound
        await until(lambda: not one.pool.connections)
        client.close()


async def test_a_reader_that_stalls_is_cut_off() -> None:
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=0.2) as one:
        client = await _stream(one, backend)
        connection = one.connection()
        # The kernel takes a few megabytes before it says that the client does not read.
        since = time.monotonic()
        while not connection.congested:
            since = time.monotonic()
            backend.calls[0].delta("x" * 65536)
            await asyncio.sleep(0)
        async with asyncio.timeout(PATIENCE):
            await backend.calls[0].cancelled.wait()
        assert time.monotonic() - since >= 0.2
        client.close()


async def test_a_slow_reader_that_goes_on_reading_gets_everything(clock: Clock) -> None:
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=10, max_write_buffer=1 << 24) as one:
        client = await _stream(one, backend)
        connection = one.connection()
        # Far more than the kernel takes.
        size = 12_000_000
        backend.calls[0].delta("x" * size)
        answer(backend, 0, "end")
        await client.head()
        await until(lambda: connection.congested)
        got = looks = 0
        while got < size:
            data = await client.reader.read(65536)
            assert data
            got += data.count(b"x")
            if connection.congested and connection._buffered() < connection._stalled_size:
                # It has taken something since the last look.
                clock.now += 12
                looks += 1
                connection.check(clock.now)
        assert looks > 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_reader_gets_everything_also_when_the_connection_ends(stream: bool) -> None:
    """It reads for longer than it may stall or idle."""
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=1.5, keepalive_timeout=1.5) as one:
        client = await _small_reader(one)
        size = 1 << 21
        asked = request("POST", CHAT, {**HELLO, "stream": stream}, "connection: close")
        await client.send(asked)
        await until(lambda: backend.calls)
        _little_waits_in_the_kernel(one)
        answer(backend, 0, "x" * size)
        got = 0
        began = time.monotonic()
        while time.monotonic() - began < 30 and (piece := await client.reader.read(1 << 16)):
            got += piece.count(b"x")
            await asyncio.sleep(0.02)
        assert got >= size
        assert time.monotonic() - began > 2


async def test_a_slow_reader_of_what_goes_on_may_fall_behind() -> None:
    """It stalls only when it reads nothing, however much is added meanwhile."""
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=0.5, max_write_buffer=1 << 26) as one:
        client = await _stream(one, backend)
        _little_waits_in_the_kernel(one)
        connection, call = one.connection(), backend.calls[0]
        while not connection.congested:
            call.delta("x" * 65536)
            await asyncio.sleep(0)
        began = time.monotonic()
        while time.monotonic() - began < 2:
            # More is written than is read.
            call.delta("x" * 65536)
            assert await client.reader.read(8192)
            await asyncio.sleep(0.01)
            assert not call.cancelled.is_set()
        client.close()


async def test_a_slow_reader_may_fall_behind_by_how_an_answer_ends(clock: Clock) -> None:
    """Much may be written with its end."""
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=10) as one:
        client = await _stream(one, backend)
        _little_waits_in_the_kernel(one)
        connection, call = one.connection(), backend.calls[0]
        while not connection.congested:
            call.delta("x" * 65536)
            await asyncio.sleep(0)
        name, size = call.request.id, 4 << 20
        over = Completed(name, Usage(1, 1), Timing())
        call.send(Delta(name, 0, "y" * size, (1,)), RowFinished(name, 0, "stop"), over)
        waits = connection._buffered()
        while connection._buffered() >= waits:
            assert await client.reader.read(8192)
        clock.now += 12
        connection.check(clock.now)
        got = 0
        while got < size and (piece := await client.reader.read(1 << 16)):
            got += piece.count(b"y")
        assert got >= size


async def test_answers_do_not_pile_up_before_a_client_that_does_not_read() -> None:
    backend = FakeBackend("manual")
    async with running(backend, max_pipelined=4) as one:
        client = await _small_reader(one)
        await client.send(request("POST", CHAT, HELLO) * 4)
        await until(lambda: backend.calls)
        size = 8 << 20
        answer(backend, 0, "x" * size)
        connection = one.connection()
        await until(lambda: connection.congested)
        await client.send(LIVE)
        await asyncio.sleep(0.05)
        assert len(backend.calls) == 1
        assert len(text_of((await client.response()).json())) == size
        for index in range(1, 4):
            await until(lambda index=index: len(backend.calls) > index)
            answer(backend, index, "y")
            assert text_of((await client.response()).json()) == "y"
        assert (await client.response()).json() == {"status": "ok"}


async def _stream(one: Running, backend: FakeBackend) -> Client:
    """One who reads slowly, and has asked for a stream."""
    client = await _small_reader(one)
    await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
    await until(lambda: backend.calls)
    return client


def _little_waits_in_the_kernel(one: Running) -> None:
    """So that what the client has read is seen soon."""
    transport = one.connection()._transport
    assert transport is not None
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)


async def _small_reader(one: Running) -> Client:
    """A connection that buffers little on the client's side."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    host, port = one.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return await one.connect(sock, limit=4096)
