"""An engine that we started: waits until it is well, starts it again when it dies, stops it.

engine = LaunchedEngine(config, spec, launcher, make_backend)
await engine.load()      # until it answers; raises `Unavailable` with its last words
engine.backend.submit(request, sink)
await engine.unload()
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Protocol
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.config import BackendConfig, LaunchConfig, Timeouts
from trunkline.backends.kinds import find_kind
from trunkline.core.errors import TrunklineError, Unavailable
from trunkline.core.supervise import Backoff
from trunkline.core.types import Backend, Health, ModelCard
from trunkline.residency.launcher import Launcher, LaunchSpec, Running
from trunkline.residency.switch import SwitchBackend

log = logging.getLogger("trunkline.residency")

# Seconds between looks at an engine that starts: the first, and the longest.
_FIRST_LOOK = 0.05
_LONGEST_LOOK = 1.0
# Seconds for a connection to a port of this machine.
_CONNECT = 2.0
# Seconds that requests may still run when an engine is to stop.
_DRAIN = 10.0
_DRAIN_LOOK = 0.05
# Seconds after which a request may be tried again while an engine starts.
_RETRY_STARTING = 5.0
# Seconds that an engine may not be well until it is started again; see `Patience`.
_UNWELL = 60.0


class Watching(Protocol):
    """What keeps a backend's health up to date, as `backends.watch.Watcher` does."""

    def start(self) -> None:
        """Look now and then."""

    async def look(self) -> None:
        """Look once: `backend.health()` is right afterwards."""

    async def close(self) -> None:
        """Look no more."""


class Connected(Protocol):
    """A server behind a URL, as `backends.connect.Remote` is."""

    @property
    def backend(self) -> Backend:
        """It."""

    @property
    def watcher(self) -> Watching:
        """Who watches it."""


# Makes the backend of a server at a URL. Raises ValueError.
MakeBackend = Callable[[BackendConfig, str], Connected]


class Pace(msgspec.Struct, frozen=True):
    """How an engine that dies is started again: pauses in seconds."""

    first: float = 0.5
    longest: float = 60.0
    # A life this long counts as a good one.
    good_life: float = 60.0

    def backoff(self) -> Backoff:
        """As a supervisor needs it."""
        return Backoff(first=self.first, limit=self.longest, healthy_after=self.good_life)


class Patience:
    """Decides when an engine whose process runs is started again because it is not well.

    One with nothing to do: after `_UNWELL`. One at work of which nothing at all is heard, neither a
    check nor a byte of an answer, may be computing, and some do nothing else meanwhile: it has as
    long as a request may wait for its first byte, where that is more. Then nobody waits any more
    for what it computes.
    """

    def __init__(self, timeouts: Timeouts) -> None:
        first = timeouts.first_token or timeouts.attempt or inf
        self._at_work = max(_UNWELL, first)
        # Since when it has failed, and since when it has failed or stalled, without a break.
        self._failed: float | None = None
        self._unwell: float | None = None

    def over(self, health: Health, now: float) -> float:
        """Seconds for which it has not been well, where that is too long; else 0."""
        if health.state != "failed":
            self._failed = None
            if health.state != "stalled":
                self._unwell = None
                return 0.0
        elif self._failed is None:
            self._failed = now
        if self._unwell is None:
            self._unwell = now
        if self._failed is not None and now - self._failed > _UNWELL:
            return now - self._failed
        unwell = now - self._unwell
        return unwell if unwell > self._at_work else 0.0


class LaunchedEngine:
    """Implements `manager.Resident`: the engine that `config.launch` describes."""

    def __init__(
        self,
        config: BackendConfig,
        spec: LaunchSpec,
        launcher: Launcher,
        make_backend: MakeBackend,
        *,
        memory: int = 0,
        pace: Pace | None = None,
    ) -> None:
        kind = find_kind(config.kind)
        self.name = config.name
        self.memory = memory
        self.backend = SwitchBackend(
            f"backend {config.name!r}", _cards(config), frozenset(kind.paths)
        )
        self._config = config
        self._launch = config.launch or LaunchConfig()
        self._spec = spec
        self._launcher = launcher
        self._make_backend = make_backend
        self._pace = pace or Pace()
        self._running: Running | None = None
        self._connected: tuple[str, Connected] | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        """Of the engine; 0 while there is none."""
        return self._running.pid if self._running else 0

    async def load(self) -> None:
        """Start it and wait until it answers. Raises `Unavailable` with the reason."""
        begun = time.monotonic()
        try:
            await self._start()
        except BaseException as error:
            await self._end()
            if isinstance(error, TrunklineError):
                self.backend.down(Health("failed", error.message))
            raise
        self._keeper = asyncio.create_task(self._keep(begun))
        self._keeper.add_done_callback(self._kept)

    async def unload(self) -> None:
        """Let requests under way end, for a while, and stop it."""
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
            self._keeper = None
        await self._drain()
        self.backend.down(Health("starting", "it was stopped"))
        await self._end()

    # one life

    async def _start(self) -> None:
        self.backend.down(Health("starting", "its process starts"), _RETRY_STARTING)
        running = self._running = await self._launcher.start(self._spec)
        self._spec = msgspec.structs.replace(self._spec, port=_port(running.url))
        log.info("%s was started (process %d), see its log", self.name, running.pid)
        ended = asyncio.create_task(running.wait())
        healthy = asyncio.create_task(self._until_healthy(running))
        try:
            async with asyncio.timeout(self._launch.start_timeout):
                await asyncio.wait((ended, healthy), return_when=asyncio.FIRST_COMPLETED)
        except TimeoutError:
            problem = f"was not healthy within {self._launch.start_timeout:g} s"
            raise await self._failure(running, problem) from None
        finally:
            for task in (ended, healthy):
                task.cancel()
            await asyncio.gather(ended, healthy, return_exceptions=True)
        # Another server might have its port: what has ended is not healthy.
        if running.status is not None:
            raise await self._failure(running, f"ended at its start {_how(running.status)}")
        connected = healthy.result()
        self.backend.up(connected.backend)
        connected.watcher.start()

    async def _until_healthy(self, running: Running) -> Connected:
        """Look again and again until it is well."""
        url = urlsplit(running.url)
        pause = _FIRST_LOOK
        while not await _listens(url.hostname or "", url.port or 0):
            await asyncio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.2)
        connected = self._connect(running)
        pause = _FIRST_LOOK
        while True:
            await connected.watcher.look()
            health = connected.backend.health()
            if health.state == "ready":
                return connected
            self.backend.down(Health("starting", health.detail))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.2)

    def _connect(self, running: Running) -> Connected:
        """The backend behind the URL; the same one for all lives at one port."""
        if self._connected is None or self._connected[0] != running.url:
            config = self._config
            if running.metrics_port:
                provider = {**config.provider, "metrics_port": str(running.metrics_port)}
                config = msgspec.structs.replace(config, provider=provider)
            try:
                self._connected = running.url, self._make_backend(config, running.url)
            except ValueError as error:
                raise Unavailable(str(error)) from None
        return self._connected[1]

    async def _failure(self, running: Running, problem: str) -> Unavailable:
        """What went wrong, with the engine's last words."""
        tail = await running.tail()
        words = f"; its last words: {tail}" if tail else ""
        return Unavailable(f"{self.name} {problem}{words}")

    # all lives

    async def _keep(self, begun: float) -> None:
        """Wait for its end and start it again, until cancelled."""
        backoff = self._pace.backoff()
        while True:
            failure = await self._until_end()
            while failure:
                delay = backoff.after(time.monotonic() - begun)
                self.backend.restarts += 1
                log.error("%s; again in %.1f s", failure, delay)
                self.backend.down(Health("restarting", failure), delay)
                await self._end()
                await asyncio.sleep(delay)
                begun = time.monotonic()
                failure = await self._again()

    async def _again(self) -> str:
        """Start it; why that did not work, or ""."""
        try:
            await self._start()
        except TrunklineError as error:
            return error.message
        return ""

    async def _until_end(self) -> str:
        """Wait until it ends, or says for long that it is not well. Returns what happened."""
        running, connected = self._running, self._connected
        assert running is not None
        assert connected is not None
        ended = asyncio.create_task(running.wait())
        patience = Patience(self._config.timeouts)
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=self._config.health.interval)
                health = connected[1].backend.health()
                unwell = patience.over(health, time.monotonic())
                if unwell and not ended.done():
                    problem = f"was not well for {unwell:.0f} s: {health.detail}"
                    return (await self._failure(running, problem)).message
            return (await self._failure(running, f"ended {_how(ended.result())}")).message
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (fault := keeper.exception()) is not None:
            log.error("cannot keep %s running", self.name, exc_info=fault)
            self.backend.down(Health("failed", f"cannot keep it running: {fault}"))

    async def _drain(self) -> None:
        """Take no more, and wait until nothing runs there, with a bound."""
        current = self.backend.current
        self.backend.down(Health("draining", "it is being stopped"))
        for _ in range(int(_DRAIN / _DRAIN_LOOK)):
            if current is None or not current.stats().running:
                return
            await asyncio.sleep(_DRAIN_LOOK)

    async def _end(self) -> None:
        if self._connected is not None:
            await self._connected[1].watcher.close()
        running, self._running = self._running, None
        if running is not None and running.status is None:
            await asyncio.shield(running.stop())


async def _listens(host: str, port: int) -> bool:
    """Whether a connection to the port is taken."""
    try:
        async with asyncio.timeout(_CONNECT):
            _, writer = await asyncio.open_connection(host, port)
    except (OSError, TimeoutError):
        return False
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return True


def _port(url: str) -> int:
    return urlsplit(url).port or 0


def _how(status: int) -> str:
    return f"by signal {-status}" if status < 0 else f"with status {status}"


def _cards(config: BackendConfig) -> tuple[ModelCard, ...]:
    """The models that are expected there."""
    named = (config.launch.model,) if config.launch and config.launch.model else ()
    return tuple(
        ModelCard(name, context_length=0, owned_by=config.kind) for name in config.models or named
    )
