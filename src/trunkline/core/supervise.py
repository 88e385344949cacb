"""Child processes with an owner: start, watch, stop, and back off between lives."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Mapping, Sequence

import msgspec


class Backoff(msgspec.Struct):
    """Growing pauses between restarts; a life longer than `healthy_after` starts over."""

    # Seconds: the first pause, and the longest.
    first: float = 0.1
    limit: float = 15.0
    factor: float = 2.0
    # Seconds of life after which a child counts as healthy again.
    healthy_after: float = 30.0
    # Deaths in a row.
    failures: int = 0

    def after(self, lifetime: float) -> float:
        """Seconds to wait after a child died that had lived for `lifetime` seconds."""
        if lifetime >= self.healthy_after:
            self.failures = 0
        delay = min(self.limit, self.first * self.factor**self.failures)
        self.failures += 1
        return delay


class Child:
    """One life of one process, in a session of its own so that Ctrl-C is ours to handle.

    `on_exit` is called on the event loop with the return code (negative: the signal), once,
    however the process ends.
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        on_exit: Callable[[int], None] | None = None,
    ) -> None:
        self._argv = tuple(argv)
        self._env = dict(env) if env is not None else None
        self._pass_fds = tuple(pass_fds)
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Process id; 0 before `start`."""
        return self._process.pid if self._process else 0

    @property
    def returncode(self) -> int | None:
        """None while it runs."""
        return self._process.returncode if self._process else None

    async def start(self) -> None:
        """Spawn the process. Raises OSError."""
        self._process = await asyncio.create_subprocess_exec(
            *self._argv,
            env=self._env,
            pass_fds=self._pass_fds,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        self._watcher = asyncio.get_running_loop().create_task(self._watch(self._process))

    async def _watch(self, process: asyncio.subprocess.Process) -> None:
        code = await process.wait()
        if self._on_exit is not None:
            self._on_exit(code)

    def kill(self) -> None:
        """SIGKILL; harmless when it has ended."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def wait(self) -> int:
        """Wait for the end; `on_exit` has been called when this returns."""
        if self._process is None or self._watcher is None:
            raise RuntimeError("the child was never started")
        await asyncio.shield(self._watcher)
        code = self._process.returncode
        return code if code is not None else -1

    async def stop(self, grace: float) -> int:
        """SIGTERM, and SIGKILL after `grace` seconds. Returns the return code."""
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                return await self.wait()
        except TimeoutError:
            self.kill()
            return await self.wait()
