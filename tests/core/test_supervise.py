from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from trunkline.core.supervise import Backoff, Child

SLEEP = [sys.executable, "-c", "import time; time.sleep(60)"]
# Ignores SIGTERM, and says when it does.
STUBBORN = [
    sys.executable,
    "-c",
    (
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "os.write(int(sys.argv[1]), b'x')\n"
        "time.sleep(60)"
    ),
]


def test_pauses_grow_to_a_limit_and_start_over_after_a_healthy_life() -> None:
    backoff = Backoff(first=0.1, limit=1.0, factor=2.0, healthy_after=30)
    delays = [backoff.after(lifetime=0.5) for _ in range(6)]
    assert delays == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.after(lifetime=31) == 0.1


async def test_exit_is_reported_once() -> None:
    codes: list[int] = []
    child = Child([sys.executable, "-c", "raise SystemExit(3)"], on_exit=codes.append)
    await child.start()
    assert await child.wait() == 3
    assert codes == [3]
    child.kill()


async def test_stop_terminates() -> None:
    child = Child(SLEEP)
    await child.start()
    assert await child.stop(grace=10) == -signal.SIGTERM


async def test_stop_kills_what_does_not_listen() -> None:
    read_end, write_end = os.pipe()
    child = Child([*STUBBORN, str(write_end)], pass_fds=(write_end,))
    await child.start()
    await asyncio.to_thread(os.read, read_end, 1)
    os.close(read_end)
    os.close(write_end)
    assert await child.stop(grace=0.2) == -signal.SIGKILL


def test_a_child_dies_with_its_parent() -> None:
    code = (
        "import os, subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', "
        "'import os, time\\n"
        "from trunkline.core.lineage import die_with_parent\\n"
        "die_with_parent(os.getppid())\\n"
        "print(os.getpid(), flush=True)\\n"
        "time.sleep(60)'])\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.kill()
    deadline = time.monotonic() + 60
    while _alive(pid):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _alive(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return status.rsplit(")", 1)[1].split()[0] != "Z"
