"""What a configuration file says, once it has been read."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from trunkline.backends.config import BackendConfig
from trunkline.engine.config import EngineConfig
from trunkline.gateway.config import RouteConfig
from trunkline.server.config import ServerConfig
from trunkline.server.file.problems import Note


class EngineEntry(EngineConfig, frozen=True, kw_only=True):
    """A built-in engine, and when its model is loaded."""

    on_demand: Annotated[
        bool, Meta(description="Load the model at the first request instead of with the server.")
    ] = False
    keep_alive: Annotated[
        float,
        Meta(
            description="Seconds without requests until a model on demand is unloaded; "
            "negative = never."
        ),
    ] = 300.0

    def engine(self) -> EngineConfig:
        """What the engine itself needs to know."""
        return EngineConfig(
            **{name: getattr(self, name) for name in EngineConfig.__struct_fields__}
        )


class ResidencyConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What may be loaded at once."""

    memory: Annotated[
        int,
        Meta(
            ge=0,
            extra={"unit": "bytes"},
            description="Memory that engines and launched backends share: what nobody uses goes "
            "for what is asked for; 0 = no limit.",
        ),
    ] = 0


class FileConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that one server serves, and how."""

    server: Annotated[
        ServerConfig, Meta(description="Where to listen, and within what limits.")
    ] = ServerConfig()
    keys: Annotated[
        tuple[str, ...],
        Meta(description="Keys that clients must send, as server.api_key; best env:NAME."),
    ] = ()
    engines: Annotated[
        tuple[EngineEntry, ...], Meta(description="Models that this server runs itself.")
    ] = ()
    backends: Annotated[
        tuple[BackendConfig, ...], Meta(description="Servers and hosted APIs that can answer.")
    ] = ()
    residency: Annotated[
        ResidencyConfig, Meta(description="What of engines and backends may be loaded at once.")
    ] = ResidencyConfig()
    routes: Annotated[
        tuple[RouteConfig, ...],
        Meta(
            description="Names that clients may ask for, and who answers. A backend or engine that "
            "no route names is offered under its models' own names."
        ),
    ] = ()

    hidden: Annotated[
        tuple[str, ...],
        Meta(description="Aliases of routes that are answered as the others, but not listed."),
    ] = ()

    def client_keys(self) -> tuple[str, ...]:
        """Every key that clients may send."""
        return tuple(dict.fromkeys((*self.keys, *self.server.api_key)))

    def open_backends(self) -> tuple[str, ...]:
        """Backends whose models nobody listed and no route names: they offer all that they have."""
        routed = {target.backend for route in self.routes for target in route.targets}
        return tuple(
            backend.name
            for backend in self.backends
            if not backend.models and backend.name not in routed
        )


class Loaded(msgspec.Struct, frozen=True, kw_only=True):
    """A file that has been read."""

    path: str
    format: Literal["trunkline", "litellm"]
    config: FileConfig
    # What the file asks for and is not done, or in another way.
    notes: tuple[Note, ...] = ()
    # Every file that was read, the first one included; for whoever watches them.
    files: tuple[str, ...] = ()
