"""The servers that are compared: ours, and llama.cpp's own out of the same wheel."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Seconds until a server must answer.
START_TIMEOUT = 180.0

# llama.cpp's server through xllamacpp: same shared object as our ggml executor, its own scheduler.
_LLAMA_CPP = """
import sys, threading
import xllamacpp as x
model, port, threads, context, parallel, batch = sys.argv[1], *map(int, sys.argv[2:])
p = x.CommonParams()
p.model.path, p.port, p.n_ctx, p.n_parallel, p.kv_unified = model, port, context, parallel, True
p.cpuparams.n_threads = p.cpuparams_batch.n_threads = threads
p.warmup, p.model_alias = True, {'m'}
if batch:
    p.n_batch = batch
server = x.Server(p)
threading.Event().wait()
"""


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def llama_cpp(model: Path, port: int, threads: int, batch: int = 0) -> list[str]:
    """Command of llama.cpp's server; `batch` 0 is its default."""
    numbers = (port, threads, 24576, 32, batch)
    return [sys.executable, "-c", _LLAMA_CPP, str(model), *map(str, numbers)]


def trunkline(model: Path, port: int, threads: int, *flags: str) -> list[str]:
    """Command of our server."""
    command = [sys.executable, "-m", "trunkline", "serve", str(model), "--port", str(port)]
    return [*command, "--threads", str(threads), "--served-model-name", "m", *flags]


@contextmanager
def running(command: list[str], port: int, log: Path) -> Iterator[tuple[float, int]]:
    """Run a server; yields the seconds from its start to its first answer, and its process id."""
    begun = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_for(process, port, log)
            yield time.perf_counter() - begun, process.pid
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def resident(pid: int) -> int:
    """Bytes of memory that a process and all below it hold; what they share counts once (PSS)."""
    total = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            total += int(line.split()[1]) * 1024
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += sum(map(resident, map(int, (task / "children").read_text().split())))
    return total


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    body = json.dumps({"model": "m", "prompt": [1, 2, 3], "max_tokens": 1}).encode()
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions", body, {"Content-Type": "application/json"}
    )
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}; see {log}")
        try:
            with urllib.request.urlopen(request, timeout=60):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"the server did not answer in {START_TIMEOUT:.0f} s; see {log}")
