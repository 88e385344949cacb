"""Our own engines with a server before them.

    run(
        ServerConfig(),
        [EngineConfig(name="caboose", model="caboose.gguf")],
        on_listening=print,
        on_ready=print,
    )

The engines are started before most of the server is imported: they need longer to be ready.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import uvloop

from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus
from trunkline.gateway.gateway import ServedModel
from trunkline.residency.local import LocalEngine, start_local
from trunkline.server.config import ServerConfig

# Longest that a model may take to load; a very large one from a slow disk takes many minutes.
_LOAD_TIMEOUT = 6 * 3600.0


def run(
    config: ServerConfig,
    engines: Sequence[EngineConfig],
    *,
    on_listening: Callable[[tuple[str, ...]], None],
    on_ready: Callable[[tuple[str, ...]], None],
    on_status: Callable[[FrontStatus], None] | None = None,
    state: Path | None = None,
) -> None:
    """`serve_engines` on an event loop of its own, with logging to stderr. For commands."""
    logging.basicConfig(
        level=config.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    uvloop.run(
        serve_engines(
            config,
            engines,
            on_listening=on_listening,
            on_ready=on_ready,
            on_status=on_status,
            state=state,
        )
    )


async def serve_engines(
    config: ServerConfig,
    engines: Sequence[EngineConfig],
    *,
    on_listening: Callable[[tuple[str, ...]], None],
    on_ready: Callable[[tuple[str, ...]], None],
    on_status: Callable[[FrontStatus], None] | None = None,
    state: Path | None = None,
) -> None:
    """Start our own engines, the first of which is the default model, and serve them.

    Listens at once and answers 503 while models load; `on_ready` gets their names once all can
    answer. Raises `Unavailable` with the reason when one cannot be loaded.
    """
    async with contextlib.AsyncExitStack() as stack:
        running = [
            await stack.enter_async_context(start_local(engine, on_status)) for engine in engines
        ]
        # Beside the engines' processes, which have begun.
        from trunkline.server.app import serve

        models = [
            ServedModel(e.config.name, e.backend, () if i else config.aliases(e.config.name))
            for i, e in enumerate(running)
        ]
        listening = asyncio.Event()

        def listens(urls: tuple[str, ...]) -> None:
            on_listening(urls)
            listening.set()

        serving = asyncio.create_task(serve(config, models, on_listening=listens, state=state))
        loading = asyncio.create_task(_load(running, listening, on_ready))
        try:
            await asyncio.wait((serving, loading), return_when=asyncio.FIRST_COMPLETED)
            if loading.done():
                # Raises what kept a model from loading.
                loading.result()
            await serving
        finally:
            for task in (serving, loading):
                task.cancel()
            await asyncio.gather(serving, loading, return_exceptions=True)


async def _load(
    engines: Sequence[LocalEngine],
    listening: asyncio.Event,
    on_ready: Callable[[tuple[str, ...]], None],
) -> None:
    for engine in engines:
        await engine.backend.wait_ready(_LOAD_TIMEOUT)
    # Small models may be there first.
    await listening.wait()
    on_ready(tuple(engine.config.name for engine in engines))
