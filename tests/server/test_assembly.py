"""From one configuration to the next, over backends that do as told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import msgspec
import pytest
from msgspec.structs import replace

from tests.gateway.fakes import Sink, raw, request
from tests.support.fake_backend import FakeBackend
from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.core.errors import ModelNotFound, UpstreamFailed
from trunkline.core.types import Completed, Failed, Health, ModelCard, Usage
from trunkline.gateway.config import Fallbacks, Retries, RouteConfig, Target
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.gateway.route import Route
from trunkline.server import assembly
from trunkline.server.assembly import Assembly, Config, Held, retires_in
from trunkline.server.file.config import EngineEntry, FileConfig


class World:
    """A gateway that follows configurations, and the backends that these named."""

    def __init__(self) -> None:
        self.gateway = Gateway((), Keys(()))
        self.assembly = Assembly(self.gateway, self._open)
        self.opened: list[tuple[Config, FakeBackend]] = []
        self.closed: list[str] = []

    async def _open(self, config: Config) -> Held:
        backend = FakeBackend()
        self.opened.append((config, backend))

        async def close() -> None:
            self.closed.append(config.name)

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


async def test_targets_keep_what_is_known_of_them() -> None:
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
        # What is said of it is another thing; a change of its backend is another target.
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
            ("r", "b/m"): (7, False),
            ("t", "a/m"): (0, True),
        }


def route_of(one: World, name: str) -> Route:
    found = one.gateway.find(name).backend
    assert isinstance(found, Route)
    return found


async def test_routes_for_names_that_clients_made_up_keep_what_is_known_of_them() -> None:
    pattern = route("up/*", Target(backend="a", model="*"))
    config = FileConfig(
        backends=(backend("a"), backend("b")),
        routes=(pattern, route("r", Target(backend="b", model="m"))),
    )
    async with world() as one:
        await one.assembly.apply(config)
        before = route_of(one, "up/x")
        (endpoint,) = before.endpoints
        endpoint.requests = 7
        endpoint.breaker.closed = False
        before.state.counters.retries = 3
        # Nobody asks for it between two reloads.
        for routes in ((pattern,), (pattern, route("s", Target(backend="b", model="m")))):
            await one.assembly.apply(msgspec.structs.replace(config, routes=routes))
        after = route_of(one, "up/x")
        assert after is not before
        assert after.endpoints == (endpoint,)
        assert after.state.counters.retries == 3
        # Another target of the same name has nothing to do with it.
        await one.assembly.apply(
            msgspec.structs.replace(config, routes=(route("up/*", Target(backend="b", model="*")),))
        )
        (fresh,) = route_of(one, "up/x").endpoints
        assert fresh.requests == 0


async def test_routes_for_listed_models_keep_what_is_known_of_them() -> None:
    config = FileConfig(backends=(backend("a"), backend("b")))
    async with world() as one:
        await one.assembly.apply(config)
        known = {}
        # The fake lists one model; any other is asked for by the name of the backend.
        for name in ("fake", "b/other"):
            (endpoint,) = known[name] = route_of(one, name).endpoints
            endpoint.requests = 7
        await one.assembly.apply(msgspec.structs.replace(config, keys=("k",)))
        for name, endpoints in known.items():
            assert route_of(one, name).endpoints == endpoints


async def test_names_that_clients_make_up_are_bounded() -> None:
    config = FileConfig(backends=(backend("a"),))
    async with world() as one:
        await one.assembly.apply(config)
        used = route_of(one, "a/used")
        for number in range(1000):
            made = one.gateway.find(f"a/{number}")
            # There is no metric for each.
            assert made.metric_name() == "a/*"
            assert route_of(one, "a/used") is used
        gone = route_of(one, "a/0")
        gone.endpoints[0].requests = 7
        for number in range(1000):
            one.gateway.find(f"a/{number}")
        assert one.gateway.find("fake").metric_name() == "fake"
        # Those that went long ago are forgotten.
        assert route_of(one, "a/0").endpoints[0].requests == 0


@pytest.mark.parametrize(
    "name", ["up/x\r\nset-cookie: a=b", "up/\x00", "up/\u2028", "a/x\ny", "up/" + "x" * 600, "a/"]
)
async def test_names_that_nobody_has(name: str) -> None:
    config = FileConfig(
        backends=(backend("a"), backend("b")),
        routes=(route("up/*", Target(backend="b", model="*")),),
    )
    async with world() as one:
        await one.assembly.apply(config)
        assert one.gateway.find("up/é x").name == "up/é x"
        with pytest.raises(ModelNotFound):
            one.gateway.find(name)


async def test_a_name_with_several_stars_asks_for_the_model_that_it_means() -> None:
    config = FileConfig(
        backends=(backend("a"),),
        routes=(
            route("my-*-x-*", Target(backend="a", model="a-*-b-*")),
            route("whole-*-*", Target(backend="a", model="org/*")),
        ),
    )
    async with world() as one:
        await one.assembly.apply(config)
        for name, model in (("my-1-x-2", "a-1-b-2"), ("whole-1-2", "whole-1-2")):
            assert route_of(one, name).config.targets[0].model == model


async def test_a_hidden_alias_answers_and_is_not_listed() -> None:
    chat = RouteConfig(name="chat", aliases=("seen", "hid"), targets=(Target(backend="a"),))
    falls = RouteConfig(
        name="falls", targets=(Target(backend="a"),), fallbacks=Fallbacks(error=("hid",))
    )
    config = FileConfig(backends=(backend("a"),), routes=(chat, falls), hidden=("hid",))
    async with world() as one:
        await one.assembly.apply(config)
        assert [name for name, _ in one.gateway.listed()] == ["chat", "seen", "falls"]
        assert one.gateway.find("hid") is one.gateway.find("seen")
        assert one.gateway.find("hid").name == "chat"
        await one.assembly.apply(replace(config, hidden=()))
        assert [name for name, _ in one.gateway.listed()] == ["chat", "seen", "hid", "falls"]


async def test_a_model_follows_the_backend_that_lists_it() -> None:
    config = FileConfig(backends=(backend("a"), backend("b")))
    async with world() as one:
        await one.assembly.apply(config)
        first, second = (there for _, there in one.opened)
        first.cards = second.cards = (ModelCard("m", 0),)
        one.gateway.listed()
        assert route_of(one, "m").config.targets[0].backend == "a"
        first.cards = ()
        assert [name for name, _ in one.gateway.listed()] == ["m"]
        assert route_of(one, "m").config.targets[0].backend == "b"


def test_what_is_not_configured_any_more_may_end_its_answers() -> None:
    # As long as a try may take; where that has no bound there is still one.
    for attempt, seconds in ((0.0, 3600.0), (5.0, 3600.0), (9000.0, 9000.0)):
        assert retires_in(backend("a", timeouts=Timeouts(attempt=attempt))) == seconds
    assert retires_in(EngineEntry(name="e", model="m")) == 3600.0
    assert retires_in(backend("a")) >= Timeouts().attempt


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


@pytest.mark.parametrize(
    ("fallback", "routed"), [("up/x", True), ("fake", False), ("nobody", False)]
)
async def test_fallbacks_may_name_what_is_known_only_when_it_is_asked_for(
    fallback: str, routed: bool
) -> None:
    # A name of a pattern; a model that an open backend lists; one that nobody has.
    first = RouteConfig(
        name="r",
        targets=(Target(backend="a", model="m"),),
        retries=Retries(attempts=0),
        fallbacks=Fallbacks(error=(fallback,)),
    )
    routes = (first, route("up/*", Target(backend="b", model="*"))) if routed else (first,)
    config = FileConfig(backends=(backend("a"), backend("b")), routes=routes)
    async with world() as one:
        await one.assembly.apply(config)
        down, other = (there for _, there in one.opened)
        down.mode, other.mode = "fail", "manual"
        heard = Sink()
        route_of(one, "r").submit(request(), heard)
        async with asyncio.timeout(30):
            while not (other.calls or heard.events):  # noqa: ASYNC110 - backends have no event for it
                await asyncio.sleep(0)
        if fallback == "nobody":
            assert not other.calls
            assert isinstance(heard.events[-1], Failed)
        else:
            (call,) = other.calls
            assert call.request.model == ("x" if routed else "fake")


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110 - backends have no event for it
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("waits_for", ["its turn", "another try"])
@pytest.mark.parametrize("alone", [False, True])
async def test_who_waits_finds_what_was_there(
    monkeypatch: pytest.MonkeyPatch, waits_for: str, alone: bool
) -> None:
    monkeypatch.setattr(assembly, "_RETIRE_POLL", 0.01)
    there = Target(backend="a", model="m", max_parallel=1)
    config = FileConfig(
        backends=(backend("a"), backend("b")),
        routes=(RouteConfig(name="r", targets=(there,), retries=Retries(attempts=1, base=0.2)),),
    )
    async with world() as one:
        await one.assembly.apply(config)
        calls = one.opened[0][1].calls
        one.opened[0][1].mode = "manual"
        found, heard = route_of(one, "r"), Sink()
        asked = replace(raw(), kept_by="a" if alone else "")
        if waits_for == "its turn":
            found.relay(asked, Sink())
        found.relay(asked, heard)
        await until(lambda: bool(calls))
        if waits_for == "another try":
            calls[0].fail(UpstreamFailed("gone"))
        # Twice, as it may wait since the configuration before the last one.
        for routes in ((), (route("r", Target(backend="b", model="m")),)):
            await one.assembly.apply(FileConfig(backends=config.backends[1:], routes=routes))
            await asyncio.sleep(0.05)
        assert not one.closed
        if waits_for == "its turn":
            calls[0].completed(Usage(1, 1))
        await until(lambda: len(calls) == 2)
        calls[1].completed(Usage(1, 1))
        assert isinstance(heard.events[-1], Completed)
        await until(lambda: one.closed == ["a"])
