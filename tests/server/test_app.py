from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from tests.server.support import CHAT, HELLO, PATIENCE, Client, request, running, until
from tests.support.fake_backend import FakeBackend
from tests.wire.openai.support import events
from trunkline.core.types import Usage
from trunkline.gateway.gateway import ServedModel
from trunkline.server.app import serve
from trunkline.server.config import ServerConfig


async def streaming(one: Any) -> Client:
    """A client whose answer has begun."""
    client: Client = await one.connect()
    await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
    await until(lambda: one.backend.calls)
    one.backend.calls[-1].delta("a")
    assert (await client.head())[0] == 200
    return client


async def rest(client: Client) -> list[Any]:
    """The events until the stream ends."""
    found = b""
    while chunk := await client.chunk():
        found += chunk
    return events(found)


async def test_draining_lets_answers_end() -> None:
    async with running(FakeBackend("manual"), drain_timeout=300) as one:
        client = await streaming(one)
        idle = await one.connect()
        assert (await idle.ask("GET", "/ready")).status == 200
        draining = asyncio.create_task(one.server.drain(asyncio.Event()))
        await asyncio.sleep(0.02)
        assert not draining.done()
        # No new connection; on an old one, no new work, and it ends.
        with pytest.raises(OSError, match=r"Connect|refused"):
            await one.connect()
        seen = await idle.ask("POST", CHAT, HELLO)
        assert (seen.status, seen.headers["connection"]) == (503, "close")
        assert int(seen.headers["retry-after"]) > 0
        call = one.backend.calls[0]
        call.delta("b")
        call.finished()
        call.completed(Usage(1, 2))
        assert (await rest(client))[-1] == "[DONE]"
        async with asyncio.timeout(PATIENCE):
            await draining


async def test_probes_say_that_it_drains() -> None:
    async with running(FakeBackend("manual"), drain_timeout=300) as one:
        await streaming(one)
        idle = [await one.connect() for _ in range(3)]
        for client in idle:
            assert (await client.ask("GET", "/ready")).status == 200
        hurry = asyncio.Event()
        draining = asyncio.create_task(one.server.drain(hurry))
        await asyncio.sleep(0.02)
        for client, path, status in zip(
            idle, ("/ready", "/health/ready", "/health/live"), (503, 503, 200), strict=True
        ):
            assert (await client.ask("GET", path)).status == status
        hurry.set()
        await draining


@pytest.mark.parametrize("how", ["timeout", "second signal"])
async def test_what_does_not_end_in_time_is_cut_with_an_error(how: str) -> None:
    async with running(
        FakeBackend("manual"), drain_timeout=0.1 if how == "timeout" else 300
    ) as one:
        client = await streaming(one)
        waiting = await one.connect()
        await waiting.send(request("POST", CHAT, HELLO))
        await until(lambda: len(one.backend.calls) == 2)
        hurry = asyncio.Event()
        draining = asyncio.create_task(one.server.drain(hurry))
        await asyncio.sleep(0.01)
        if how != "timeout":
            hurry.set()
        async with asyncio.timeout(PATIENCE):
            await draining
        assert (await rest(client))[-1]["error"]["code"] == "service_unavailable"
        seen = await waiting.response()
        assert (seen.status, seen.json()["error"]["code"]) == (503, "service_unavailable")
        assert all(call.cancelled.is_set() for call in one.backend.calls)


async def test_a_port_in_use_is_reported() -> None:
    async with running() as one:
        port = int(one.url.rpartition(":")[2])
        with pytest.raises(OSError, match=r"[Aa]ddress"):
            await serve(ServerConfig(port=port), (), on_listening=print)


def test_a_bad_address_is_reported() -> None:
    async def scenario() -> None:
        await serve(ServerConfig(listen=("nonsense",)), (), on_listening=print)

    with pytest.raises(ValueError, match="HOST:PORT"):
        asyncio.run(scenario())


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_signals_drain_and_end(number: signal.Signals) -> None:
    backend = FakeBackend("manual")
    urls: list[str] = []
    model = ServedModel("fake", backend)
    config = ServerConfig(port=0, drain_timeout=300)
    serving = asyncio.create_task(serve(config, [model], on_listening=urls.extend))
    await until(lambda: urls)
    reader, writer = await asyncio.open_connection("127.0.0.1", int(urls[0].rpartition(":")[2]))
    client = Client(reader, writer)
    await client.send(request("POST", CHAT, {**HELLO, "stream": True}))
    await until(lambda: backend.calls)
    backend.calls[0].delta("a")
    os.kill(os.getpid(), number)
    await asyncio.sleep(0.05)
    assert not serving.done()
    os.kill(os.getpid(), number)
    # Far less than it may drain.
    async with asyncio.timeout(PATIENCE):
        await serving
    assert b"service_unavailable" in await client.ended()
    client.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


async def test_listening_on_several_places(tmp_path: Any) -> None:
    path = tmp_path / "t.sock"
    urls: list[str] = []
    config = ServerConfig(listen=("127.0.0.1:0", f"unix:{path}"))
    model = ServedModel("fake", FakeBackend())
    serving = asyncio.create_task(serve(config, [model], on_listening=urls.extend))
    await until(lambda: urls)
    assert urls[0].startswith("http://127.0.0.1:")
    assert urls[1] == f"unix:{path}"
    reader, writer = await asyncio.open_unix_connection(path)
    client = Client(reader, writer)
    assert (await client.ask("POST", CHAT, HELLO)).status == 200
    client.close()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert not path.exists()


def test_the_address_is_loopback_unless_told() -> None:
    assert ServerConfig().addresses() == ("127.0.0.1:8000",)
    assert ServerConfig(host="::1", port=1).addresses() == ("[::1]:1",)
    assert ServerConfig(listen=("a:1", "unix:/x")).addresses() == ("a:1", "unix:/x")


def test_further_names_are_each_there_once() -> None:
    config = ServerConfig(served_model_name=("caboose", "other", "other"))
    assert config.aliases("caboose") == ("other",)
    assert config.aliases("own") == ("caboose", "other")
