"""A server that serves what a configuration file names, and follows it when it changes."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Mapping

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.core.errors import TrunklineError
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.residency.local import start_local
from trunkline.server.app import Server, run_until_signal
from trunkline.server.assembly import Assembly, Config, Held
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import Loaded
from trunkline.server.file.watch import changes
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
    client = HttpClient()
    gateway = Gateway((), Keys(server.api_key))
    opener = _Opener(client, environ)
    assembly = Assembly(gateway, opener.open)
    listening = Server(server, gateway, home(environ))
    listening.metrics.registry.source(assembly.families)
    try:
        await assembly.apply(loaded.config)
        on_listening(await listening.start())
        follower = asyncio.create_task(_follow(loaded, reload, assembly))
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
        await client.close()


async def _tell_ready(gateway: Gateway, on_ready: Callable[[tuple[str, ...]], None]) -> None:
    while not gateway.can_serve():  # noqa: ASYNC110 - backends have no event for it
        await asyncio.sleep(_READY_POLL)
    on_ready(tuple(name for name, _ in gateway.listed()))


async def _follow(loaded: Loaded, reload: Callable[[], Loaded], assembly: Assembly) -> None:
    """Apply each new version of the file; one that cannot be is logged and changes nothing."""
    current = loaded
    async with contextlib.aclosing(changes(loaded, reload)) as versions:
        async for fresh in versions:
            if fresh.config.server != current.config.server:
                log.warning("%s: changes to `server` need a restart", fresh.path)
            try:
                await assembly.apply(fresh.config)
            except ValueError as error:
                log.error("%s: the configuration stays as it was: %s", fresh.path, error)
                continue
            current = fresh
            log.info("%s: serving the new configuration", fresh.path)


class _Opener:
    """Starts what a configuration describes."""

    def __init__(self, client: HttpClient, environ: Mapping[str, str]) -> None:
        self._client = client
        self._environ = environ

    async def open(self, config: Config) -> Held:
        """Raises ValueError where it cannot be."""
        if isinstance(config, BackendConfig):
            remote = connect(config, self._client, SPEAKERS, self._environ)
            remote.watcher.start()
            pool = remote.backend.site.pool

            async def close_remote() -> None:
                await remote.watcher.close()
                await self._client.drop(pool)

            return Held(config, remote.backend, close_remote)
        try:
            found = resolve(config.model, "rules" if config.executor == "scripted" else "gguf")
        except TrunklineError as error:
            raise ValueError(f"engine {config.name!r}: {error.message}") from error
        stack = contextlib.AsyncExitStack()
        resolved = msgspec.structs.replace(config, model=str(found.path))
        engine = await stack.enter_async_context(start_local(resolved))
        return Held(config, engine.backend, stack.aclose)
