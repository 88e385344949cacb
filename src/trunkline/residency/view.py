"""One configuration's way to a launched engine: over connections of its own, with its own settings.

There may be several of one engine, while one configuration follows another.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.backends.kinds import find_kind
from trunkline.core.errors import Unavailable
from trunkline.core.types import Backend, Health, ModelCard
from trunkline.residency.launcher import Running
from trunkline.residency.switch import SwitchBackend


class Watching(Protocol):
    """What keeps a backend's health up to date, as `backends.watch.Watcher` does."""

    def start(self) -> None:
        """Look now and then."""

    async def look(self) -> None:
        """Look once: `backend.health()` is right afterwards."""

    async def close(self) -> None:
        """Look no more."""


class Connected(Protocol):
    """A server behind a URL, as `backends.connect.Remote` is."""

    @property
    def backend(self) -> Backend:
        """It."""

    @property
    def watcher(self) -> Watching:
        """Who watches it."""


# Makes the backend of a server at a URL. Raises ValueError.
MakeBackend = Callable[[BackendConfig, str], Connected]


class View:
    """What a configuration sees of an engine, through all of its lives."""

    def __init__(self, config: BackendConfig, make_backend: MakeBackend) -> None:
        kind = find_kind(config.kind)
        self.config = config
        self.backend = SwitchBackend(
            f"backend {config.name!r}", _cards(config), frozenset(kind.paths)
        )
        self._make_backend = make_backend
        self._connected: tuple[str, Connected] | None = None

    def connect(self, running: Running) -> Connected:
        """The backend behind its URL; the same one for all lives at one port.

        Raises `Unavailable` where there is none.
        """
        if self._connected is None or self._connected[0] != running.url:
            config = self.config
            if running.metrics_port:
                provider = {**config.provider, "metrics_port": str(running.metrics_port)}
                config = msgspec.structs.replace(config, provider=provider)
            try:
                self._connected = running.url, self._make_backend(config, running.url)
            except ValueError as error:
                raise Unavailable(str(error)) from None
        return self._connected[1]

    def up(self, running: Running) -> None:
        """It answers. Raises as `connect`."""
        connected = self.connect(running)
        self.backend.up(connected.backend)
        connected.watcher.start()

    def health(self) -> Health:
        """As its checks find it; it must have been connected."""
        assert self._connected is not None
        return self._connected[1].backend.health()

    async def rest(self) -> None:
        """Look no more, until it is `up` again."""
        if self._connected is not None:
            await self._connected[1].watcher.close()


def _cards(config: BackendConfig) -> tuple[ModelCard, ...]:
    """The models that are expected there."""
    named = (config.launch.model,) if config.launch and config.launch.model else ()
    return tuple(
        ModelCard(name, context_length=0, owned_by=config.kind) for name in config.models or named
    )
