"""A configuration that changes while streams are under way, and many streams at once."""

from __future__ import annotations

import asyncio
import functools
import json
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.conftest import Line, alone, backend
from tests.e2e.gateway.raw_peer import Conversation, chat_chunk, listen, usage_chunk
from tests.e2e.gateway.serving import DIALECTS, gateway, post, targets, wait_idle
from tests.support.server import START_TIMEOUT, serve

CHAT = DIALECTS["openai.chat"]
MANY = 300
PIECES = 5


def configuration(line: tuple[Any, Any], routes: dict[str, Any]) -> dict[str, Any]:
    times = {"timeouts": {"first_token": 30, "idle": 30}}
    first, second = line
    backends = {"first": backend(first, **times), "second": backend(second, **times)}
    return {"backends": backends, "routes": routes}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("reload")


@pytest.fixture(scope="module")
def line(directory: Path) -> Iterator[Line]:
    with listen() as first, listen() as second:
        config = configuration((first, second), {"chat": alone()})
        with gateway(directory, config) as server:
            yield Line(server, first, second)


async def slowly(talk: Conversation, gate: threading.Event | None = None) -> None:
    """A stream that stops after its first piece until `gate` is open."""
    talk.begin()
    for number in range(PIECES):
        talk.chunk(chat_chunk(f"{number} "))
        await asyncio.sleep(0.2)
        while gate is not None and not gate.is_set():  # noqa: ASYNC110 - of another thread  # noqa: ASYNC110 - set by another thread
            await asyncio.sleep(0.05)
    talk.chunk(chat_chunk("", "stop"))
    talk.chunk(usage_chunk(3, PIECES))
    talk.chunk(b"data: [DONE]\n\n")
    talk.end()


async def streams(line: Line, count: int) -> list[bytes]:
    """So many at once, to their end."""
    body = json.dumps(CHAT.body("chat", stream=True)).encode()
    # Answers to HTTP/1.0 come as they are, without chunks.
    head = f"POST {CHAT.path} HTTP/1.0\r\ncontent-length: {len(body)}\r\n\r\n".encode()

    async def one() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", line.server.port)
        writer.write(head + body)
        try:
            async with asyncio.timeout(60):
                return await reader.read()
        finally:
            writer.close()

    return list(await asyncio.gather(*(one() for _ in range(count))))


def complete(responses: list[bytes]) -> None:
    expected = "".join(f"{number} " for number in range(PIECES))
    for response in responses:
        head, _, body = response.partition(b"\r\n\r\n")
        assert head.split(b" ")[1] == b"200", response
        assert CHAT.text(body, stream=True) == expected, response
        assert body.endswith(b"data: [DONE]\n\n")


def wait_for_log(line: Line, words: str, count: int = 1) -> None:
    deadline = time.monotonic() + 60
    while line.server.log.read_text().count(words) < count:
        assert time.monotonic() < deadline, line.server.log.read_text()[-2000:]
        time.sleep(0.05)


@pytest.mark.parametrize("way", ["change", "SIGHUP"])
async def test_reload_under_load(line: Line, directory: Path, way: str) -> None:
    """Streams of the old configuration go on; new requests see the new one."""
    gate = threading.Event()
    line.first.play(functools.partial(slowly, gate=gate))
    line.second.play(slowly)
    under_way = asyncio.create_task(streams(line, 20))
    await asyncio.to_thread(line.first.wait, lambda peer: len(peer.talks) == 20)
    before = line.server.log.read_text().count("serving the new configuration")
    name = f"also-{way}"
    routes = {"chat": alone(targets=["second/m"]), name: alone(targets=["second/m"])}
    file = directory / "trunkline.yaml"
    if way == "change":
        fresh = directory / "fresh.yaml"
        fresh.write_text(json.dumps(configuration((line.first, line.second), routes)))
        fresh.replace(file)
    else:
        file.write_text(json.dumps(configuration((line.first, line.second), routes)))
        line.server.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(wait_for_log, line, "serving the new configuration", before + 1)
    response = await asyncio.to_thread(
        post, line.server, CHAT.path, CHAT.body(name, stream=True), 20
    )
    assert response.headers["x-trunkline-backend"] == "second"
    assert not under_way.done()
    gate.set()
    complete(await under_way)
    assert line.first.gone == 0
    # Back to what the next test expects.
    file.write_text(json.dumps(configuration((line.first, line.second), {"chat": alone()})))
    line.server.process.send_signal(signal.SIGHUP)
    await asyncio.to_thread(wait_for_log, line, "serving the new configuration", before + 2)


BROKEN = {
    "no YAML": "backends: {first: [",
    "unknown field": '{"backends": {"first": {"kind": "openai", "urll": "x"}}}',
    "unknown backend": '{"routes": {"chat": ["nobody/m"]}}',
    "empty": "",
    "listens nowhere": '{"server": {"listen": ["nonsense:xx:yy"]}, "backends": {}}',
    "serves nothing": "model_list: [{model_name: a, litellm_params: {model: sagemaker/x}}]",
    "empty key": '{"server": {"api_key": [""]}, "backends": {}}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN.keys())
def test_broken_file_changes_nothing(line: Line, directory: Path, text: str) -> None:
    file = directory / "trunkline.yaml"
    good = file.read_text()
    before = line.server.log.read_text().count("the configuration stays as it was")
    file.write_text(text)
    line.server.process.send_signal(signal.SIGHUP)
    wait_for_log(line, "the configuration stays as it was", before + 1)
    assert "chat: first/m" in targets(line.server)
    # The next good one is read.
    served = line.server.log.read_text().count("serving the new configuration")
    for number, routes in enumerate(({"chat": alone(), "more": alone()}, {"chat": alone()}), 1):
        config = configuration((line.first, line.second), routes)
        file.write_text(json.dumps(config) if number == 1 else good)
        line.server.process.send_signal(signal.SIGHUP)
        wait_for_log(line, "serving the new configuration", served + number)


def test_keys_are_exchanged_after_their_file_was_gone(line: Line, tmp_path: Path) -> None:
    keys, file = tmp_path / "keys", tmp_path / "trunkline.yaml"
    file.write_text(json.dumps(configuration((line.first, line.second), {"chat": alone()})))
    keys.write_text("k1")

    def status(key: str) -> int:
        url = f"http://127.0.0.1:{server.port}/v1/models"
        return httpx.get(url, headers={"authorization": f"Bearer {key}"}).status_code

    def told(words: str) -> None:
        server.process.send_signal(signal.SIGHUP)
        deadline = time.monotonic() + 60
        while words not in server.log.read_text():
            assert time.monotonic() < deadline, server.log.read_text()[-2000:]
            time.sleep(0.05)

    with serve(tmp_path, "--config", str(file), "--api-key-file", str(keys)) as server:
        assert status("k1") == 200
        keys.unlink()
        told("--api-key-file: cannot read")
        assert status("k1") == 200
        keys.write_text("k2")
        told("serving the new configuration")
        assert [status("k1"), status("k2")] == [401, 200]


def test_vanished_file_changes_nothing(line: Line, directory: Path) -> None:
    file = directory / "trunkline.yaml"
    good = file.read_text()
    file.unlink()
    line.server.process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert "chat: first/m" in targets(line.server)
    assert line.server.process.poll() is None
    file.write_text(good)


async def test_many_streams(line: Line) -> None:
    """All of them complete, and counted exactly."""
    before = targets(line.server)["chat: first/m"]
    line.first.play(slowly)
    responses = await streams(line, MANY)
    complete(responses)
    after = wait_idle(line.server)["chat: first/m"]
    assert after["successes"] - before["successes"] == MANY
    assert after["completion_tokens"] - before["completion_tokens"] == MANY * PIECES
    assert after["in_flight"] == after["running"] == 0
    assert line.first.gone == 0


async def test_many_streams_whose_clients_vanish(line: Line) -> None:
    before = targets(line.server)["chat: first/m"]

    async def hangs(talk: Conversation) -> None:
        talk.begin()
        talk.chunk(chat_chunk("so far"))
        await talk.hang()

    line.first.play(hangs)
    body = json.dumps(CHAT.body("chat", stream=True)).encode()
    head = f"POST {CHAT.path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n".encode()
    writers = []
    for _ in range(MANY):
        reader, writer = await asyncio.open_connection("127.0.0.1", line.server.port)
        writer.write(head + body)
        writers.append(writer)
        assert (await reader.read(12)) == b"HTTP/1.1 200"
    for writer in writers:
        writer.transport.abort()
    await asyncio.to_thread(line.first.wait_gone, MANY)
    after = wait_idle(line.server)["chat: first/m"]
    assert after["cancelled"] - before["cancelled"] == MANY
    assert after["in_flight"] == after["running"] == 0


def test_nothing_is_left_behind(line: Line) -> None:
    log = line.server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def test_hangups_before_the_server_listens_end_nothing(line: Line, tmp_path: Path) -> None:
    """While the file is read, while what it names is started, and after that."""
    text = json.dumps(configuration((line.first, line.second), {"chat": alone()}))
    file, whole = tmp_path / "trunkline.yaml", tmp_path / "whole.yaml"
    whole.write_text(text)
    os.mkfifo(file)
    with serve(tmp_path, "--config", str(file), ready=False) as server:
        # Opens as soon as the server reads the file, which it cannot do before it is written.
        with file.open("w") as pipe:
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.05)
            whole.replace(file)
            pipe.write(text)
        deadline = time.monotonic() + START_TIMEOUT
        while "ready after" not in server.log.read_text():
            server.process.send_signal(signal.SIGHUP)
            time.sleep(0.005)
            assert server.process.poll() is None
            assert time.monotonic() < deadline
        assert "chat: first/m" in targets(server)
