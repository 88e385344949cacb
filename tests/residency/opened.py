"""A residency with all that is to be in it, by name."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from trunkline.backends.config import BackendConfig
from trunkline.core.errors import Unavailable
from trunkline.core.types import Backend
from trunkline.residency import compose
from trunkline.residency.compose import EnginePlan, Launchers, Tenant
from trunkline.residency.on_demand import OnDemandBackend
from trunkline.residency.slot import Slot
from trunkline.residency.view import MakeBackend


class Opened:
    """What has been added."""

    def __init__(self, tenants: Mapping[str, Tenant]) -> None:
        self._tenants = tenants

    def backend(self, name: str) -> Backend:
        return self._tenants[name].backend

    def on_demand(self, name: str) -> OnDemandBackend:
        found = self.backend(name)
        assert isinstance(found, OnDemandBackend)
        return found

    def slots(self) -> dict[str, Slot]:
        return {name: tenant.slot for name, tenant in self._tenants.items()}

    @property
    def memory_in_use(self) -> int:
        return sum(slot.memory for slot in self.slots().values() if slot.holds)

    async def started(self) -> None:
        """Wait until the pinned ones are loaded; the first failure is raised."""
        while waiting := [s for s in self.slots().values() if s.pinned and s.phase != "loaded"]:
            for slot in waiting:
                if slot.failure is not None:
                    raise Unavailable(slot.failure.message)
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def open_residency(
    backends: Sequence[BackendConfig],
    engines: Sequence[EnginePlan],
    budget: int | None,
    make_backend: MakeBackend,
    launchers: Launchers,
    environ: Mapping[str, str],
) -> AsyncIterator[Opened]:
    """Those that start with it first."""
    async with compose.open_residency(budget, launchers, environ) as residency:
        tenants = {}
        for engine in sorted(engines, key=lambda one: one.on_demand):
            tenants[engine.config.name] = residency.add_engine(engine)
        for config in backends:
            assert config.launch is not None
            launch = config.launch
            tenants[config.name] = await residency.add_backend(config, launch, make_backend)
        yield Opened(tenants)
