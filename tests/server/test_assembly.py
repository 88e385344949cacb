"""From one configuration to the next, over backends that do as told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

from tests.support.fake_backend import FakeBackend
from trunkline.backends.config import BackendConfig
from trunkline.core.types import Health
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.server.assembly import Assembly, Config, Held
from trunkline.server.file.config import FileConfig


class World:
    """A gateway that follows configurations, and the backends that these named."""

    def __init__(self) -> None:
        self.gateway = Gateway((), Keys(()))
        self.assembly = Assembly(self.gateway, self._open)
        self.opened: list[tuple[Config, FakeBackend]] = []

    async def _open(self, config: Config) -> Held:
        backend = FakeBackend()
        self.opened.append((config, backend))

        async def close() -> None:
            """Nothing is there to be closed."""

        return Held(config, backend, close)


@asynccontextmanager
async def world() -> AsyncIterator[World]:
    one = World()
    try:
        yield one
    finally:
        await one.assembly.close()


def backend(name: str, **fields: object) -> BackendConfig:
    return BackendConfig(name=name, kind="vllm", url="http://x", **fields)  # type: ignore[arg-type]


def route(name: str, *targets: Target) -> RouteConfig:
    return RouteConfig(name=name, targets=targets)


async def test_targets_that_did_not_change_keep_what_is_known_of_them() -> None:
    same, other = Target(backend="a", model="m"), Target(backend="b", model="m")
    config = FileConfig(
        backends=(backend("a"), backend("b")), routes=(route("r", same, other), route("s", same))
    )
    async with world() as one:
        await one.assembly.apply(config)
        for shown in one.gateway.find("r"), one.gateway.find("s"):
            for endpoint in shown.backend.endpoints:  # type: ignore[attr-defined]
                endpoint.requests = 7
                endpoint.breaker.closed = False
        changed = msgspec.structs.replace(other, weight=2.0)
        await one.assembly.apply(
            msgspec.structs.replace(
                config,
                backends=(backend("a"), backend("b")),
                routes=(route("r", same, changed), route("t", same)),
            )
        )
        found = {
            (report.name, target.name): (target.requests, target.breaker == "closed")
            for report in one.assembly.report()
            for target in report.targets
        }
        assert found == {
            ("r", "a/m"): (7, False),
            ("r", "b/m"): (0, True),
            ("t", "a/m"): (0, True),
        }


async def test_backends_are_shown_with_and_without_a_route() -> None:
    config = FileConfig(
        backends=(backend("routed"), backend("listed", models=("m",)), backend("open")),
        routes=(route("r", Target(backend="routed", model="m")),),
    )
    async with world() as one:
        await one.assembly.apply(config)
        for _, there in one.opened:
            there.state = Health("starting", "loading weights")
        found = {name: there.health() for name, there in one.gateway.backends().items()}
        assert found == dict.fromkeys(
            ("routed", "listed", "open"), Health("starting", "loading weights")
        )
        await one.assembly.apply(FileConfig(backends=config.backends[1:]))
        assert set(one.gateway.backends()) == {"listed", "open"}
