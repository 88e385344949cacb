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
from math import inf
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.core.errors import TrunklineError, Unavailable
from trunkline.core.supervise import Backoff
from trunkline.core.types import Health
from trunkline.residency.launcher import Launcher, LaunchSpec, Running
from trunkline.residency.switch import SwitchBackend
from trunkline.residency.view import MakeBackend, View

log = logging.getLogger("trunkline.residency")

# Seconds between looks at an engine that starts: the first, and the longest.
_FIRST_LOOK = 0.05
_LONGEST_LOOK = 1.0
# Seconds for a connection to a port of this machine.
_CONNECT = 2.0
# Seconds for a further view to find out what the others know.
_CATCH_UP = 10.0
# Seconds that requests may still run when an engine is to stop.
_DRAIN = 10.0
_DRAIN_LOOK = 0.05
# Seconds after which a request may be tried again while an engine starts.
_RETRY_STARTING = 5.0
# Seconds that an engine may not be well until it is started again; see `Patience`.
_UNWELL = 60.0


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

    def __init__(self) -> None:
        # Since when it has failed, and since when it has failed or stalled, without a break.
        self._failed: float | None = None
        self._unwell: float | None = None

    def over(self, health: Health, waits: float, now: float) -> float:
        """Seconds for which it has not been well, where that is too long; else 0.

        `waits`: seconds that a request may wait for its first byte. `now`: any clock's.
        """
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
        return unwell if unwell > max(_UNWELL, waits) else 0.0


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
        self.name = config.name
        self.memory = memory
        # The first one; the last of them is the newest.
        self.view = View(config, make_backend)
        self._views = [self.view]
        self._launch = config.launch or LaunchConfig()
        # As it was asked for; then with the port that it got.
        self._asked = self._spec = spec
        self._launcher = launcher
        self._pace = pace or Pace()
        self._running: Running | None = None
        # The same while it answers.
        self._up: Running | None = None
        self._keeper: asyncio.Task[None] | None = None

    @property
    def backend(self) -> SwitchBackend:
        """Of the newest view."""
        return self._views[-1].backend

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
                self._down(Health("failed", error.message))
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
        self._down(Health("starting", "it was stopped"))
        await self._end()

    # views

    def same(self, other: LaunchedEngine) -> bool:
        """Whether nothing that concerns the process differs: one of them is enough."""
        return (self._asked, self._launch) == (other._asked, other._launch)

    def offers(self) -> tuple[str, str, tuple[str, ...]] | None:
        """Kind and models; None: they are not known beforehand."""
        config = self._views[-1].config
        known = (self._spec.kind, self._launch.model, config.models)
        return known if self._launch.model or config.models else None

    def join(self, config: BackendConfig, make_backend: MakeBackend) -> View:
        """A further view, the newest from `catch_up` on. From here on the others may leave."""
        before, view = self.backend, View(config, make_backend)
        view.backend.restarts = before.restarts
        if before.current is None:
            view.backend.down(before.health())
        elif self._up is None:
            view.backend.lean_on(before)
        self._views.insert(0, view)
        return view

    async def catch_up(self, view: View) -> None:
        """Have its backend answer where others do, once it knows what they do.

        Raises ValueError where nothing can be reached as its configuration says.
        """
        running, before = self._up, self._views[-1]
        if running is not None:
            try:
                connected = view.connect(running)
            except Unavailable as error:
                raise ValueError(f"backend {self.name!r}: {error.message}") from None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CATCH_UP):
                    while self._up is running and before.health().state == "ready":
                        await connected.watcher.look()
                        if connected.backend.health().state == "ready":
                            break
                        await asyncio.sleep(_FIRST_LOOK)
            if self._up is running:
                view.up(running)
        self._views.remove(view)
        self._views.append(view)

    async def part(self, view: View) -> bool:
        """Close a view; False, and nothing happens, where it is the only one."""
        if self._views == [view]:
            return False
        if view in self._views:
            self._views.remove(view)
            view.backend.down(Health("draining", "it is no longer configured"))
            await view.rest()
        return True

    def _down(self, health: Health, retry_after: float = 0.0) -> None:
        self._up = None
        for view in self._views:
            view.backend.down(health, retry_after)

    # one life

    async def _start(self) -> None:
        self._down(Health("starting", "its process starts"), _RETRY_STARTING)
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
        healthy.result()
        self._up = running
        for view in self._views:
            view.up(running)

    async def _until_healthy(self, running: Running) -> None:
        """Look again and again until it is well."""
        url = urlsplit(running.url)
        pause = _FIRST_LOOK
        while not await _listens(url.hostname or "", url.port or 0):
            await asyncio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.2)
        pause = _FIRST_LOOK
        while True:
            connected = self._views[-1].connect(running)
            await connected.watcher.look()
            health = connected.backend.health()
            if health.state == "ready":
                return
            self._down(Health("starting", health.detail))
            await asyncio.sleep(pause)
            pause = min(_LONGEST_LOOK, pause * 1.2)

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
                for view in self._views:
                    view.backend.restarts += 1
                log.error("%s; again in %.1f s", failure, delay)
                self._down(Health("restarting", failure), delay)
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
        running = self._running
        assert running is not None
        ended = asyncio.create_task(running.wait())
        patience = Patience()
        try:
            while not ended.done():
                await asyncio.wait((ended,), timeout=self._views[-1].config.health.interval)
                health = self._health()
                unwell = patience.over(health, self._waits(), time.monotonic())
                if unwell and not ended.done():
                    problem = f"was not well for {unwell:.0f} s: {health.detail}"
                    return (await self._failure(running, problem)).message
            return (await self._failure(running, f"ended {_how(ended.result())}")).message
        finally:
            ended.cancel()
            await asyncio.gather(ended, return_exceptions=True)

    def _health(self) -> Health:
        """Of the engine: it is well where any view hears of it, and at work where any has work."""
        found = [view.health() for view in reversed(self._views) if view.backend.itself is not None]
        order = {"failed": 2, "stalled": 1}
        # None while the only one comes.
        unknown = Health("starting")
        return min(found, key=lambda health: order.get(health.state, 0), default=unknown)

    def _waits(self) -> float:
        """Seconds that a request may wait for its first byte."""
        every = (view.config.timeouts for view in self._views)
        return max(one.first_token or one.attempt or inf for one in every)

    def _kept(self, keeper: asyncio.Task[None]) -> None:
        if not keeper.cancelled() and (fault := keeper.exception()) is not None:
            log.error("cannot keep %s running", self.name, exc_info=fault)
            self._down(Health("failed", f"cannot keep it running: {fault}"))

    async def _drain(self) -> None:
        """Take no more, and wait until nothing runs there, with a bound."""
        there = [one for view in self._views if (one := view.backend.itself) is not None]
        self._down(Health("draining", "it is being stopped"))
        for _ in range(int(_DRAIN / _DRAIN_LOOK)):
            if not any(one.stats().running for one in there):
                return
            await asyncio.sleep(_DRAIN_LOOK)

    async def _end(self) -> None:
        for view in tuple(self._views):
            await view.rest()
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
