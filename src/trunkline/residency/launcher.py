"""Starts engines: as a process of this machine, or in a container of it.

    running = await SubprocessLauncher(folder).start(spec)
    ... running.url ...
    await running.stop()

A launcher knows nothing of health: `start` returns once the engine's process is there.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from trunkline.core.errors import Unavailable
from trunkline.residency import guard
from trunkline.residency.commands import Command, filled

_HOST = "127.0.0.1"
# Bytes of a log, of which there are two, and what of its end is shown.
MAX_LOG = 16 * 1024 * 1024
_TAIL_BYTES = 16 * 1024
_TAIL_LINES = 20
_TAIL_CHARACTERS = 2000
# What the guard writes at the beginning of each life.
_START = re.compile(rb"^---- \S+ \S+ start ----$", re.MULTILINE)
# Seconds for the guard to say that the engine's process is there, and beyond the stop timeout
# until it has cleaned up.
_SPAWN = 20.0
_GUARD_GRACE = 30.0


class LaunchSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to start."""

    # Of the backend: names its log and its container.
    name: str
    kind: str
    command: Command
    # The whole environment, `command.env` and what it must not tell anybody included.
    env: Mapping[str, str]
    model: str = ""
    # Container image; "" = a process.
    image: str = ""
    # Port to listen on; 0 = any that is free.
    port: int = 0
    # Port that the engine listens on inside of its container.
    inner_port: int = 0
    # The program inside of the image, where it is called otherwise.
    in_image: str = ""
    # Seconds from SIGTERM to SIGKILL.
    stop_timeout: float = 30.0
    # Texts that are shown nowhere.
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        """Without the environment, which holds keys."""
        return f"LaunchSpec(name={self.name!r}, kind={self.kind!r})"


class Running(Protocol):
    """An engine's process, or what stands for it."""

    @property
    def url(self) -> str:
        """Base URL of its server."""

    @property
    def pid(self) -> int:
        """Process id of the engine, or of the client that runs its container; 0 = it has none."""

    @property
    def metrics_port(self) -> int:
        """Where it tells its load, where that is a port of its own; else 0."""

    @property
    def status(self) -> int | None:
        """What it ended with, negative for a signal; None while it runs."""

    async def wait(self) -> int:
        """Wait for its end. Returns `status`."""

    async def stop(self) -> int:
        """End it: SIGTERM, and SIGKILL when it takes too long. Returns `status`."""

    async def tail(self) -> str:
        """The last lines that it wrote in this life, without secrets."""


class Launcher(Protocol):
    """Starts engines somewhere."""

    async def start(self, spec: LaunchSpec) -> Running:
        """Raises `Unavailable`, which says why, where it cannot be started."""


class Invocation(msgspec.Struct, frozen=True, kw_only=True):
    """A command with nothing left to fill in."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    host: str
    port: int
    metrics_port: int = 0
    # Ends what is left when the process had to be killed.
    cleanup: tuple[str, ...] = ()


class SubprocessLauncher:
    """Starts processes, each in a session of its own and with a guard beside it."""

    def __init__(self, logs: Path, max_log: int = MAX_LOG) -> None:
        self._logs = logs
        self._max_log = max_log
        # Who writes to which, or did last.
        self._writers: dict[Path, GuardedProcess] = {}

    async def start(self, spec: LaunchSpec) -> Running:
        """Raises `Unavailable`, also where the program is not installed."""
        argv = spec.command.argv
        port = free_port(spec.port)
        metrics_port = free_port(0) if spec.command.asks("{metrics_port}") else 0
        values = {
            "model": spec.model,
            "host": _HOST,
            "port": str(port),
            "metrics_port": str(metrics_port),
        }
        own = {name: filled(value, values) for name, value in spec.command.env.items()}
        invocation = Invocation(
            argv=tuple(filled(word, values) for word in argv),
            env={**spec.env, **own},
            host=_HOST,
            port=port,
            metrics_port=metrics_port,
        )
        return await self.run(spec, invocation)

    async def run(self, spec: LaunchSpec, invocation: Invocation) -> Running:
        """Start a guard with the command. Raises `Unavailable`."""
        program = invocation.argv[0]
        if shutil.which(program, path=invocation.env.get("PATH", os.defpath)) is None:
            raise Unavailable(
                f"{spec.name} cannot be started: there is no program {program!r}; "
                "install it, or name another in launch.command"
            )
        log = self._log(spec.name)
        process = self._writers[log] = GuardedProcess(spec, invocation, log, self._max_log)
        try:
            await process.start()
        except BaseException:
            del self._writers[log]
            raise
        return process

    def _log(self, name: str) -> Path:
        """Where the output of `name` goes. Raises `Unavailable` where that cannot be.

        While another version of it runs, as after a reload, it is a file with a number.
        """
        plain = re.sub(r"[^A-Za-z0-9._-]", "_", name).lstrip(".")[:80]
        if plain != name:
            # Other names may look the same.
            plain += "-" + hashlib.sha256(name.encode()).hexdigest()[:8]
        try:
            self._logs.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Unavailable(f"cannot keep logs in {self._logs}: {error.strerror}") from None
        path, number = self._logs / f"{plain}.log", 1
        while (writer := self._writers.get(path)) is not None and writer.status is None:
            number += 1
            path = self._logs / f"{plain}.{number}.log"
        return path


class GuardedProcess:
    """Implements `Running`: an engine with a guard beside it."""

    def __init__(
        self, spec: LaunchSpec, invocation: Invocation, log: Path, max_log: int = MAX_LOG
    ) -> None:
        self._spec = spec
        self._invocation = invocation
        self._log = log
        self._max_log = max_log
        self._process: asyncio.subprocess.Process | None = None
        self._lifeline = -1
        self._watcher: asyncio.Task[int] | None = None
        self.pid = 0
        self.url = f"http://{invocation.host}:{invocation.port}"
        self.metrics_port = invocation.metrics_port

    @property
    def status(self) -> int | None:
        """None while it runs."""
        return self._watcher.result() if self._watcher and self._watcher.done() else None

    async def start(self) -> None:
        """Start guard and engine. Raises `Unavailable`."""
        read_end, self._lifeline = os.pipe()
        try:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-I", "-S", guard.__file__),
                *("--lifeline", str(read_end), "--log", str(self._log)),
                *("--max-log", str(self._max_log), "--grace", str(self._spec.stop_timeout)),
                *(("--cleanup", _json(self._invocation.cleanup)) * bool(self._invocation.cleanup)),
                *self._invocation.argv,
                env=dict(self._invocation.env),
                pass_fds=(read_end,),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                start_new_session=True,
            )
            self.pid = await self._told_pid()
        except OSError as error:
            raise Unavailable(f"{self._spec.name} cannot be started: {error}") from None
        except BaseException:
            self._abandon()
            if self._process is not None:
                # It has ended or was killed: this takes no time, and leaves nothing half closed.
                await asyncio.shield(self._process.communicate())
            raise
        finally:
            os.close(read_end)
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _told_pid(self) -> int:
        line = b""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_SPAWN):
                line = await self._line()
        if not line.strip().isdigit():
            raise Unavailable(f"{self._spec.name} cannot be started: {await self.tail()}")
        return int(line)

    async def _line(self) -> bytes:
        assert self._process is not None
        assert self._process.stdout is not None
        return await self._process.stdout.readline()

    async def _watch(self) -> int:
        """Until the guard has ended. Its second line is the engine's status."""
        assert self._process is not None
        try:
            line = await self._line()
            code = await self._process.wait()
        finally:
            # Also where nobody watches any more: the guard ends the engine then.
            self._cut()
        if line.strip().removeprefix(b"-").isdigit():
            return int(line)
        # Killed, both of its processes maybe: nobody else ends what the engine has started.
        _kill_group(self.pid)
        return code or -signal.SIGKILL

    async def wait(self) -> int:
        """Wait for its end."""
        if self._watcher is None:
            raise RuntimeError("the engine was never started")
        return await asyncio.shield(self._watcher)

    async def stop(self) -> int:
        """The guard does it; a guard that does not is killed."""
        if self._process is None or self._watcher is None:
            raise RuntimeError("the engine was never started")
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
        try:
            async with asyncio.timeout(self._spec.stop_timeout + _GUARD_GRACE):
                return await self.wait()
        except TimeoutError:
            self._abandon()
            return await self.wait()

    async def tail(self) -> str:
        """The last lines of this life; "" where there are none."""
        data = await asyncio.to_thread(_end_of, self._log)
        text = last_life(data)
        for secret in self._spec.secrets:
            text = text.replace(secret, "***")
        return text

    def _abandon(self) -> None:
        """Kill engine and guard."""
        self._cut()
        if self._process is not None and self._process.returncode is None:
            _kill_group(self.pid)
            # It leads a group, of its two processes.
            _kill_group(self._process.pid)

    def _cut(self) -> None:
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1


def _kill_group(leader: int) -> None:
    """Harmless where it is gone; 0: there is none."""
    if leader:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)


def last_life(data: bytes) -> str:
    """The last lines of the last life in the end of a log, joined; without blank ones."""
    begin = 0
    for match in _START.finditer(data):
        begin = match.end()
    lines = data[begin:].decode("utf-8", "replace").splitlines()
    shown = [line.rstrip() for line in lines if line.strip()][-_TAIL_LINES:]
    return "\n".join(shown)[-_TAIL_CHARACTERS:]


def _end_of(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - _TAIL_BYTES))
            return file.read()
    except OSError:
        return b""


def _json(words: tuple[str, ...]) -> str:
    return msgspec.json.encode(words).decode()


def free_port(wanted: int) -> int:
    """`wanted`, or another one when that is 0 or taken. Somebody may still be faster than we."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((_HOST, port))
            except OSError:
                continue
            found: int = probe.getsockname()[1]
            return found
    raise Unavailable("no port is free")
