from __future__ import annotations

import asyncio
import socket
from pathlib import Path

import pytest

from tests.server.http.test_asgi import Through
from tests.server.support import Client, request
from trunkline.server.http.address import Address
from trunkline.server.http.exchange import Clock, Exchange
from trunkline.server.http.limits import Limits
from trunkline.server.http.listener import Listener


class Hello(Through):
    def __init__(self) -> None:
        pass

    def handle(self, exchange: Exchange) -> None:
        exchange.respond(200, b"hello")


def listener() -> Listener:
    return Listener(Limits(), Hello())


async def test_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "t.sock")
    one = listener()
    assert await one.open(Address(path, "", 0)) == (f"unix:{path}",)
    reader, writer = await asyncio.open_unix_connection(path)
    assert (await Client(reader, writer).ask("GET", "/")).body == b"hello"
    with pytest.raises(OSError, match="another process listens"):
        await listener_opened(path)
    writer.close()
    await one.close()
    assert not list(tmp_path.iterdir())  # noqa: ASYNC240


async def test_a_stale_unix_socket_is_replaced_and_a_file_is_not(tmp_path: Path) -> None:
    stale = tmp_path / "stale.sock"
    with socket.socket(socket.AF_UNIX) as gone:
        gone.bind(str(stale))
    one = listener()
    await one.open(Address(str(stale), "", 0))
    await one.close()
    other = tmp_path / "file"
    other.write_text("precious")
    with pytest.raises(OSError, match="no socket"):
        await listener_opened(str(other))
    assert other.read_text() == "precious"


async def listener_opened(path: str) -> None:
    one = listener()
    try:
        await one.open(Address(path, "", 0))
    finally:
        await one.close()


async def test_several_addresses_and_ipv6() -> None:
    one = listener()
    urls = [*await one.open(Address("", "127.0.0.1", 0))]
    if socket.has_ipv6:
        try:
            urls += await one.open(Address("", "::1", 0))
        except OSError as error:
            pytest.skip(f"no IPv6 here: {error}")
    for url in urls:
        host, _, port = url.removeprefix("http://").rpartition(":")
        reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        assert (await Client(reader, writer).ask("GET", "/")).body == b"hello"
        writer.close()
        await writer.wait_closed()
    await one.close()


async def test_a_port_in_use_is_an_error() -> None:
    one, other = listener(), listener()
    (url,) = await one.open(Address("", "127.0.0.1", 0))
    with pytest.raises(OSError, match=r"[Aa]ddress"):
        await other.open(Address("", "127.0.0.1", int(url.rpartition(":")[2])))
    await one.close()
    await other.close()


async def test_closing_cuts_what_is_open() -> None:
    one = listener()
    (url,) = await one.open(Address("", "127.0.0.1", 0))
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    client = Client(reader, writer)
    assert (await client.ask("GET", "/")).status == 200
    await one.close()
    assert not one.pool.connections
    assert await client.ended() == b""
    client.close()
    with pytest.raises(OSError, match=r"Connect|refused"):
        await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))


def test_the_clock_is_an_http_date() -> None:
    clock = Clock()
    line, date, server = clock.head(204, b"").decode().strip().split("\r\n")
    assert line == "HTTP/1.1 204 No Content"
    assert date.startswith("date: ")
    assert date.endswith(" GMT")
    assert server == "server: trunkline"
    assert clock.head(599, b"a/b").startswith(b"HTTP/1.1 599 \r\n")
    assert clock.head(200, b"a/b").endswith(b"server: trunkline\r\ncontent-type: a/b\r\n")


def test_requests_are_made_of_what_they_say() -> None:
    assert request("GET", "/x", None, "a: b") == b"GET /x HTTP/1.1\r\nhost: test\r\na: b\r\n\r\n"
