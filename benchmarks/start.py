"""How long `trunkline serve caboose` takes to its first answer, `--help` to its end, and what an
idle server computes.

    python -m benchmarks.start .venv/bin/trunkline --rounds 5
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

_QUESTION = json.dumps({"messages": [{"role": "user", "content": "What is 17 + 25?"}]})
_IDLE = 15.0
_TICK = os.sysconf("SC_CLK_TCK")


def first_answer(program: str, home: str, port: int) -> tuple[float, subprocess.Popen[bytes]]:
    """Seconds from starting the process to its first whole answer, and the process."""
    begun = time.monotonic()
    server = subprocess.Popen(
        [program, "serve", "caboose", "--port", str(port)],
        env={**os.environ, "TRUNKLINE_HOME": home},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while not _ask(port):
        time.sleep(0.01)
    return time.monotonic() - begun, server


def _ask(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.suppress(OSError):
        connection.request("POST", "/v1/chat/completions", _QUESTION)
        response = connection.getresponse()
        response.read()
        return response.status == http.client.OK
    return False


def processor_seconds(pid: int) -> float:
    """Of a process and all below it."""
    below: dict[int, list[int]] = {}
    ticks: dict[int, int] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            fields = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            below.setdefault(int(fields[1]), []).append(int(folder.name))
            ticks[int(folder.name)] = int(fields[11]) + int(fields[12])
    total, queue = 0, [pid]
    while queue:
        one = queue.pop()
        total += ticks.get(one, 0)
        queue += below.get(one, [])
    return total / _TICK


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", help="path of the installed trunkline")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    for _ in range(arguments.rounds):
        begun = time.monotonic()
        subprocess.run([arguments.program, "--help"], check=True, stdout=subprocess.DEVNULL)
        print(f"--help: {time.monotonic() - begun:.2f} s")
    with tempfile.TemporaryDirectory() as home:
        for left in reversed(range(arguments.rounds)):
            with socket.create_server(("127.0.0.1", 0)) as free:
                port = free.getsockname()[1]
            seconds, server = first_answer(arguments.program, home, port)
            print(f"serve caboose, first answer: {seconds:.2f} s")
            if not left:
                time.sleep(1)
                before = processor_seconds(server.pid)
                time.sleep(_IDLE)
                spent = processor_seconds(server.pid) - before
                print(f"idle: {spent / _IDLE:.2%} of a core over {_IDLE:.0f} s")
            server.terminate()
            server.wait()


if __name__ == "__main__":
    main()
