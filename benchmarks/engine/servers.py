"""Processes of servers on this machine: a free port, start and end, memory."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path

# Seconds until a server must answer: vLLM compiles first.
START_TIMEOUT = 900.0
# Seconds that a server may take to end.
_END = 20.0
# Bytes of its log that an error shows.
_TAIL = 2000


def this_version() -> str:
    """What of Trunkline is measured."""
    folder = Path(__file__).resolve().parent
    told = subprocess.run(
        ["git", "-C", str(folder), "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        check=False,
    )
    return f"Trunkline {told.stdout.strip() or 'of no known revision'}"


def free_port() -> int:
    """A loopback port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def running(
    command: list[str], port: int, log: Path, environment: Mapping[str, str]
) -> Iterator[tuple[float, int]]:
    """Run a server; yields the seconds from its start to its first answer, and its process id.

    `environment` is added to ours. Raises RuntimeError where the server never answers.
    """
    begun = time.perf_counter()
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=output,
            env=os.environ | environment,
            start_new_session=True,
        )
    try:
        _wait_for(process, port, log)
        yield time.perf_counter() - begun, process.pid
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process, then what is left of its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(_END)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
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
    body = {"model": "m", "prompt": [1, 2, 3], "max_tokens": 1, "stream": True}
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/v1/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    deadline = time.monotonic() + START_TIMEOUT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"the server ended with {process.returncode}: {_tail(log)}")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                answer.read()
                return
        except urllib.error.HTTPError as error:
            # llama-server says 503 while it loads.
            if error.code != HTTPStatus.SERVICE_UNAVAILABLE:
                raise RuntimeError(f"{error.code}: {error.read(_TAIL)!r}") from None
            time.sleep(0.05)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.05)
    raise RuntimeError(f"the server did not answer in {START_TIMEOUT:.0f} s: {_tail(log)}")


def _tail(log: Path) -> str:
    return log.read_bytes()[-_TAIL:].decode(errors="replace")
