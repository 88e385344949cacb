"""Engines of our own and the server before them, started side by side."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from trunkline.engine.config import EngineConfig
from trunkline.server import app, engines
from trunkline.server.config import ServerConfig


@pytest.mark.parametrize("first", ["engine", "listener"])
async def test_it_says_that_it_listens_before_it_says_that_it_is_ready(
    first: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = asyncio.Event()
    ready = asyncio.Event()
    told: list[tuple[str, ...]] = []

    async def wait_ready(_timeout: float) -> None:
        if first == "listener":
            await asyncio.sleep(0.02)
        loaded.set()

    @contextlib.asynccontextmanager
    async def start_local(config: EngineConfig, _on_status: object) -> AsyncIterator[Any]:
        yield SimpleNamespace(config=config, backend=SimpleNamespace(wait_ready=wait_ready))

    async def serve(
        _config: ServerConfig,
        _models: object,
        *,
        on_listening: Callable[[tuple[str, ...]], None],
        state: object,
    ) -> None:
        if first == "engine":
            await loaded.wait()
            await asyncio.sleep(0.02)
        on_listening(("http://here",))
        await asyncio.Event().wait()

    def on_ready(names: tuple[str, ...]) -> None:
        told.append(names)
        ready.set()

    monkeypatch.setattr(engines, "start_local", start_local)
    monkeypatch.setattr(app, "serve", serve)
    serving = asyncio.create_task(
        engines.serve_engines(
            ServerConfig(),
            (EngineConfig(name="tiny", model="tiny.gguf"),),
            on_listening=told.append,
            on_ready=on_ready,
        )
    )
    async with asyncio.timeout(30):
        await ready.wait()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    assert told == [("http://here",), ("tiny",)]
