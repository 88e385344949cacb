"""The stand-in and the load on a gateway: C programs, compiled when they are needed, and wrk."""

from __future__ import annotations

import http.client
import json
import os
import resource
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from benchmarks.engine.servers import free_port
from benchmarks.gateway.processes import Machine, processor_seconds
from benchmarks.gateway.targets import KEY

_HERE = Path(__file__).resolve().parent
PATH = "/v1/chat/completions"
# The gateway has a core of its own; what surrounds it shares the other.
GATEWAY_CORE, LOAD_CORE = "0", "1"
# Seconds that a load may take beyond its own limit.
_GRACE = 60.0

# Messages as people and coding agents send them: with line breaks, quotes and code.
_CODE = 'def greet(name: str) -> str:\n    """Say hello."""\n    return f"Hello, {name}!"\n\n'


def _chat(*texts: str, **fields: Any) -> bytes:
    roles = ("user", "assistant")
    messages = [{"role": "system", "content": "You are a careful assistant. " * 7}]
    messages += [{"role": roles[n % 2], "content": text} for n, text in enumerate(texts)]
    return json.dumps({"model": "mock", "messages": messages, **fields}).encode()


# Bodies of requests by their size.
BODIES: Mapping[str, bytes] = MappingProxyType(
    {
        "1 KB": _chat("lorem ipsum dolor sit amet " * 25, temperature=0.7, max_tokens=64),
        "70 KB": _chat(*[_CODE * 20] * 38, temperature=0.7, max_tokens=64),
    }
)


@dataclass(frozen=True)
class Tools:
    """Paths of the programs; `wrk` is None where it is not installed."""

    mock: str
    load: str
    wrk: str | None


def compile_tools(directory: Path) -> Tools:
    """Compile the C programs into `directory` with `cc`."""
    paths = {}
    for name in ("mock", "load"):
        paths[name] = str(directory / name)
        subprocess.run(["cc", "-O2", "-o", paths[name], str(_HERE / f"{name}.c")], check=True)
    return Tools(paths["mock"], paths["load"], shutil.which("wrk"))


def get(port: int, path: str) -> dict[str, Any]:
    """A JSON object from a server of this machine."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        told: dict[str, Any] = json.loads(connection.getresponse().read())
        return told
    finally:
        connection.close()


@contextmanager
def mock(tools: Tools) -> Iterator[tuple[int, int]]:
    """The stand-in on the load's core; yields its process and its port."""
    port = free_port()
    process = subprocess.Popen(["taskset", "-c", LOAD_CORE, tools.mock, str(port)])
    try:
        deadline = time.monotonic() + 10
        while True:
            try:
                get(port, "/stats")
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        yield process.pid, port
    finally:
        process.terminate()
        process.wait(10)


@dataclass(frozen=True)
class Load:
    """Loads one server and measures what that costs whom."""

    tools: Tools
    # For the files that the programs read.
    directory: Path
    # (process, port) of the stand-in.
    mock: tuple[int, int]
    # Of the gateway; without one, the stand-in is loaded directly.
    gateway: int | None
    port: int

    def requests(self, body: bytes, connections: int, seconds: float) -> dict[str, float]:
        """Whole answers as fast as they come: requests/s, times and costs in microseconds."""
        before = get(self.mock[1], "/stats")["whole"]
        if self.tools.wrk:
            command = [self.tools.wrk, "-t1", f"-c{connections}", f"-d{seconds:g}s"]
            command += ["--timeout", "10s", "-s", str(_HERE / "load.lua")]
            command += [f"http://127.0.0.1:{self.port}"]
        else:
            file = self._file("request", _request(self.port, body))
            command = [self.tools.load, "requests", str(self.port), str(connections)]
            command += [str(seconds), file]
        told = self._run(command, body, seconds)
        answered = told["requests"]
        if get(self.mock[1], "/stats")["whole"] - before < answered:
            raise RuntimeError("the gateway answered more often than it asked")
        return {
            "rps": answered / told["seconds"],
            "p50_us": told["p50_us"],
            "p99_us": told["p99_us"],
            "errors": told["errors"],
            "cpu_us": 1e6 * told["gateway_s"] / max(answered, 1),
            "foreign": told["foreign"],
        }

    def streams(
        self, connections: int, total: int, chunks: int, interval_ms: int, seconds: float
    ) -> dict[str, float]:
        """Streams with usage: chunks/s, times and costs in microseconds."""
        text = f"@mock n={chunks} interval={interval_ms}@ tell me a story"
        body = _chat(text, stream=True, stream_options={"include_usage": True})
        file = self._file("stream", _request(self.port, body))
        # Paced streams begin evenly over twice an interval per connection: never all at one beat.
        stagger = interval_ms // 2
        command = [self.tools.load, "streams", str(self.port), str(connections), str(total)]
        told = self._run([*command, str(seconds), str(chunks), str(stagger), file], body, seconds)
        kept = ("first_p50_us", "first_p99_us", "transit_p50_us", "transit_p99_us", "unfinished")
        return {
            "chunks_s": told["chunks"] / max(told["seconds"], 1e-6),
            "cpu_us": 1e6 * told["gateway_s"] / max(told["chunks"], 1),
            "bad": told["bad"] + told["without_done"],
            "without_usage": told["streams"] + told["bad"] - told["with_usage"],
            "foreign": told["foreign"],
            **{name: told[name] for name in kept},
        }

    def _run(self, command: list[str], body: bytes, seconds: float) -> dict[str, float]:
        """The figures of a load program, with `gateway_s` and `foreign` cores spent meanwhile."""
        file = self._file("body", body)
        environment = os.environ | {"BODY": file, "TARGET": PATH, "KEY": KEY}
        ours, machine, begun = self._spent(), Machine.now(), time.monotonic()
        gateway = self._of_gateway()
        done = subprocess.run(
            ["taskset", "-c", LOAD_CORE, *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=seconds + _GRACE,
            check=False,
        )
        gateway = self._of_gateway() - gateway
        took, now = time.monotonic() - begun, Machine.now()
        ours = self._spent() - ours
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        if done.returncode or not lines:
            raise RuntimeError(f"{command[0]} failed: {(done.stdout + done.stderr)[-500:]}")
        figures: dict[str, float] = json.loads(lines[-1])
        foreign = (now.busy - machine.busy) - ours + (now.stolen - machine.stolen)
        return figures | {"gateway_s": gateway, "foreign": max(0.0, foreign / took)}

    def _of_gateway(self) -> float:
        return 0.0 if self.gateway is None else processor_seconds(self.gateway)

    def _spent(self) -> float:
        """Processor seconds of all that this benchmark runs, itself included."""
        own = sum(
            usage.ru_utime + usage.ru_stime
            for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        )
        return own + self._of_gateway() + processor_seconds(self.mock[0])

    def _file(self, name: str, data: bytes) -> str:
        path = self.directory / name
        path.write_bytes(data)
        return str(path)


def _request(port: int, body: bytes) -> bytes:
    head = f"POST {PATH} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nAuthorization: Bearer {KEY}\r\n"
    head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body
