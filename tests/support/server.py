"""A real `trunkline serve` in a process of its own, for end-to-end tests."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

START_TIMEOUT = 60.0


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """One running server: its address, its processes, its metrics."""

    def __init__(self, process: subprocess.Popen[bytes], port: int, log: Path) -> None:
        self.process = process
        self.port = port
        self.log = log
        self.url = f"http://127.0.0.1:{port}"

    def wait_ready(self, timeout: float = START_TIMEOUT) -> None:
        """Wait for /ready. Fails with the log when the server ends before that."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"server ended: {self.log.read_text()[-4000:]}")
            try:
                if httpx.get(f"{self.url}/ready", timeout=5).status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
        raise AssertionError(f"not ready after {timeout} s: {self.log.read_text()[-4000:]}")

    def metrics(self) -> dict[str, float]:
        """All samples of /metrics, summed over their labels."""
        samples: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics", timeout=30).text.splitlines():
            match = re.match(r"([a-zA-Z_:][\w:]*)(?:\{.*\})? ([^ ]+)$", line)
            if match:
                samples[match[1]] = samples.get(match[1], 0.0) + float(match[2])
        return samples

    def wait_metric(self, name: str, value: float, timeout: float = 60.0) -> None:
        """Wait until a metric has a value."""
        self._wait(name, lambda now: now == value, f"not {value}", timeout)

    def wait_above(self, name: str, value: float, timeout: float = 60.0) -> None:
        """Wait until a metric is over a value: an engine tells its own now and then."""
        self._wait(name, lambda now: now > value, f"not over {value}", timeout)

    def _wait(self, name: str, good: Callable[[float], bool], problem: str, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not good(now := self.metrics().get(name, math.nan)):
            assert time.monotonic() < deadline, f"{name} is {now}, {problem}"
            time.sleep(0.05)

    def post(self, path: str, body: Any, timeout: float = 60.0, **headers: str) -> httpx.Response:
        """POST JSON."""
        return httpx.post(f"{self.url}{path}", json=body, timeout=timeout, headers=headers)

    def descendants(self) -> dict[str, int]:
        """Process ids of the front and the core of this server, by name."""
        found = {}
        for directory in Path("/proc").iterdir():
            if not directory.name.isdigit():
                continue
            try:
                line = (directory / "cmdline").read_bytes().decode().replace("\0", " ")
                parents = _ancestors(int(directory.name))
            except (OSError, ValueError):
                continue
            for name, module in (("front", "engine.front --"), ("core", "engine.core_process")):
                if module in line and self.process.pid in parents:
                    found[name] = int(directory.name)
        return found


def _ancestors(pid: int) -> list[int]:
    parents = []
    while pid > 1:
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
        parents.append(pid)
    return parents


@contextmanager
def serve(directory: Path, *arguments: str, ready: bool = True) -> Iterator[Server]:
    """Run `trunkline serve ARGUMENTS` on a free port with its own home in `directory`."""
    port = free_port()
    log = directory / "server.log"
    environment = os.environ | {"TRUNKLINE_HOME": str(directory / "home")}
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "trunkline", "serve", *arguments, "--port", str(port)],
            stdout=output,
            stderr=output,
            env=environment,
        )
    server = Server(process, port, log)
    try:
        if ready:
            server.wait_ready()
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(15)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def write_rules(path: Path, *rules: dict[str, Any], **top: Any) -> Path:
    """Write rules of the scripted executor."""
    path.write_text(json.dumps({"rules": rules, **top}))
    return path
