"""Built-in models as residents: a front and a core process that come and go."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from trunkline.core.errors import InvalidRequest, TrunklineError, refuse
from trunkline.core.types import Health, ModelCard, Request
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors.memory import (
    available_memory,
    ggml_cost,
    native_cost,
    plan_layout,
)
from trunkline.engine.frames import FrontStatus
from trunkline.formats.gguf import MalformedGguf
from trunkline.formats.gguf_facts import read_facts
from trunkline.residency.local import LocalEngine, start_local
from trunkline.residency.switch import SwitchBackend

# Seconds that a model may take to load.
_LOAD_TIMEOUT = 900.0
# Of an engine whose executor holds no model: two Python processes.
_PROCESSES = 150 * 1024**2


class BuiltInResident:
    """Implements `slot.Resident` and `slot.Choosy` over `local.LocalEngine`."""

    def __init__(
        self, config: EngineConfig, on_status: Callable[[FrontStatus], None] | None = None
    ) -> None:
        self.name = config.name
        self.memory = estimate(config)
        self.backend = SwitchBackend(f"model {config.name!r}", (_card(config),))
        self._config = config
        self._on_status = on_status
        self._engine: LocalEngine | None = None
        self._life = contextlib.AsyncExitStack()

    async def load(self) -> None:
        """Start front and core, and wait until they answer. Raises `Unavailable`."""
        self.backend.down(Health("starting", "the engine is starting"))
        try:
            engine = await self._life.enter_async_context(
                start_local(self._config, self._on_status)
            )
            self._engine = engine
            await engine.backend.wait_ready(_LOAD_TIMEOUT)
        except BaseException as error:
            await self.unload()
            if isinstance(error, TrunklineError):
                self.backend.down(Health("failed", error.message))
            raise
        self.backend.up(engine.backend)

    async def unload(self) -> None:
        """End front and core."""
        if self._engine is not None:
            self.backend.restarts += self._engine.backend.stats().restarts
            self._engine = None
        self.backend.down(Health("starting", "it is not loaded"))
        await self._life.aclose()

    def refuse(self, request: Request) -> None:
        """As of `Choosy`: what its front would refuse whatever the model."""
        refuse(request.beyond)


def estimate(config: EngineConfig) -> int:
    """Bytes that an engine will take, as its executor plans it; 0 where that cannot be told."""
    if config.executor == "scripted" or not config.model.endswith(".gguf"):
        return _PROCESSES
    try:
        facts = read_facts(Path(config.model))
        cost = (ggml_cost if config.executor == "ggml" else native_cost)(facts, config)
        return plan_layout(facts, config, available_memory(), cost).need + _PROCESSES
    except (OSError, MalformedGguf, InvalidRequest):
        # Loading it says what is wrong.
        return 0


def _card(config: EngineConfig) -> ModelCard:
    return ModelCard(config.name, context_length=config.ctx_size, source=config.model)
