from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.server.support import Client, Response, request, until
from trunkline.core.errors import TrunklineError
from trunkline.server.http.address import Address
from trunkline.server.http.asgi import AsgiApp, Bridge, ClientGone
from trunkline.server.http.connection import Connection
from trunkline.server.http.exchange import Exchange, HttpRequest, PassingSide
from trunkline.server.http.limits import Limits
from trunkline.server.http.listener import Listener


class Through:
    """An application that hands everything to the bridge."""

    def __init__(self, app: AsgiApp) -> None:
        self.bridge = Bridge(app, lambda exchange: exchange.respond(500, b"failed"))

    def again(self, connection: PassingSide, known: HttpRequest, body: bytes, began: float) -> None:
        pass

    def passed(self, passing: Any) -> None:
        raise AssertionError("nothing was begun again")

    def handle(self, exchange: Exchange) -> None:
        self.bridge.handle(exchange)

    def refuse(self, exchange: Exchange, status: int, error: TrunklineError) -> None:
        exchange.respond(status, error.message.encode())

    def finished(self, exchange: Exchange) -> None:
        pass


@contextlib.asynccontextmanager
async def serving(app: AsgiApp) -> AsyncIterator[tuple[Client, Listener]]:
    through = Through(app)
    listener = Listener(Limits(), through)
    (url,) = await listener.open(Address("", "127.0.0.1", 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    try:
        yield Client(reader, writer), listener
    finally:
        await through.bridge.close()
        await listener.close()
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def ask(app: AsgiApp, data: bytes) -> Response:
    async with serving(app) as (client, _):
        await client.send(data)
        return await client.response(head=data.startswith(b"HEAD"))


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def body(data: bytes = b"", *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def test_the_scope_and_the_body() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.extend((scope, await receive()))
        await send(start(201, (b"X-A", b"1"), (b"content-type", b"text/plain")))
        await send(body(b"done"))
        # After the response there is nothing but the end.
        seen.append(await receive())

    answer = await ask(app, request("POST", "/a%20b/c?x=%31&y", b"payload", "X-Thing: Value"))
    scope, first, last = seen
    assert answer.status == 201
    assert (answer.headers["x-a"], answer.headers["content-type"]) == ("1", "text/plain")
    assert answer.body == b"done"
    assert scope["type"] == "http"
    assert scope["asgi"]["version"] == "3.0"
    assert (scope["http_version"], scope["method"], scope["scheme"]) == ("1.1", "POST", "http")
    assert (scope["path"], scope["raw_path"]) == ("/a b/c", b"/a%20b/c")
    assert scope["query_string"] == b"x=%31&y"
    assert (b"x-thing", b"Value") in scope["headers"]
    assert scope["client"][0] == "127.0.0.1"
    assert first == {"type": "http.request", "body": b"payload", "more_body": False}
    assert last == {"type": "http.disconnect"}


async def test_a_body_in_pieces_is_streamed() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        for piece in (b"a", b"", b"bc"):
            await send(body(piece, more=True))
        await send(body(b"d"))

    answer = await ask(app, request("GET", "/"))
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.body == b"abcd"


async def test_head_keeps_the_length() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(200, (b"content-length", b"1234")))
        await send(body())

    answer = await ask(app, request("HEAD", "/"))
    assert (answer.headers["content-length"], answer.body) == ("1234", b"")


async def test_204_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start(204))
        await send(body())

    answer = await ask(app, request("GET", "/"))
    assert answer.status == 204
    assert "content-length" not in answer.headers


async def test_a_client_that_leaves_is_a_disconnect_and_an_error_on_send() -> None:
    events: list[Any] = []
    ready = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        ready.set()
        events.append(await receive())
        try:
            await send(start())
        except ClientGone as gone:
            events.append(gone)
            raise

    async with serving(app) as (client, _):
        await client.send(request("GET", "/"))
        await ready.wait()
        client.close()
        await until(lambda: len(events) == 2)
    assert events[0] == {"type": "http.disconnect"}
    assert isinstance(events[1], OSError)


@pytest.mark.parametrize("messages", [[], [body(b"x")], [start(), start()], [{"type": "odd"}]])
async def test_an_application_that_does_wrong_is_a_500(
    messages: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages:
            await send(message)

    answer = await ask(app, request("GET", "/"))
    assert (answer.status, answer.body) == (500, b"failed")


async def test_an_application_that_fails_midway_breaks_the_response(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(start())
        await send(body(b"half", more=True))
        raise ValueError("oops")

    async with serving(app) as (client, _):
        await client.send(request("GET", "/"))
        status, _ = await client.head()
        assert status == 200
        # No last chunk: a client can tell that this is not the whole.
        assert b"0\r\n\r\n" not in await client.ended()
    assert "oops" in caplog.text


async def test_sending_waits_for_a_slow_reader() -> None:
    sent = 0
    # More than the kernel buffers on both sides together.
    count = 256

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(start())
        for _ in range(count):
            await send(body(b"x" * 65536, more=True))
            sent += 1
        await send(body())

    async with serving(app) as (client, listener):
        await client.send(request("GET", "/"))
        await until(lambda: sent > 0)
        await asyncio.sleep(0.1)
        assert sent < count
        (connection,) = listener.pool.connections
        assert isinstance(connection, Connection)
        assert connection._buffered() < 1_000_000
        assert len((await client.response()).body) == count * 65536


async def test_tasks_end_with_the_bridge() -> None:
    cancelled = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        begun.set()
        try:
            await asyncio.sleep(100)
        finally:
            cancelled.set()

    async with serving(app) as (client, _):
        await client.send(request("GET", "/"))
        await begun.wait()
    assert cancelled.is_set()
