from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from typing import Any

import pytest

from tests.server.support import (
    CHAT,
    HELLO,
    PATIENCE,
    Client,
    answer,
    request,
    running,
    text_of,
    until,
)
from tests.support.fake_backend import FakeBackend
from tests.support.stops import stops
from trunkline.server.http.exchange import Exchange

LIVE = request("GET", "/health/live")


async def test_a_connection_serves_many_requests() -> None:
    async with running() as one:
        client = await one.connect()
        for _ in range(3):
            assert (await client.ask("POST", CHAT, HELLO)).status == 200
            assert (await client.ask("GET", "/health/live")).json() == {"status": "ok"}


async def test_answers_to_pipelined_requests_come_in_order() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO) + LIVE + request("POST", CHAT, HELLO))
        await until(lambda: len(backend.calls) == 1)
        await asyncio.sleep(0.02)
        # Nothing is answered, and nothing more begun, before the first one is.
        assert len(backend.calls) == 1
        answer(backend, 0, "first")
        assert text_of((await client.response()).json()) == "first"
        assert (await client.response()).json() == {"status": "ok"}
        await until(lambda: len(backend.calls) == 2)
        answer(backend, 1, "second")
        assert text_of((await client.response()).json()) == "second"


async def test_pipelining_is_bounded_and_loses_nothing() -> None:
    backend = FakeBackend("manual")
    async with running(backend, max_pipelined=4) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await until(lambda: backend.calls)
        count = 2000
        sending = asyncio.create_task(client.send(LIVE * count))
        await asyncio.sleep(0.05)
        connection = one.connection()
        assert len(connection._queue) < 1000
        answer(backend, 0, "x")
        assert (await client.response()).status == 200
        for _ in range(count):
            assert (await client.response()).status == 200
        await sending


async def test_expect_continue_waits_for_its_turn() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await _expecting(client, backend)


async def test_head_has_no_body() -> None:
    async with running() as one:
        client = await one.connect()
        seen = await client.ask("HEAD", "/")
        assert seen.status == 200
        assert int(seen.headers["content-length"]) > 0
        # The next response begins right after the headers.
        assert (await client.ask("GET", "/health/live")).json() == {"status": "ok"}


async def test_connection_close_is_honoured() -> None:
    async with running() as one:
        client = await one.connect()
        seen = await client.ask("GET", "/health/live", None, "connection: close")
        assert seen.headers["connection"] == "close"
        assert await client.ended() == b""


async def test_what_follows_connection_close_is_ignored() -> None:
    async with running() as one:
        client = await one.connect()
        await client.send(request("GET", "/health/live", None, "connection: close") + LIVE)
        assert (await client.response()).status == 200
        assert await client.ended() == b""


async def test_what_follows_the_last_answer_is_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own answer could not be sent any more."""
    begun: list[str] = []
    async with running() as one:

        def handle(exchange: Exchange) -> None:
            begun.append(exchange.request.path)
            exchange.respond(200, b"{}")

        monkeypatch.setattr(one.pool.application, "handle", handle)
        client = await one.connect()
        one.pool.draining = True
        await client.send(LIVE + request("POST", CHAT, HELLO) * 2)
        assert (await client.response()).headers["connection"] == "close"
        assert await client.ended() == b""
    assert begun == ["/health/live"]


async def test_a_refusal_waits_for_its_turn() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO) + b"garbage\r\n\r\n")
        await until(lambda: backend.calls)
        answer(backend, 0, "x")
        assert (await client.response()).status == 200
        assert (await client.response()).status == 400


async def test_connections_are_bounded() -> None:
    async with running(max_connections=2) as one:
        clients = [await one.connect() for _ in range(2)]
        for client in clients:
            assert (await client.ask("GET", "/health/live")).status == 200
        third = await one.connect()
        seen = await third.response()
        assert seen.status == 503
        assert int(seen.headers["retry-after"]) >= 1
        third.close()
        clients[0].close()
        await until(lambda: len(one.pool.connections) < 2)
        assert (await one.ask("GET", "/health/live")).status == 200


# timeouts


async def test_a_slow_head_is_cut_off() -> None:
    async with running(header_timeout=0.1) as one:
        client = await one.connect()
        dripping = asyncio.create_task(_drip(client, b"GET / HTTP/1.1\r\nhost: " + b"a" * 10_000))
        assert (await client.response()).status == 408
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


@pytest.mark.parametrize("before", [False, True])
async def test_a_slow_body_is_cut_off(before: bool) -> None:
    async with running(body_timeout=0.1) as one:
        client = await one.connect()
        if before:
            assert (await client.ask("POST", CHAT, HELLO)).status == 200
        await client.send(request("POST", CHAT, HELLO)[:-3])
        assert (await client.response()).status == 408
        assert await client.ended() == b""


async def test_a_client_that_is_not_read_is_not_late() -> None:
    backend = FakeBackend("manual")
    async with running(backend, max_pipelined=2, header_timeout=0.1, body_timeout=0.1) as one:
        client = await one.connect()
        asked = request("POST", CHAT, HELLO)
        await client.send(asked * 3 + asked[:40])
        await until(lambda: backend.calls and not one.connection()._reading)
        await client.send(asked[40:])
        await asyncio.sleep(0.4)
        for index in range(4):
            await until(lambda index=index: len(backend.calls) > index)
            answer(backend, index, "x")
            assert (await client.response()).status == 200


async def test_a_client_that_waits_to_go_on_is_not_late() -> None:
    backend = FakeBackend("manual")
    async with running(backend, body_timeout=0.2) as one:
        client = await one.connect()
        head = await _expecting(client, backend, pause=0.5)
        # From then on it may be.
        await client.send(head)
        assert [(await client.response()).status for _ in range(2)] == [100, 408]


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", LIVE])
async def test_an_idle_connection_is_closed(data: bytes) -> None:
    # A request has come in time, however long this process was stopped.
    begins = PATIENCE if data == LIVE else 0.1
    async with running(keepalive_timeout=0.1, header_timeout=begins) as one:
        client = await one.connect()
        await client.send(data)
        if data == LIVE:
            assert (await client.response()).status == 200
        assert await client.ended() == b""


async def test_waiting_for_an_answer_is_not_idle() -> None:
    backend = FakeBackend("manual")
    # The first request comes in time, however long this process was stopped.
    async with running(backend, keepalive_timeout=0.05, header_timeout=PATIENCE) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await until(lambda: backend.calls)
        await asyncio.sleep(0.3)
        answer(backend, 0, "late")
        assert text_of((await client.response()).json()) == "late"


async def test_what_came_while_the_server_was_stopped_is_not_late() -> None:
    async with running(header_timeout=0.4, keepalive_timeout=0.4) as one:
        client = await one.connect()
        await until(lambda: one.pool.connections)
        number = client.writer.get_extra_info("socket").fileno()
        with stops(1, lambda: os.write(number, LIVE)) as stop:
            for _ in range(2):
                stop()
                assert (await client.response()).status == 200


# clients that leave or do not read


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("how", ["close", "reset", "half-close"])
@pytest.mark.parametrize("begun", [False, True])
async def test_a_client_that_leaves_cancels_its_call(stream: bool, how: str, begun: bool) -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, {**HELLO, "stream": stream}))
        await until(lambda: backend.calls)
        if begun:
            backend.calls[0].delta("Hel")
        _leave(client, how)
        async with asyncio.timeout(PATIENCE):
            await backend.calls[0].cancelled.wait()
        await until(lambda: not one.pool.connections)
        assert one.pool.active == 0


async def test_a_client_that_leaves_drops_its_queued_requests() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO) * 3)
        await until(lambda: backend.calls)
        client.close()
        await until(lambda: not one.pool.connections)
        assert len(backend.calls) == 1


@pytest.mark.parametrize("how", ["close", "half-close", "reset"])
async def test_a_client_that_leaves_unread_is_missed(how: str) -> None:
    """It pipelined too much to be read any more."""
    backend = FakeBackend("manual")
    async with running(backend, max_pipelined=2, write_timeout=0.2) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO) * 5)
        await until(lambda: backend.calls and not one.connection()._reading)
        _leave(client, how)
        async with asyncio.timeout(5):
            await backend.calls[0].cancelled.wait()
        await until(lambda: not one.pool.connections)
        assert len(backend.calls) == 1
        assert one.pool.active == 0


async def test_a_fault_of_ours_is_a_500_and_the_connection_lives(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(FakeBackend):
        def submit(self, request: Any, sink: Any) -> Any:
            raise RuntimeError("boom")

    async with running(Broken()) as one:
        client = await one.connect()
        seen = await client.ask("POST", CHAT, HELLO)
        assert seen.status == 500
        assert "boom" not in seen.body.decode()
        assert (await client.ask("GET", "/health/live")).status == 200
    assert "boom" in caplog.text


async def _drip(client: Client, data: bytes) -> None:
    for byte in data:
        await client.send(bytes([byte]))
        await asyncio.sleep(0.01)


def _leave(client: Client, how: str) -> None:
    if how == "half-close":
        client.writer.write_eof()
        return
    if how == "reset":
        linger = struct.pack("ii", 1, 0)
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    client.close()


async def _expecting(client: Client, backend: FakeBackend, pause: float = 0.0) -> bytes:
    """Ask behind a call whether a body may come, and send it; the head that asks.

    The call before it takes `pause` seconds.
    """
    body = json.dumps(HELLO).encode()
    head = request("POST", CHAT, body, "Expect: 100-continue")[: -len(body)]
    await client.send(request("POST", CHAT, HELLO) + head)
    await until(lambda: backend.calls)
    await asyncio.sleep(pause)
    answer(backend, 0, "x")
    assert (await client.response()).status == 200
    assert (await client.response()).status == 100
    await client.send(body)
    await until(lambda: len(backend.calls) == 2)
    answer(backend, 1, "y")
    assert text_of((await client.response()).json()) == "y"
    return head
