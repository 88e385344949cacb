"""The front as a process: its arguments, its lifeline, and what it leaves behind."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.engine.front.test_service import Gateway
from trunkline.core.types import Completed

_TIMEOUT = 60.0


@pytest.fixture
def private(tmp_path: Path) -> Path:
    directory = tmp_path / "private"
    directory.mkdir(mode=0o700)
    return directory


@asynccontextmanager
async def process(
    directory: Path, *more: str, rules: str = "{}", pass_fds: tuple[int, ...] = ()
) -> AsyncIterator[asyncio.subprocess.Process]:
    path = directory / "rules.json"
    if not path.exists():
        path.write_text(rules)
    config = json.dumps({"name": "m", "model": str(path), "executor": "scripted"})
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "trunkline.engine.front"),
        *("--socket", str(directory / "s"), "--config", config, *more),
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        async with asyncio.timeout(_TIMEOUT):
            await child.communicate()


async def connect(directory: Path) -> Gateway:
    async with asyncio.timeout(_TIMEOUT):
        while True:
            try:
                return Gateway(*await asyncio.open_unix_connection(str(directory / "s")))
            except OSError:
                await asyncio.sleep(0.02)


async def ended(child: asyncio.subprocess.Process) -> tuple[int | None, str]:
    async with asyncio.timeout(_TIMEOUT):
        _, errors = await child.communicate()
    return child.returncode, errors.decode()


async def gone(pid: int) -> None:
    deadline = time.monotonic() + _TIMEOUT
    while alive(pid):
        assert time.monotonic() < deadline, f"process {pid} lives on"
        await asyncio.sleep(0.02)


def alive(pid: int) -> bool:
    """False also for a zombie that nobody has collected."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


async def test_it_answers_and_sigterm_ends_it(private: Path) -> None:
    async with process(private) as child:
        gateway = await connect(private)
        status = await gateway.ready()
        assert isinstance(await gateway.outcome(gateway.submit("hello")), Completed)
        child.send_signal(signal.SIGINT)
        assert isinstance(await gateway.outcome(gateway.submit("again")), Completed)
        child.send_signal(signal.SIGTERM)
        with pytest.raises(EOFError):
            await gateway.until(lambda: False)
        gateway.close()
        assert await ended(child) == (0, "")
        await gone(status.core_pid)
        assert not (private / "s").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_it_ends_with_its_lifeline(private: Path) -> None:
    reading, writing = os.pipe()
    async with process(private, "--lifeline", str(reading), pass_fds=(reading,)) as child:
        os.close(reading)
        gateway = await connect(private)
        await gateway.ready()
        below = children(child.pid)
        assert len(below) == 2, "the core and the template worker"
        os.close(writing)
        code, _ = await ended(child)
        gateway.close()
        assert code == 0
        for pid in below:
            await gone(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_nothing_outlives_a_killed_front(private: Path) -> None:
    async with process(private) as child:
        gateway = await connect(private)
        await gateway.ready()
        below = children(child.pid)
        child.kill()
        with pytest.raises((EOFError, ConnectionError)):
            await gateway.until(lambda: False)
        gateway.close()
        for pid in below:
            await gone(pid)


async def test_a_model_that_cannot_be_loaded_is_reported(private: Path) -> None:
    # A pipe: the core waits until something is written.
    os.mkfifo(private / "rules.json")
    async with process(private) as child:
        gateway = await connect(private)
        await asyncio.to_thread((private / "rules.json").write_text, "{")
        await gateway.until(lambda: gateway.statuses and gateway.statuses[-1].state == "failed")
        assert "rules.json" in gateway.statuses[-1].detail
        gateway.close()
        code, errors = await ended(child)
        assert code == 1
        assert "rules.json" in errors


async def test_a_directory_open_to_others_is_refused(private: Path) -> None:
    os.chmod(private, 0o755)
    async with process(private) as child:
        code, errors = await ended(child)
        assert code == 1
        assert "mode 0700" in errors


async def test_bad_configuration_is_refused_by_field(private: Path) -> None:
    async with process(private, "--config", '{"name": "m", "model": "x", "ctx_size": -1}') as child:
        code, errors = await ended(child)
        assert code == 1
        assert "ctx_size" in errors
