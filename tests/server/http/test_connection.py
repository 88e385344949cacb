from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
import struct
import time
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.support import CHAT, HELLO, Client, Running, request, running, until
from tests.support.fake_backend import FakeBackend
from trunkline.core.types import Usage

LIVE = request("GET", "/health/live")


# framing


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
        _answer(backend, 0, "first")
        assert _text((await client.response()).json()) == "first"
        assert (await client.response()).json() == {"status": "ok"}
        await until(lambda: len(backend.calls) == 2)
        _answer(backend, 1, "second")
        assert _text((await client.response()).json()) == "second"


async def test_pipelining_is_bounded_and_loses_nothing() -> None:
    backend = FakeBackend("manual")
    async with running(backend, max_pipelined=4) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await until(lambda: backend.calls)
        count = 2000
        sending = asyncio.create_task(client.send(LIVE * count))
        await asyncio.sleep(0.05)
        (connection,) = one.pool.connections
        assert len(connection._queue) < 1000
        _answer(backend, 0, "x")
        assert (await client.response()).status == 200
        for _ in range(count):
            assert (await client.response()).status == 200
        await sending


BODY = json.dumps(HELLO).encode()
SPLIT = (
    request("POST", CHAT, HELLO, "x-a: b")
    + b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"a;ext=1\r\n%b\r\n%x\r\n%b\r\n" % (BODY[:10], len(BODY) - 10, BODY[10:])
    + b"0\r\nTrailer: x\r\n\r\n"
    + LIVE
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, len(SPLIT) - 1), max_size=30))
def test_bytes_may_be_split_anywhere(cuts: list[int]) -> None:
    async def scenario() -> None:
        async with running() as one:
            client = await one.connect()
            edges = [0, *sorted(set(cuts)), len(SPLIT)]
            for begin, end in itertools.pairwise(edges):
                await client.send(SPLIT[begin:end])
                await asyncio.sleep(0)
            for _ in range(2):
                assert _text((await client.response()).json()) == "Hello there!"
            assert (await client.response()).json() == {"status": "ok"}

    uvloop.run(scenario())


async def test_one_byte_at_a_time() -> None:
    async with running() as one:
        client = await one.connect()
        for byte in request("POST", CHAT, HELLO):
            await client.send(bytes([byte]))
        assert (await client.response()).status == 200


async def test_a_chunked_body() -> None:
    body = json.dumps(HELLO).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with running() as one:
        client = await one.connect()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head.encode() + chunks)
        assert (await client.response()).status == 200
        assert (await client.ask("GET", "/health/live")).status == 200


async def test_expect_continue() -> None:
    async with running() as one:
        client = await one.connect()
        body = json.dumps(HELLO).encode()
        whole = request("POST", CHAT, body, "Expect: 100-Continue")
        await client.send(whole[: -len(body)])
        assert (await client.response()).status == 100
        await client.send(body)
        assert (await client.response()).status == 200


async def test_expect_continue_waits_for_its_turn() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        body = json.dumps(HELLO).encode()
        whole = request("POST", CHAT, body, "Expect: 100-continue")
        await client.send(request("POST", CHAT, HELLO) + whole[: -len(body)])
        await until(lambda: backend.calls)
        _answer(backend, 0, "x")
        assert (await client.response()).status == 200
        assert (await client.response()).status == 100
        await client.send(body)
        await until(lambda: len(backend.calls) == 2)
        _answer(backend, 1, "y")
        assert _text((await client.response()).json()) == "y"


async def test_a_body_that_is_refused_is_not_asked_for() -> None:
    async with running(max_body=10) as one:
        client = await one.connect()
        head = request("POST", CHAT, b"x" * 11, "expect: 100-continue")[:-11]
        await client.send(head)
        assert (await client.response()).status == 413


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


async def test_http_1_0_closes_unless_asked_not_to() -> None:
    async with running() as one:
        client = await one.connect()
        await client.send(b"GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        seen = await client.response()
        assert (seen.status, seen.headers["connection"]) == (200, "keep-alive")
        await client.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert (await client.response()).headers["connection"] == "close"
        assert await client.ended() == b""


async def test_http_1_0_streams_end_with_the_connection() -> None:
    async with running() as one:
        client = await one.connect()
        body = json.dumps({**HELLO, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
        await client.send(head + body)
        seen = await client.response()
        assert "transfer-encoding" not in seen.headers
        assert seen.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "target", ["http://other:80/health/live", "/health/live?key=1", "/h%65alth/live"]
)
async def test_targets(target: str) -> None:
    async with running() as one:
        assert (await one.ask("GET", target)).json() == {"status": "ok"}


async def test_an_offered_upgrade_is_declined_and_its_body_kept() -> None:
    async with running() as one:
        client = await one.connect()
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
        for _ in range(2):
            assert (await client.ask("POST", CHAT, HELLO, *offer)).status == 200
        parts = request("POST", CHAT, HELLO, *offer)
        await client.send(parts[:-5])
        await asyncio.sleep(0.01)
        await client.send(parts[-5:])
        assert (await client.response()).status == 200


# limits


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n", 400),
        (b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
        (
            b"POST / HTTP/1.1\r\nhost:a\r\ncontent-length:5\r\ntransfer-encoding:chunked\r\n\r\n0",
            400,
        ),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 1\r\n\r\nx", 417),
        (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x" * 80_000, 431),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 80_000,
            431,
        ),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
            + b"t: x\r\n" * 20_000,
            431,
        ),
    ],
)
async def test_what_is_not_http_is_refused(data: bytes, status: int) -> None:
    async with running() as one:
        client = await one.connect()
        await client.send(data)
        seen = await client.response()
        assert seen.status == status
        assert seen.headers["connection"] == "close"
        assert seen.json()["error"]["message"]
        assert await client.ended() == b""
        assert (await one.ask("GET", "/health/live")).status == 200


async def test_a_refusal_waits_for_its_turn() -> None:
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO) + b"garbage\r\n\r\n")
        await until(lambda: backend.calls)
        _answer(backend, 0, "x")
        assert (await client.response()).status == 200
        assert (await client.response()).status == 400


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused_without_being_read(chunked: bool) -> None:
    async with running(max_body=100_000) as one:
        client = await one.connect()
        size = 20_000_000
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode()
        body = b"%x\r\n%b" % (size, b"x" * size) if chunked else b"x" * size
        sending = asyncio.create_task(client.send(head + body))
        seen = await client.response()
        assert seen.status == 413
        assert seen.json()["error"]["code"] == "payload_too_large"
        client.close()
        with contextlib.suppress(ConnectionError):
            await sending
        assert (await one.ask("GET", "/health/live")).status == 200


async def test_a_body_at_the_limit_is_read() -> None:
    body = json.dumps({**HELLO, "user": "x" * 50_000}).encode()
    async with running(max_body=len(body)) as one:
        assert (await one.ask("POST", CHAT, body)).status == 200
        assert (await one.ask("POST", CHAT, body + b" ")).status == 413


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
        begun = time.monotonic()
        dripping = asyncio.create_task(_drip(client, b"GET / HTTP/1.1\r\nhost: " + b"a" * 1000))
        assert (await client.response()).status == 408
        assert time.monotonic() - begun < 2
        dripping.cancel()
        await asyncio.gather(dripping, return_exceptions=True)


async def test_a_slow_body_is_cut_off() -> None:
    async with running(body_timeout=0.1) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO)[:-3])
        assert (await client.response()).status == 408
        assert await client.ended() == b""


@pytest.mark.parametrize("data", [b"", b"\r\n\r\n", LIVE])
async def test_an_idle_connection_is_closed(data: bytes) -> None:
    async with running(keepalive_timeout=0.1, header_timeout=0.1) as one:
        client = await one.connect()
        await client.send(data)
        if data == LIVE:
            assert (await client.response()).status == 200
        assert await client.ended() == b""


async def test_waiting_for_an_answer_is_not_idle() -> None:
    backend = FakeBackend("manual")
    async with running(backend, keepalive_timeout=0.05, header_timeout=0.05) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await asyncio.sleep(0.3)
        _answer(backend, 0, "late")
        assert _text((await client.response()).json()) == "late"


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
        async with asyncio.timeout(1):
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


async def test_a_reader_that_falls_behind_is_cut_off() -> None:
    backend = FakeBackend("manual")
    bound = 256 * 1024
    async with running(backend, max_write_buffer=bound) as one:
        client = await _small_reader(one)
        await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
        await until(lambda: backend.calls)
        call = backend.calls[0]
        largest = 0
        for _ in range(2000):
            call.delta("x" * 8192)
            if call.cancelled.is_set():
                break
            (connection,) = one.pool.connections
            largest = max(largest, connection._buffered())
            await asyncio.sleep(0)
        assert call.cancelled.is_set()
        assert largest <= bound
        await until(lambda: not one.pool.connections)
        client.close()


async def test_a_reader_that_stalls_is_cut_off() -> None:
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=0.2) as one:
        client = await _small_reader(one)
        await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
        await until(lambda: backend.calls)
        (connection,) = one.pool.connections
        # The kernel takes a few megabytes before it says that the client does not read.
        while not connection._write_paused:
            backend.calls[0].delta("x" * 65536)
            await asyncio.sleep(0)
        assert not backend.calls[0].cancelled.is_set()
        async with asyncio.timeout(5):
            await backend.calls[0].cancelled.wait()
        client.close()


async def test_a_slow_reader_that_goes_on_reading_gets_everything() -> None:
    backend = FakeBackend("manual")
    async with running(backend, write_timeout=0.5) as one:
        client = await _small_reader(one)
        await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
        await until(lambda: backend.calls)
        text = "x" * 65536
        for _ in range(30):
            backend.calls[0].delta(text)
        _answer(backend, 0, "end")
        await client.head()
        got = 0
        while chunk := await client.chunk():
            got += chunk.count(b"x")
            await asyncio.sleep(0.02)
        assert got >= 30 * 65536


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


def _answer(backend: FakeBackend, index: int, text: str) -> None:
    call = backend.calls[index]
    call.delta(text)
    call.finished()
    call.completed(Usage(1, 1))


def _text(body: Any) -> Any:
    return body["choices"][0]["message"]["content"]


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


async def _small_reader(one: Running) -> Client:
    """A connection that buffers little on the client's side."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
    sock.setblocking(False)
    host, port = one.url.removeprefix("http://").split(":")
    await asyncio.get_running_loop().sock_connect(sock, (host, int(port)))
    return await one.connect(sock, limit=4096)
