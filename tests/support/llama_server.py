"""llama.cpp's own server out of the wheel, for comparison."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.server import free_port

# One computing thread and one slot: the same sums in the same order.
SCRIPT = """
import sys, threading
import xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_ctx, params.n_parallel = int(sys.argv[3]), 1
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.warmup, params.endpoint_slots = False, True
server = xllamacpp.Server(params)
threading.Event().wait()
"""


@contextmanager
def llama_server(model: Path, directory: Path, context: int = 2048) -> Iterator[str]:
    """Its URL, while it serves `model`; its log goes to `directory`."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = directory / "llama-server.log"
    with log.open("wb") as output:
        command = [sys.executable, "-c", SCRIPT, str(model), str(port), str(context)]
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, log.read_text()[-4000:]
            try:
                if httpx.get(f"{url}/health", timeout=5).status_code == 200:
                    break
            except httpx.TransportError:
                pass
            assert time.monotonic() < deadline
            time.sleep(0.05)
        yield url
    finally:
        process.kill()
        process.wait()
