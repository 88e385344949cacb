"""Opening connections: TLS, Unix sockets, names, and time."""

from __future__ import annotations

import asyncio
import socket
import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.backends.http.peer import GET, PATIENCE, Peer, Taker, pooled, serve, whole
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.dial import Dialer
from trunkline.backends.http.fetch import fetch
from trunkline.backends.http.origin import Origin
from trunkline.backends.http.pool import PoolLimits
from trunkline.core.errors import UpstreamFailed, UpstreamTimeout


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate of localhost, and its key, in one file."""
    path = tmp_path_factory.mktemp("tls") / "both.pem"
    key = path.with_name("key.pem")
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-out", str(path)]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + key.read_bytes())
    return path


@pytest.fixture
def server_side(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


async def _answer(peer: Peer) -> None:
    while True:
        await peer.request()
        await peer.send(whole(b"secret"))


async def test_unknown_certificate_is_refused(server_side: ssl.SSLContext) -> None:
    async with serve(_answer, server_side) as port, pooled(port, tls=True) as pool:
        with pytest.raises(UpstreamFailed, match="certificate of backend 'peer' is not valid"):
            await fetch(pool, GET, timeout=PATIENCE)


async def test_certificate_may_go_unchecked(server_side: ssl.SSLContext) -> None:
    async with serve(_answer, server_side) as port, pooled(port, tls=True, verify=False) as pool:
        for _ in range(3):
            assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"secret"
        assert pool.open == 1


async def test_known_certificate_and_name(
    server_side: ssl.SSLContext, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names further authorities, and the name that is asked for is sent (SNI)."""
    names: list[str | None] = []
    server_side.sni_callback = lambda _object, name, _context: names.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    client = HttpClient()
    async with serve(_answer, server_side) as port:
        pool = client.pool(Origin("localhost", port, True), "peer", PoolLimits(connect=PATIENCE))
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"secret"
        assert names == ["localhost"]
        # The same server under a name that the certificate does not have.
        other = client.pool(Origin("127.0.0.1", port, True), "peer", PoolLimits(connect=PATIENCE))
        with pytest.raises(UpstreamFailed, match="is not valid"):
            await fetch(other, GET, timeout=PATIENCE)
        await client.close()


async def test_tls_where_there_is_none() -> None:
    async def talk(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await peer.gone()

    async with serve(talk) as port, pooled(port, tls=True) as pool:
        with pytest.raises(UpstreamFailed, match="TLS with backend 'peer' failed"):
            await fetch(pool, GET, timeout=PATIENCE)


async def test_unix_socket(tmp_path: Path) -> None:
    async def hold(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(whole(b"here"))
        await reader.read()
        writer.close()

    path = str(tmp_path / "engine.sock")
    server = await asyncio.start_unix_server(hold, path)
    client = HttpClient()
    pool = client.pool(Origin("localhost", 0, unix=path), "peer", PoolLimits(connect=PATIENCE))
    assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"here"
    await client.close()
    server.close()
    missing = HttpClient()
    pool = missing.pool(
        Origin("localhost", 0, unix=path + "x"), "peer", PoolLimits(connect=PATIENCE)
    )
    with pytest.raises(UpstreamFailed, match="cannot be reached"):
        await fetch(pool, GET, timeout=PATIENCE)
    await missing.close()


async def test_server_that_accepts_but_never_shakes_hands() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        async with pooled(port, PoolLimits(connect=0.2), tls=True, verify=False) as pool:
            taker = Taker()
            pool.send(taker)
            await taker.finished()
            assert isinstance(taker.error, UpstreamTimeout)
            assert "within 0.2 s" in taker.error.message


class _Resolver:
    """Answers of the resolver, and how often it was asked."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *addresses: str) -> None:
        self._loop = loop
        self.addresses = addresses
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (a, port)) for a in self.addresses]


async def test_names_are_kept_and_addresses_tried_in_turn() -> None:
    async with serve(_answer) as port:
        # Nothing listens at the first address.
        loop = _Resolver(asyncio.get_running_loop(), "127.0.0.9", "127.0.0.1")
        dialer = Dialer(loop)  # type: ignore[arg-type]
        origin = Origin("engine.test", port)
        for _ in range(3):
            protocol = await dialer.dial(origin, "peer", PATIENCE, asyncio.Protocol)
            assert protocol is not None
        assert loop.asked == 1
        loop.addresses = ()
        with pytest.raises(UpstreamFailed, match="cannot be reached"):
            await dialer.dial(Origin("other.test", port), "peer", PATIENCE, asyncio.Protocol)


class _Nameless(_Resolver):
    """Knows no name at all: real ones may be slow, or away."""

    async def getaddrinfo(self, host: str, port: int, **_: Any) -> list[tuple[Any, ...]]:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")


async def test_unknown_name() -> None:
    dialer = Dialer(_Nameless(asyncio.get_running_loop()))  # type: ignore[arg-type]
    with pytest.raises(UpstreamFailed, match="cannot be found"):
        await dialer.dial(Origin("no-such-host", 80), "peer", PATIENCE, asyncio.Protocol)


async def test_closing_while_a_connection_is_opened() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        client = HttpClient()
        origin = Origin("127.0.0.1", listener.getsockname()[1], True, verify=False)
        pool = client.pool(origin, "peer", PoolLimits(connect=PATIENCE))
        taker = Taker()
        pool.send(taker)
        await asyncio.sleep(0.05)
        await client.close()
        assert taker.error is not None
