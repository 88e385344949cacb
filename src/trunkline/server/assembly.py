"""From a configuration to backends and routes, and from one configuration to the next.

What is the same in both goes on as it is, with its connections, its health and what it has learnt.
What is gone ends once the answers under way are over.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.core.metrics import Family
from trunkline.core.types import Backend
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.gateway import Gateway, Names, ServedModel
from trunkline.gateway.keys import Keys
from trunkline.gateway.report import RouteReport
from trunkline.gateway.route import Route
from trunkline.gateway.routes import Routes
from trunkline.gateway.wildcard import fill, match, most_specific
from trunkline.server.file.config import EngineEntry, FileConfig
from trunkline.wire.speakers import SPEAKERS

log = logging.getLogger("trunkline.server")

# Seconds that answers under way may go on with a backend that the configuration has no more, at
# least: as long as one try there may take, where that is longer.
_RETIRE = 3600.0
_RETIRE_POLL = 0.5
# Routes made for names that clients made up, at most.
_MADE = 256
# Most characters of such a name.
_LONGEST_NAME = 512
# Seconds for which what backends list is not asked again.
_LISTED = 1.0

Config = BackendConfig | EngineEntry


class Held(msgspec.Struct, frozen=True):
    """A backend that is up, and how to end it."""

    config: Config
    backend: Backend
    close: Callable[[], Awaitable[None]]


class Assembly:
    """Keeps a gateway in line with a configuration. `close` when done."""

    def __init__(self, gateway: Gateway, open_held: Callable[[Config], Awaitable[Held]]) -> None:
        """`open_held` starts what a configuration describes; raises ValueError where it cannot."""
        self._gateway = gateway
        gateway.report = self.report
        gateway.backends = self.backends
        self._open = open_held
        self._held: dict[str, Held] = {}
        self._routes: Routes | None = None
        # Of configurations before, while calls go on there: they may still ask what was there.
        self._left: list[Routes] = []
        self._retiring: set[asyncio.Task[None]] = set()

    async def apply(self, config: FileConfig) -> None:
        """Serve what `config` says. Raises ValueError, and changes nothing, where that cannot be.

        `config.server` is not looked at but for its keys.
        """
        wanted = _wanted(config)
        fresh: dict[str, Held] = {}
        try:
            for name, one in wanted.items():
                held = self._held.get(name)
                if held is None or held.config != one:
                    fresh[name] = await self._open(one)
            held_now = {name: fresh.get(name) or self._held[name] for name in wanted}
            backends = {name: held.backend for name, held in held_now.items()}
            routes = self._serve(config, backends)
        except BaseException:
            for held in fresh.values():
                await held.close()
            raise
        self._left = [one for one in self._left if one.busy()]
        if self._routes is not None:
            self._routes.close()
            self._left.append(self._routes)
        self._routes = routes
        for name, held in self._held.items():
            if held_now.get(name) is not held:
                self._retire(held)
        self._held = held_now

    def _serve(self, config: FileConfig, backends: Mapping[str, Backend]) -> Routes:
        loop = asyncio.get_running_loop()
        plain = [_shown(route, config) for route in config.routes if "*" not in route.name]
        patterns = [route for route in config.routes if "*" in route.name]
        plain += _own_names(config)
        open_backends = config.open_backends()
        more: list[Names] = []

        def elsewhere(name: str) -> Route | None:
            """The route of a pattern or of a listed model, as a fallback or for shadows."""
            models = (names.find(name) for names in more)
            backends = (model.backend for model in models if model is not None)
            return next((one for one in backends if isinstance(one, Route)), None)

        routes = Routes(
            plain,
            backends,
            loop,
            speakers=SPEAKERS,
            before=self._routes,
            elsewhere=elsewhere if patterns or open_backends or config.hidden else None,
        )
        served = routes.served()
        if config.hidden:
            more.append(_Hidden(config, served))
        if patterns:
            more.append(_Patterns(patterns, routes))
        if open_backends:
            offered = {name: backends[name] for name in open_backends}
            more.append(_Listed(offered, routes, loop.time))
        self._gateway.serve(served, Keys(config.client_keys()), more)
        return routes

    def report(self) -> tuple[RouteReport, ...]:
        """How each route and each of its targets does."""
        return self._routes.report() if self._routes is not None else ()

    def families(self) -> Iterable[Family]:
        """Metrics, as a source of `core.metrics.Registry`."""
        return self._routes.families() if self._routes is not None else ()

    def backends(self) -> Mapping[str, Backend]:
        """What is configured now, by name."""
        return {name: held.backend for name, held in self._held.items()}

    def _retire(self, held: Held) -> None:
        task = asyncio.get_running_loop().create_task(_close_when_idle(held, tuple(self._left)))
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def close(self) -> None:
        """End everything."""
        for task in tuple(self._retiring):
            task.cancel()
        await asyncio.gather(*self._retiring, return_exceptions=True)
        if self._routes is not None:
            self._routes.close()
        held, self._held = self._held, {}
        await asyncio.gather(*(one.close() for one in held.values()))


def _wanted(config: FileConfig) -> dict[str, Config]:
    """By name. Those that start with the server first: the others share the memory they leave."""
    everything: tuple[Config, ...] = (*config.engines, *config.backends)
    wanted = {one.name: one for one in sorted(everything, key=_on_demand)}
    for name in wanted:
        if sum(one.name == name for one in everything) > 1:
            raise ValueError(f"two backends are called {name!r}")
    return wanted


def _on_demand(config: Config) -> bool:
    if isinstance(config, EngineEntry):
        return config.on_demand
    return config.launch is not None and config.launch.on_demand


async def _close_when_idle(held: Held, left: Sequence[Routes]) -> None:
    """Close it once it answers nobody, and no call that goes on in `left` may come to it."""
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(retires_in(held.config)):
                while True:
                    stats = held.backend.stats()
                    in_flight = getattr(held.backend, "in_flight", stats.running + stats.waiting)
                    if not in_flight and not any(
                        route.reaches(held.backend) for routes in left for route in routes.busy()
                    ):
                        break
                    await asyncio.sleep(_RETIRE_POLL)
    finally:
        log.info("%s is no longer configured: closed", held.config.name)
        await held.close()


def retires_in(config: Config) -> float:
    """Seconds after which a backend is closed that is not configured any more, come what may."""
    attempt = config.timeouts.attempt if isinstance(config, BackendConfig) else 0.0
    return max(_RETIRE, attempt)


def _shown(route: RouteConfig, config: FileConfig) -> RouteConfig:
    """The route with those of its names that clients are told of."""
    aliases = tuple(alias for alias in route.aliases if alias not in config.hidden)
    return msgspec.structs.replace(route, aliases=aliases)


def _own_names(config: FileConfig) -> list[RouteConfig]:
    """Routes for engines, and for the listed models of backends, that no route names."""
    routed = {target.backend for route in config.routes for target in route.targets}
    taken = {name for route in config.routes for name in (route.name, *route.aliases)}
    made: dict[str, list[Target]] = {}
    for engine in config.engines:
        if engine.name not in routed:
            made.setdefault(engine.name, []).append(Target(backend=engine.name, model=engine.name))
    for backend in config.backends:
        for model in backend.models if backend.name not in routed else ():
            made.setdefault(model, []).append(Target(backend=backend.name, model=model))
    found: list[RouteConfig] = []
    for name, targets in made.items():
        if name not in taken:
            found.append(RouteConfig(name=name, targets=tuple(targets)))
    if found and not config.routes:
        first = found[0]
        found[0] = msgspec.structs.replace(first, aliases=config.server.aliases(first.name))
    return found


class _Hidden:
    """Aliases that are answered and not listed."""

    def __init__(self, config: FileConfig, served: Sequence[ServedModel]) -> None:
        by_name = {model.name: model for model in served}
        self._models = {
            alias: by_name[route.name]
            for route in config.routes
            for alias in route.aliases
            if alias in config.hidden and route.name in by_name
        }

    def find(self, name: str) -> ServedModel | None:
        """The model that has this alias."""
        return self._models.get(name)

    def listed(self) -> Sequence[ServedModel]:
        """None."""
        return ()


class _Made:
    """Routes that are made when somebody asks for them, and kept.

    Those that nobody has asked for longest go first.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._models: dict[str, ServedModel] = {}

    def _known(self, name: str) -> ServedModel | None:
        """The one of that name; it goes last."""
        model = self._models.pop(name, None)
        if model is not None:
            self._models[name] = model
        return model

    def _serves(self, name: str) -> bool:
        """Whether a name may be one of a model: it comes from whoever asks, and goes to others."""
        return 0 < len(name) <= _LONGEST_NAME and name.isprintable()

    def _make(self, config: RouteConfig, label: str = "", most: int = _MADE) -> ServedModel:
        """`most`: how many of them may be kept."""
        route = self._routes.further(config)
        model = self._models[config.name] = ServedModel(config.name, route, label=label)
        if len(self._models) > most:
            oldest = next(iter(self._models))
            del self._models[oldest]
            self._routes.drop(oldest)
        return model


class _Patterns(_Made):
    """Routes whose names have `*`. They are not listed: nobody knows what they stand for."""

    def __init__(self, configs: Sequence[RouteConfig], routes: Routes) -> None:
        super().__init__(routes)
        by_name = {config.name: config for config in configs}
        self._configs = [by_name[name] for name in most_specific(list(by_name))]

    def find(self, name: str) -> ServedModel | None:
        """The route that fits best, made for this very name."""
        known = self._known(name)
        if known is not None or not self._serves(name):
            return known
        for config in self._configs:
            found = match(config.name, name)
            if found is not None:
                targets = tuple(
                    msgspec.structs.replace(target, model=fill(target.model, found, name))
                    for target in config.targets
                )
                made = msgspec.structs.replace(config, name=name, aliases=(), targets=targets)
                return self._make(made, label=config.name)
        return None

    def listed(self) -> Sequence[ServedModel]:
        """None."""
        return ()


class _Listed(_Made):
    """The models of backends that offer all that they have. The first that lists a name has it."""

    def __init__(
        self, backends: Mapping[str, Backend], routes: Routes, time: Callable[[], float]
    ) -> None:
        super().__init__(routes)
        self._backends = backends
        self._time = time
        # Name of the backend by that of the model, and when to ask again.
        self._holders: dict[str, str] = {}
        self._until = -math.inf

    def find(self, name: str) -> ServedModel | None:
        """The model, if a backend lists it now; also as `backend/model`."""
        unknown = name not in self._holders and name not in self._models
        if unknown or self._time() >= self._until:
            self._look()
        holder, model, label = self._holders.get(name), name, ""
        if holder is None:
            prefix, _, model = name.partition("/")
            there = prefix in self._backends and bool(model) and self._serves(name)
            holder = prefix if there else None
            # Whoever asks may name anything there.
            label = "" if self._holders.get(model) == prefix else f"{prefix}/*"
        if holder is None:
            return None
        known = self._known(name)
        if known is not None:
            return known
        made = RouteConfig(name=name, targets=(Target(backend=holder, model=model),))
        return self._make(made, label, _MADE + len(self._holders))

    def listed(self) -> Sequence[ServedModel]:
        """All that are listed now."""
        self._look()
        return [found for name in self._holders if (found := self.find(name)) is not None]

    def _look(self) -> None:
        self._until = self._time() + _LISTED
        holders: dict[str, str] = {}
        for backend_name, backend in self._backends.items():
            for card in backend.models():
                holders.setdefault(card.name, backend_name)
        for name in [one for one in self._models if one in holders]:
            if self._holders.get(name) != holders[name]:
                # Another backend has it now, or it went by its prefix before.
                del self._models[name]
                self._routes.drop(name)
        self._holders = holders
