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
        tuple[EngineConfig, ...], Meta(description="Models that this server runs itself.")
    ] = ()
    backends: Annotated[
        tuple[BackendConfig, ...], Meta(description="Servers and hosted APIs that can answer.")
    ] = ()
    routes: Annotated[
        tuple[RouteConfig, ...],
        Meta(
            description="Names that clients may ask for, and who answers. A backend or engine that "
            "no route names is offered under its models' own names."
        ),
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
