"""Keeps one built-in engine alive: its front process, and the connection to it.

    async with start_local(config) as engine:
        await engine.backend.wait_ready(60)
        engine.backend.submit(request, sink)

A front that dies is started again with growing pauses. A front that could not load its model
at its first start is not: the reason stays in `backend.health()`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec

from trunkline.backends.local import LocalBackend
from trunkline.core.supervise import Backoff, Child
from trunkline.core.types import Health
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus

log = logging.getLogger("trunkline.residency")

# Seconds until a new front must accept connections (it does so before it loads anything).
_CONNECT_TIMEOUT = 20.0
_CONNECT_PERIOD = 0.01


class LocalEngine:
    """Owns the front of one model."""

    def __init__(
        self, config: EngineConfig, directory: Path, on_status: Callable[[FrontStatus], None] | None
    ) -> None:
        self.config = config
        self.backend = LocalBackend(config.name, self._note)
        self._on_status = on_status
        self._directory = directory
        self._backoff = Backoff()
        self._child: Child | None = None
        self._lifeline: int | None = None
        self._was_ready = False
        self._lives = 0
        # The first front was started, or cannot be.
        self.begun = asyncio.Event()

    @property
    def pid(self) -> int:
        """Process id of the front; 0 when there is none."""
        return self._child.pid if self._child else 0

    async def run(self) -> None:
        """Start the front, and again whenever it ends. Returns when it failed for good."""
        while True:
            begun = time.monotonic()
            code = await self._one_life()
            health = self.backend.health()
            if not self._was_ready:
                detail = health.detail if health.state == "failed" else f"exit status {code}"
                self.backend.mark_down(Health("failed", detail))
                return
            delay = self._backoff.after(time.monotonic() - begun)
            log.error("front of %s ended (%d), again in %.1f s", self.config.name, code, delay)
            self.backend.mark_down(Health("restarting", f"the front ended with status {code}"))
            self.backend.front_restarts += 1
            await asyncio.sleep(delay)

    def give_up(self, keeper: asyncio.Task[None]) -> None:
        """Say why, when nobody keeps the engine alive any more because of a fault of ours."""
        self.begun.set()
        if not keeper.cancelled() and (fault := keeper.exception()) is not None:
            log.error("cannot run the engine of %s", self.config.name, exc_info=fault)
            self.backend.mark_down(Health("failed", f"cannot run the engine: {fault}"))

    async def _one_life(self) -> int:
        self._lives += 1
        socket_path = self._directory / f"front-{self._lives}.sock"
        read_end, self._lifeline = os.pipe()
        config = msgspec.json.encode(self.config).decode()
        self._child = Child(
            [
                *(sys.executable, "-m", "trunkline.engine.front"),
                *("--socket", str(socket_path)),
                *("--lifeline", str(read_end)),
                *("--config", config),
            ],
            pass_fds=(read_end,),
        )
        try:
            await self._child.start()
            self.begun.set()
            os.close(read_end)
            await self._connect(socket_path)
            code = await self._child.wait()
            await self.backend.wait_closed()
            return code
        finally:
            await self._end_life()

    async def _connect(self, path: Path) -> None:
        deadline = time.monotonic() + _CONNECT_TIMEOUT
        while self._child is not None and self._child.returncode is None:
            try:
                await self.backend.connect(str(path))
                return
            except OSError:
                await asyncio.sleep(_CONNECT_PERIOD)
            if time.monotonic() > deadline:
                log.error("front of %s accepts no connection", self.config.name)
                self._child.kill()
                return

    def _note(self, status: FrontStatus) -> None:
        self._was_ready = self._was_ready or status.state == "ready"
        if self._on_status is not None:
            self._on_status(status)

    async def _end_life(self) -> None:
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._child is not None and self._child.returncode is None:
            await asyncio.shield(self._child.stop(grace=2.0))


@contextlib.asynccontextmanager
async def start_local(
    config: EngineConfig, on_status: Callable[[FrontStatus], None] | None = None
) -> AsyncIterator[LocalEngine]:
    """Start an engine and keep it alive until the block ends.

    Its front is a process when the block begins; loading goes on meanwhile.

    `on_status` is called on the event loop with every status of the front.
    """
    with tempfile.TemporaryDirectory(prefix="trunkline-", ignore_cleanup_errors=True) as directory:
        engine = LocalEngine(config, Path(directory), on_status)
        keeper = asyncio.create_task(engine.run())
        keeper.add_done_callback(engine.give_up)
        try:
            await engine.begun.wait()
            yield engine
        finally:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
            engine.backend.close()
