"""A server that serves what a configuration file names, and follows it when it changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from typing import Literal

import msgspec

from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.backends.connect import Remote, connect
from trunkline.backends.http.client import HttpClient
from trunkline.core.errors import TrunklineError
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.residency.compose import (
    EnginePlan,
    OpenResidency,
    local_launchers,
    open_residency,
)
from trunkline.server.app import Server, run_until_signal
from trunkline.server.assembly import Assembly, Config, Held
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import EngineEntry, FileConfig, Loaded
from trunkline.server.file.watch import InForce, changes, hangups
from trunkline.store.home import home
from trunkline.store.resolve import resolve
from trunkline.wire.speakers import SPEAKERS

log = logging.getLogger("trunkline.server")

# Seconds between two looks at whether a first model can answer.
_READY_POLL = 0.05


async def serve_file(
    loaded: Loaded,
    server: ServerConfig,
    *,
    on_listening: Callable[[tuple[str, ...]], None],
    on_ready: Callable[[tuple[str, ...]], None],
    reload: Callable[[], Loaded],
) -> None:
    """Serve until a signal, or until cancelled.

    Listens at once. `on_listening` gets the URLs, `on_ready` the models' names once any of them can
    answer. `reload` reads the file again. Raises ValueError where what the file names cannot be.
    """
    environ = dict(os.environ)
    gateway = Gateway((), Keys(server.api_key))
    budget = loaded.config.residency.memory or None
    launchers = local_launchers(home(environ) / "logs")
    # First of all: SIGHUP and changes may come while what the file names is being started.
    with hangups() as asked:
        in_force = InForce(loaded)
        versions = changes(in_force, reload, asked)
        async with (
            _http_client() as client,
            open_residency(budget, launchers, environ) as residency,
        ):
            assembly = Assembly(gateway, _Opener(client, residency, environ).open)
            listening = Server(server, gateway, home(environ))
            listening.metrics.registry.source(assembly.families)
            try:
                await assembly.apply(loaded.config)
                on_listening(await listening.start())
                follower = asyncio.create_task(_follow(in_force, versions, assembly))
                waiting = asyncio.create_task(_tell_ready(gateway, on_ready))
                try:
                    await run_until_signal(listening)
                finally:
                    for task in (follower, waiting):
                        task.cancel()
                    await asyncio.gather(follower, waiting, return_exceptions=True)
            finally:
                await listening.stop()
                await assembly.close()


@contextlib.asynccontextmanager
async def _http_client() -> AsyncIterator[HttpClient]:
    client = HttpClient()
    try:
        yield client
    finally:
        await client.close()


async def _tell_ready(gateway: Gateway, on_ready: Callable[[tuple[str, ...]], None]) -> None:
    while not gateway.can_serve():  # noqa: ASYNC110 - backends have no event for it
        await asyncio.sleep(_READY_POLL)
    on_ready(tuple(name for name, _ in gateway.listed()))


async def _follow(
    in_force: InForce, versions: AsyncGenerator[Loaded, None], assembly: Assembly
) -> None:
    """Apply each new version of the file; one that cannot be is logged and changes nothing."""
    async with contextlib.aclosing(versions):
        async for fresh in versions:
            if _serves(in_force.loaded.config) and not _serves(fresh.config):
                log.error(
                    "%s: the configuration stays as it was: this one serves nothing", fresh.path
                )
                continue
            for section in _fixed(in_force.loaded.config, fresh.config):
                log.warning("%s: changes to `%s` need a restart", fresh.path, section)
            try:
                await assembly.apply(fresh.config)
            except ValueError as error:
                log.error(
                    "%s: the configuration stays as it was: %s; SIGHUP tries it again",
                    fresh.path,
                    error,
                )
                continue
            except Exception:  # a fault of ours must not end that the next version is served
                log.exception("%s: the configuration stays as it was", fresh.path)
                continue
            in_force.loaded = fresh
            log.info("%s: serving the new configuration", fresh.path)


def _serves(config: FileConfig) -> bool:
    return bool(config.routes or config.engines or config.backends)


def _fixed(old: FileConfig, new: FileConfig) -> list[str]:
    """Sections that differ in what holds for the life of the process; keys do not."""
    servers = [msgspec.structs.replace(one.server, api_key=()) for one in (old, new)]
    found = ["server"] if servers[0] != servers[1] else []
    return found + (["residency"] if old.residency != new.residency else [])


class _Opener:
    """Starts what a configuration describes."""

    def __init__(
        self, client: HttpClient, residency: OpenResidency, environ: Mapping[str, str]
    ) -> None:
        self._client = client
        self._residency = residency
        self._environ = environ

    async def open(self, config: Config) -> Held:
        """Raises ValueError where it cannot be."""
        if isinstance(config, EngineEntry):
            return await self._engine(config)
        if config.launch is not None:
            return await self._launched(config, config.launch)
        return self._remote(config)

    def _remote(self, config: BackendConfig) -> Held:
        remote = connect(config, self._client, SPEAKERS, self._environ)
        remote.watcher.start()

        async def close() -> None:
            await remote.close(self._client)

        return Held(config, remote.backend, close)

    async def _launched(self, config: BackendConfig, launch: LaunchConfig) -> Held:
        remotes: list[Remote] = []

        def make_backend(config: BackendConfig, url: str) -> Remote:
            there = msgspec.structs.replace(config, url=url)
            remotes.append(connect(there, self._client, SPEAKERS, self._environ))
            return remotes[-1]

        async def disconnect() -> None:
            for remote in remotes:
                await remote.close(self._client)

        try:
            tenant = await self._residency.add_backend(config, launch, make_backend)
        except BaseException:
            await disconnect()
            raise

        async def close() -> None:
            await self._residency.remove(tenant)
            await disconnect()

        return Held(config, tenant.backend, close)

    async def _engine(self, entry: EngineEntry) -> Held:
        kind: Literal["rules", "gguf"] = "rules" if entry.executor == "scripted" else "gguf"
        try:
            # A folder may have to be converted first, which takes minutes.
            found = await asyncio.to_thread(
                resolve,
                entry.model,
                kind,
                quantize=entry.quantize,
                on_progress=_progress(entry.name),
            )
        except TrunklineError as error:
            raise ValueError(f"engine {entry.name!r}: {error.message}") from error
        config = msgspec.structs.replace(entry.engine(), model=str(found.path))
        tenant = self._residency.add_engine(
            EnginePlan(config=config, on_demand=entry.on_demand, keep_alive=entry.keep_alive)
        )

        async def close() -> None:
            await self._residency.remove(tenant)

        return Held(entry, tenant.backend, close)


def _progress(name: str) -> Callable[[float], None]:
    """Logs how far the conversion of a model is, from 0 to 1, ten times in all."""
    told = 0

    def progress(share: float) -> None:
        nonlocal told
        tenths = int(share * 10)
        if tenths > told:
            told = tenths
            log.info("engine %s: %d %% of its model are converted", name, 10 * tenths)

    return progress
