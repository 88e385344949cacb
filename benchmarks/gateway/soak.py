"""The gateway for long: memory stays flat, a thousand streams at once are counted exactly.

    scripts/soak gateway/soak                       100,000 requests, then 1,000 streams
    scripts/soak gateway/soak --requests 2000 --streams 100

Everything is on the loopback: a stand-in that answers chat completions, `trunkline serve --config`
before it, and clients in this process. Ends with an error where memory grows by more than
`--growth` MiB after the first fifth of the requests, an answer is wrong, a count is off by one, or
all of it takes more than `--limit` seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.engine.servers import free_port

_PIECES = 8
_BASE = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
_USAGE = {"prompt_tokens": 3, "completion_tokens": _PIECES, "total_tokens": 3 + _PIECES}
# Seconds that anything may take.
_BOUND = 120.0


def _chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps(_BASE | {"choices": [choice]}).encode() + b"\n\n"


_WHOLE = json.dumps(
    {"id": "c", "object": "chat.completion", "created": 1, "model": "m", "usage": _USAGE}
    | {"choices": [{"index": 0, "finish_reason": "stop"} | {"message": {"content": "Hello"}}]}
).encode()
_LAST = (
    _chunk({}, "stop")
    + b"data: "
    + json.dumps(_BASE | {"choices": [], "usage": _USAGE}).encode()
    + b"\n\ndata: [DONE]\n\n"
)


class StandIn:
    """Answers chat completions; streams take `pause` seconds between pieces."""

    def __init__(self, pause: float) -> None:
        self.pause = pause
        self.port = 0
        self._connections: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """On a free port."""
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, backlog=4096)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield
        finally:
            server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*self._connections, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        # asyncio.streams reports a handler that is cancelled as an error.
        ends = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        with contextlib.suppress(*ends):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                body = await reader.readexactly(_length(head))
                if head.startswith(b"GET"):
                    _respond(writer, b'{"object":"list","data":[{"id":"m"}]}')
                elif b'"stream":true' in body.replace(b" ", b""):
                    await self._stream(writer)
                else:
                    _respond(writer, _WHOLE)
        writer.close()

    async def _stream(self, writer: asyncio.StreamWriter) -> None:
        head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        writer.write(f"{head}transfer-encoding: chunked\r\n\r\n".encode())
        for number in range(_PIECES):
            piece = _chunk({"content": f"{number} "})
            writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            await asyncio.sleep(self.pause)
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(_LAST), _LAST))


def _length(head: bytes) -> int:
    for line in head.lower().split(b"\r\n"):
        if line.startswith(b"content-length:"):
            return int(line[15:])
    return 0


def _respond(writer: asyncio.StreamWriter, body: bytes) -> None:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
    writer.write(head.encode() + b"\r\n\r\n" + body)


@contextmanager
def gateway(directory: Path, upstream: int) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """`trunkline serve --config` before the stand-in."""
    backend = {"kind": "openai-compatible", "url": f"http://127.0.0.1:{upstream}", "probe": False}
    config = {
        "server": {"log_level": "warning"},
        "backends": {"stand-in": {**backend, "models": ["m"], "max_connections": 4096}},
        "routes": {"chat": "stand-in/m"},
    }
    file = directory / "trunkline.yaml"
    file.write_text(json.dumps(config))
    port = free_port()
    command = [sys.executable, "-m", "trunkline", "serve", "--config", str(file)]
    environment = os.environ | {"TRUNKLINE_HOME": str(directory / "home")}
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--port", str(port)], stdout=log, stderr=log, env=environment
        )
    try:
        yield process, port
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


async def _call(port: int, path: str, body: dict[str, Any] | None = None) -> bytes:
    """One request on a connection of its own; the whole response."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(_request(path, body, "close"))
        async with asyncio.timeout(_BOUND):
            return await reader.read()
    finally:
        writer.close()


def _request(path: str, body: dict[str, Any] | None, connection: str) -> bytes:
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nhost: x\r\n"
    head += f"connection: {connection}\r\ncontent-length: {len(data)}\r\n\r\n"
    return head.encode() + data


async def _wait_ready(port: int) -> None:
    deadline = time.monotonic() + _BOUND
    while True:
        with contextlib.suppress(OSError):
            if b" 200 " in (await _call(port, "/ready"))[:16]:
                return
        if time.monotonic() > deadline:
            raise SystemExit("the gateway does not become ready")
        await asyncio.sleep(0.1)


def _memory(pid: int) -> float:
    """Resident MiB of a process, its children left out."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


_BODY = {"model": "chat", "messages": [{"role": "user", "content": "Hi"}]}


async def _client(port: int, count: int) -> None:
    """`count` requests on one connection: whole answers and streams in turn."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        for number in range(count):
            stream = number % 2 == 1
            body = _BODY | {"stream": stream}
            if number % 4:
                # The others are each like the one before.
                body["user"] = f"user-{number % 1000}"
            writer.write(_request("/v1/chat/completions", body, "keep-alive"))
            async with asyncio.timeout(_BOUND):
                head = await reader.readuntil(b"\r\n\r\n")
                if not head.startswith(b"HTTP/1.1 200"):
                    raise SystemExit(f"a request failed: {head!r}")
                if stream:
                    await reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
                else:
                    await reader.readexactly(_length(head))
    finally:
        writer.close()


async def flat(port: int, pid: int, requests: int, clients: int) -> list[float]:
    """Memory after each fifth of the requests, in MiB."""
    seen: list[float] = []
    print(f"    at the start: {_memory(pid):.1f} MiB", flush=True)
    for _ in range(5):
        share = requests // 5 // clients
        await asyncio.gather(*(_client(port, share) for _ in range(clients)))
        seen.append(_memory(pid))
        print(f"    {len(seen) * share * clients} requests: {seen[-1]:.1f} MiB", flush=True)
    return seen


async def _target(port: int) -> dict[str, Any]:
    page = json.loads((await _call(port, "/health")).partition(b"\r\n\r\n")[2])
    target: dict[str, Any] = page["routes"][0]["targets"][0]
    return target


async def crowd(port: int, streams: int) -> None:
    """So many streams at once; raises SystemExit where one is not whole, or miscounted."""
    before = await _target(port)
    begun = time.perf_counter()
    asked = [_call(port, "/v1/chat/completions", _BODY | {"stream": True}) for _ in range(streams)]
    answers = await asyncio.gather(*asked)
    seconds = time.perf_counter() - begun
    broken = [one for one in answers if not one.startswith(b"HTTP/1.1 200") or _PIECE not in one]
    after = await _target(port)
    counted = {
        name: after[name] - before[name] for name in ("successes", "completion_tokens", "in_flight")
    }
    expected = {
        "successes": streams,
        "completion_tokens": streams * _PIECES,
        "in_flight": -before["in_flight"],
    }
    print(f"    {streams} streams in {seconds:.1f} s; {len(broken)} broken; {counted}", flush=True)
    if broken or counted != expected:
        raise SystemExit(f"expected {expected}; the first that is broken: {broken[:1]}")


_PIECE = _chunk({}, "stop")[6:40]


async def soak(arguments: argparse.Namespace) -> None:
    """Both, one after the other."""
    stand_in = StandIn(0.0)
    with tempfile.TemporaryDirectory() as directory:
        async with stand_in.serving():
            with gateway(Path(directory), stand_in.port) as (process, port):
                await _wait_ready(port)
                memory = await flat(port, process.pid, arguments.requests, arguments.clients)
                stand_in.pause = 0.5
                await crowd(port, arguments.streams)
                log = (Path(directory) / "log").read_text()
    if "Traceback" in log:
        raise SystemExit(log)
    grown = memory[-1] - memory[0]
    print(f"    memory grew by {grown:.1f} MiB after the first fifth", flush=True)
    if grown > arguments.growth:
        raise SystemExit("memory is not flat")


async def _bounded(arguments: argparse.Namespace) -> None:
    async with asyncio.timeout(arguments.limit):
        await soak(arguments)


def main(argv: list[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--clients", type=int, default=8, help="connections that send them")
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--growth", type=float, default=8.0, help="MiB")
    parser.add_argument("--limit", type=float, default=1800.0, help="seconds")
    asyncio.run(_bounded(parser.parse_args(argv)))


if __name__ == "__main__":
    main()
