"""A server around a fake backend, and a client that speaks bytes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
from collections.abc import AsyncIterator
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from tests.support.fake_backend import FakeBackend
from trunkline.core.types import Usage
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.gateway.keys import Keys
from trunkline.server.app import Server
from trunkline.server.config import ServerConfig
from trunkline.server.http.connection import Connection

# Nothing here may take this long.
PATIENCE = 30.0
CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


class Response(NamedTuple):
    """A response, read off the wire."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """One connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Response:
        """One request and its response."""
        await self.send(request(method, path, body, *headers))
        return await self.response(head=method == "HEAD")

    async def response(self, *, head: bool = False) -> Response:
        """Read one response."""
        async with asyncio.timeout(PATIENCE):
            status, headers = await self.head()
            if head or status in (204, 304) or 100 <= status < 200:
                return Response(status, headers, b"")
            if headers.get("transfer-encoding") == "chunked":
                return Response(status, headers, await self._chunks())
            if "content-length" in headers:
                size = int(headers["content-length"])
                return Response(status, headers, await self.reader.readexactly(size))
            return Response(status, headers, await self.reader.read())

    async def head(self) -> tuple[int, dict[str, str]]:
        """Read a status line and headers."""
        async with asyncio.timeout(PATIENCE):
            lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers: dict[str, str] = {}
        for line in lines[1:-2]:
            name, _, value = line.partition(": ")
            assert name not in headers, f"{name} twice"
            headers[name] = value
        return int(lines[0].split(" ")[1]), headers

    async def chunk(self) -> bytes:
        """Read one chunk of a chunked body; b"" is the last."""
        async with asyncio.timeout(PATIENCE):
            size = int(await self.reader.readuntil(b"\r\n"), 16)
            data = await self.reader.readexactly(size + 2)
        assert data.endswith(b"\r\n")
        return data[:-2]

    async def _chunks(self) -> bytes:
        found: list[bytes] = []
        while piece := await self.chunk():
            found.append(piece)
        return b"".join(found)

    async def ended(self) -> bytes:
        """What comes until the server closes the connection."""
        async with asyncio.timeout(PATIENCE):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""

    def close(self) -> None:
        self.writer.close()


def request(method: str, path: str, body: Any = None, *headers: str) -> bytes:
    """A request as bytes; a body that is not bytes becomes JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    lines = [f"{method} {path} HTTP/1.1", "host: test", *headers]
    if data:
        lines.append(f"content-length: {len(data)}")
    return "\r\n".join((*lines, "", "")).encode() + data


class Running:
    """A server that listens, and the connections to it."""

    def __init__(self, server: Server, backend: FakeBackend, url: str) -> None:
        self.server = server
        self.backend = backend
        self.url = url
        self.pool = server.pool
        self._clients: list[Client] = []

    async def connect(self, sock: socket.socket | None = None, limit: int = 2**16) -> Client:
        """A new connection, which lasts as long as the server does."""
        address = urlsplit(self.url)
        if sock is None:
            opened = asyncio.open_connection(address.hostname, address.port, limit=limit)
        else:
            opened = asyncio.open_connection(sock=sock, limit=limit)
        client = Client(*await opened)
        self._clients.append(client)
        return client

    def connection(self) -> Connection:
        """The server's side of the only connection."""
        (one,) = self.pool.connections
        assert isinstance(one, Connection)
        return one

    async def close(self) -> None:
        """Close every connection."""
        for client in self._clients:
            client.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(1):
                    await client.writer.wait_closed()

    async def ask(self, method: str, path: str, body: Any = None, *headers: str) -> Response:
        """One request on a connection of its own."""
        client = await self.connect()
        try:
            return await client.ask(method, path, body, *headers)
        finally:
            client.close()


@contextlib.asynccontextmanager
async def running(backend: FakeBackend | None = None, **config: Any) -> AsyncIterator[Running]:
    """Serve `backend` on a free port."""
    fake = backend or FakeBackend()
    model = ServedModel(fake.name, fake, config.get("served_model_name", ()))
    gateway = Gateway([model], Keys(config.get("api_key", ())))
    server = Server(ServerConfig(port=0, **config), gateway)
    (url,) = await server.start()
    one = Running(server, fake, url)
    try:
        yield one
    finally:
        await server.stop()
        await one.close()


def text_of(body: Any) -> Any:
    """The text of the first choice of a chat answer."""
    return body["choices"][0]["message"]["content"]


async def until(condition: Any) -> None:
    """Wait until `condition()`; fails when it takes too long."""
    async with asyncio.timeout(PATIENCE):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def answer(backend: FakeBackend, index: int, text: str) -> None:
    """What `backend` answers to a call that it leaves to the test."""
    call = backend.calls[index]
    call.delta(text)
    call.finished()
    call.completed(Usage(1, 1))
