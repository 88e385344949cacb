"""A server with nothing to do takes no CPU: not its threads, its watches, nor its engine."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import Server, serve


def _tree(pid: int) -> Iterator[int]:
    yield pid
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            yield from _tree(int(child))


def _cpu(server: Server) -> float:
    """Seconds that the server and all its processes have computed."""
    ticks = 0
    for pid in _tree(server.process.pid):
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def test_less_than_one_percent(tmp_path: Path) -> None:
    with serve(tmp_path, "--executor", "native", "--threads", "2") as server:
        body = {"model": "default", "prompt": "one two", "max_tokens": 8}
        assert server.post("/v1/completions", body).status_code == 200
        assert len(list(_tree(server.process.pid))) >= 3
        # What follows a start and an answer has ended by then, on a slow machine a while later.
        seconds, before, used = 5.0, 0.0, 1.0
        for _ in range(4):
            time.sleep(3.0)
            before = _cpu(server)
            time.sleep(seconds)
            used = _cpu(server) - before
            if used < 0.01 * seconds:
                break
    assert before > 0.1, "the start is not even seen"
    assert used < 0.01 * seconds, f"{used:.2f} s of CPU in {seconds} s"
