"""From configurations to a residency that runs: launched engines and built-in models together.

async with open_residency(budget, launchers, environ) as residency:
    tenant = residency.add_engine(EnginePlan(config=config, on_demand=True))
    tenant.backend.submit(request, sink)
    await residency.remove(tenant)
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.auth.secrets import find_key, resolve
from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.backends.kinds import KINDS, find_kind
from trunkline.core.types import Backend
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus
from trunkline.residency.built_in import BuiltInResident
from trunkline.residency.commands import ROWS, Row, command
from trunkline.residency.containers import DockerLauncher
from trunkline.residency.launched import LaunchedEngine
from trunkline.residency.launcher import Launcher, LaunchSpec, SubprocessLauncher
from trunkline.residency.manager import Residency
from trunkline.residency.on_demand import OnDemandBackend
from trunkline.residency.slot import Resident, Slot
from trunkline.residency.view import MakeBackend, View

# Variables that engines need although hosted APIs may use them too: to fetch models.
_NEEDED = frozenset(("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"))
# Keys that are no kind's own.
_KEYS = frozenset(
    ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "LITELLM_MASTER_KEY")
)
# What the name of a variable ends with whose value is not shown.
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD")
_SHORTEST_SECRET = 4
_WEIGHTS = frozenset((".safetensors", ".gguf", ".bin", ".pt", ".pth", ".engine"))
# Of what is loaded beside weights, as a share of them: KV cache and buffers.
_BESIDE = 0.25


R = TypeVar("R", BuiltInResident, LaunchedEngine)


class EnginePlan(msgspec.Struct, frozen=True, kw_only=True):
    """A built-in model and when it is loaded."""

    config: EngineConfig
    on_demand: bool = False
    # Seconds without requests until it is unloaded; negative: never.
    keep_alive: float = 300.0


class Launchers(msgspec.Struct, frozen=True):
    """Who starts what."""

    processes: Launcher
    containers: Launcher


class Tenant(msgspec.Struct, frozen=True):
    """One that has been added: its backend, the same object at all times, and its state."""

    backend: Backend
    slot: Slot
    # Of an engine that is launched, which others may share.
    view: View | None = None


class OpenResidency:
    """Everything that is launched or built in; they come and go one by one."""

    def __init__(
        self,
        residency: Residency,
        launchers: Launchers,
        environ: Mapping[str, str],
        on_status: Callable[[FrontStatus], None] | None,
    ) -> None:
        self._residency = residency
        self._launchers = launchers
        self._environ = environ
        self._on_status = on_status

    def add_engine(self, plan: EnginePlan) -> Tenant:
        """A built-in model. Raises ValueError where it cannot fit into the budget.

        Another one of that name which starts with the server answers until the new one can, if it
        is not removed before.
        """
        resident = BuiltInResident(plan.config, self._on_status)
        before = None if plan.on_demand else self._of_name(resident.name, BuiltInResident)
        made = self._add(resident, on_demand=plan.on_demand, keep_alive=plan.keep_alive)
        if before is not None and before.backend.current is not None:
            resident.backend.lean_on(before.backend)
        return made

    async def add_backend(
        self, config: BackendConfig, launch: LaunchConfig, make_backend: MakeBackend
    ) -> Tenant:
        """The engine that `launch` describes; one that runs as it says already is shared.

        Another one of that name, which starts with the server and has the same models, answers
        until the new one can, if it is not removed before.

        Raises ValueError, naming the backend, where it cannot be started as it is configured or
        cannot fit into the budget.
        """
        resident = launched(config, launch, make_backend, self._launchers, self._environ)
        found = self._find(resident)
        if found is None:
            before = None if launch.on_demand else self._before(resident)
            made = self._add(resident, on_demand=launch.on_demand, keep_alive=launch.keep_alive)
            if before is not None:
                resident.backend.lean_on(before.backend)
            return msgspec.structs.replace(made, view=resident.view)
        slot, engine = found
        view = engine.join(config, make_backend)
        backend: Backend = view.backend
        if launch.on_demand:
            backend = OnDemandBackend(self._residency, slot, backend)
        tenant = Tenant(backend, slot, view)
        try:
            await engine.catch_up(view)
        except BaseException:
            await self.remove(tenant)
            raise
        return tenant

    async def remove(self, tenant: Tenant) -> None:
        """Unload it, where nobody else shares it, and forget it; who waits for it is refused."""
        resident, view = tenant.slot.resident, tenant.view
        if view is not None and isinstance(resident, LaunchedEngine) and await resident.part(view):
            return
        try:
            await self._residency.remove(tenant.slot)
        finally:
            if isinstance(resident, LaunchedEngine | BuiltInResident):
                resident.backend.stand()

    def _find(self, wanted: LaunchedEngine) -> tuple[Slot, LaunchedEngine] | None:
        """One that runs, or is about to, and is what is wanted."""
        for slot in self._residency.slots:
            engine = slot.resident
            there = slot.phase in ("loading", "loaded") and not slot.leaving
            if there and isinstance(engine, LaunchedEngine) and engine.same(wanted):
                return slot, engine
        return None

    def _before(self, wanted: LaunchedEngine) -> LaunchedEngine | None:
        """One whose place is to be taken, and which answers as well."""
        engine = self._of_name(wanted.name, LaunchedEngine)
        if engine is None or engine.offers() is None or engine.offers() != wanted.offers():
            return None
        return engine if engine.backend.current is not None else None

    def _of_name(self, name: str, kind: type[R]) -> R | None:
        """The newest that starts with the server."""
        for slot in reversed(self._residency.slots):
            if slot.pinned and isinstance(slot.resident, kind) and slot.resident.name == name:
                return slot.resident
        return None

    def _add(self, resident: Resident, *, on_demand: bool, keep_alive: float) -> Tenant:
        slot = self._residency.add(resident, keep_alive=keep_alive, pinned=not on_demand)
        if on_demand:
            return Tenant(OnDemandBackend(self._residency, slot), slot)
        return Tenant(slot.backend, slot)


def local_launchers(logs: Path) -> Launchers:
    """Processes and containers of this machine; output goes to files in `logs`."""
    processes = SubprocessLauncher(logs)
    return Launchers(processes, DockerLauncher(processes))


@contextlib.asynccontextmanager
async def open_residency(
    budget: int | None,
    launchers: Launchers,
    environ: Mapping[str, str],
    on_status: Callable[[FrontStatus], None] | None = None,
) -> AsyncIterator[OpenResidency]:
    """One with a budget in bytes (None: no limit); all in it are stopped when the block ends.

    Those that start with it should be added first: the others share the memory that they leave.
    """
    residency = Residency(budget)
    try:
        yield OpenResidency(residency, launchers, environ, on_status)
    finally:
        await residency.close()


def launched(
    config: BackendConfig,
    launch: LaunchConfig,
    make_backend: MakeBackend,
    launchers: Launchers,
    environ: Mapping[str, str],
) -> LaunchedEngine:
    """The engine that `launch` describes. Raises ValueError."""
    try:
        spec = launch_spec(config, launch, environ)
    except ValueError as error:
        raise ValueError(f"backend {config.name!r}: {error}") from None
    launcher = launchers.containers if launch.image else launchers.processes
    memory = launch.memory or weights(launch.model)
    return LaunchedEngine(config, spec, launcher, make_backend, memory=memory)


def launch_spec(
    config: BackendConfig, launch: LaunchConfig, environ: Mapping[str, str]
) -> LaunchSpec:
    """What is to be started. Raises ValueError where the configuration does not tell."""
    kind = find_kind(config.kind)
    row = ROWS.get(kind.name, Row())
    made = command(kind.name, launch)
    own = {name: resolve(value, environ) for name, value in made.env.items()}
    key = find_key(config.api_key, (), environ)
    if key is not None and row.key_variable:
        own.setdefault(row.key_variable, key.reveal())
    env = inherited(kind.key_variables, environ)
    hidden = {value for name, value in {**env, **own}.items() if name.upper().endswith(_SECRET)}
    if key is not None:
        hidden.add(key.reveal())
    return LaunchSpec(
        name=config.name,
        kind=kind.name,
        command=msgspec.structs.replace(made, env=own),
        env=env,
        model=launch.model,
        image=launch.image,
        port=_port(config.url),
        inner_port=kind.port,
        in_image="" if launch.command else row.in_image,
        stop_timeout=launch.stop_timeout,
        secrets=tuple(sorted(value for value in hidden if len(value) >= _SHORTEST_SECRET)),
    )


def inherited(own_keys: Sequence[str], environ: Mapping[str, str]) -> dict[str, str]:
    """Our environment without keys of others: an engine needs no key of a hosted API."""
    keys = {name for kind in KINDS.values() for name in kind.key_variables} | _KEYS
    keys -= {*own_keys, *_NEEDED}
    return {name: value for name, value in environ.items() if name not in keys}


def weights(model: str) -> int:
    """Bytes that an engine will take for a model on our disk; 0 = it is not there."""
    path = Path(model).expanduser()
    if not model or not path.exists():
        return 0
    files = [path] if path.is_file() else [f for f in path.iterdir() if f.suffix in _WEIGHTS]
    return int(sum(file.stat().st_size for file in files) * (1 + _BESIDE))


def _port(url: str) -> int:
    """The port that a configuration wants; 0 = any."""
    return urlsplit(url).port or 0 if "://" in url else 0
