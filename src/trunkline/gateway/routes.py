"""All routes of a configuration."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from random import Random
from weakref import WeakSet

from trunkline.core.metrics import Family
from trunkline.core.types import Backend
from trunkline.gateway.clock import Clock
from trunkline.gateway.config import RouteConfig
from trunkline.gateway.gateway import ServedModel
from trunkline.gateway.report import RouteReport, families, report
from trunkline.gateway.route import LeftBehind, Route
from trunkline.gateway.shadow import Comparison
from trunkline.wire.client import Speaker

# Routes of earlier configurations that are remembered, so that they can go on when they come back:
# those for names that clients made up come back only when somebody asks for them again.
_LEFT = 2048


# Finds routes whose names are not all known beforehand.
Elsewhere = Callable[[str], Route | None]


class _Peers(Mapping[str, Route]):
    """Routes that are known by name, and besides those that somebody else finds."""

    def __init__(self, known: Mapping[str, Route], elsewhere: Elsewhere | None) -> None:
        self._known = known
        self._elsewhere = elsewhere

    def __getitem__(self, name: str) -> Route:
        found = self._known.get(name)
        if found is None and self._elsewhere is not None:
            found = self._elsewhere(name)
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._known)

    def __len__(self) -> int:
        return len(self._known)


class Routes:
    """Routes by name; they fall back to each other and copy requests to each other."""

    def __init__(
        self,
        configs: Sequence[RouteConfig],
        backends: Mapping[str, Backend],
        clock: Clock,
        *,
        speakers: Mapping[str, Speaker] | None = None,
        compared: Callable[[Comparison], None] | None = None,
        rng: Random | None = None,
        before: Routes | None = None,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """`clock` is the event loop. `compared` is told of each copy's answer beside the client's.
        `before` are the routes that these replace, also those for names that clients made up:
        targets that did not change stay what they are, with their breakers, averages and counters.
        `elsewhere` finds routes that fallbacks and shadows may name besides: with it only the call
        that needs one learns that there is none.

        Raises `ValueError` where a name is not that of a backend or route, or two routes have one.
        """
        self._clock = clock
        self._backends = backends
        known: dict[str, Route] = {}
        self._peers = _Peers(known, elsewhere)
        self._speakers = speakers or {}
        self._compared = compared
        self._rng = rng or Random()
        # Besides these, by name.
        self._further: dict[str, Route] = {}
        # Those that were besides: as long as calls that go `straight` know them, and with others.
        self._dropped: WeakSet[Route] = WeakSet()
        self._going: list[Route] = []
        # By name of the route; those that are not made anew yet.
        self._before = {} if before is None else before._left_behind(backends)
        # First of all: what is made goes on with what was there before, and changes it.
        _check(configs, backends, others=elsewhere is not None)
        for config in configs:
            route = self._make(config)
            known.update(dict.fromkeys((config.name, *config.aliases), route))
        self.routes = tuple(dict.fromkeys(known.values()))

    def further(self, config: RouteConfig) -> Route:
        """A route besides these, which may fall back to them. Raises as the constructor."""
        route = self._further[config.name] = self._make(config)
        return route

    def drop(self, name: str) -> None:
        """Forget a further route; requests under way go on. Harmless where there is none."""
        route = self._further.pop(name, None)
        if route is not None:
            route.close()
            self._dropped.add(route)
            self._going = [one for one in self._going if one.calls()]
            if route.calls():
                self._going.append(route)

    def _make(self, config: RouteConfig) -> Route:
        targets = [_backend(config, target.backend, self._backends) for target in config.targets]
        return Route(
            config,
            targets,
            self._peers,
            self._clock,
            self._rng,
            self._speakers,
            self._compared,
            self._before.pop(config.name, None),
        )

    def _left_behind(self, backends: Mapping[str, Backend]) -> dict[str, LeftBehind]:
        """What each route leaves of which a backend is still there, by its name."""
        all_routes = {route.name: route for route in (*self._further.values(), *self.routes)}
        found = {
            **self._before,
            **{name: route.left_behind() for name, route in all_routes.items()},
        }
        there = [
            (name, left)
            for name, left in found.items()
            if any(one.target.backend in backends for one in left.state.endpoints)
        ]
        return {name: left.without_others(backends) for name, left in there[-_LEFT:]}

    def served(self) -> tuple[ServedModel, ...]:
        """What the gateway offers to clients."""
        return tuple(ServedModel(one.name, one, one.config.aliases) for one in self.routes)

    def report(self) -> tuple[RouteReport, ...]:
        """How each route and each of its targets does now."""
        now = self._clock.time()
        return tuple(report(route, now) for route in self.routes)

    def families(self) -> Iterable[Family]:
        """Metrics, as a source of `core.metrics.Registry`."""
        return families(self.report())

    def busy(self) -> list[Route]:
        """Those with calls under way, but for calls that go `straight`."""
        every = (*self.routes, *self._further.values(), *self._dropped)
        return [route for route in every if route.calls()]

    def close(self) -> None:
        """Give up what no client waits for; requests under way go on."""
        for route in (*self.routes, *self._further.values()):
            route.close()


def _backend(config: RouteConfig, name: str, backends: Mapping[str, Backend]) -> Backend:
    backend = backends.get(name)
    if backend is None:
        there = ", ".join(sorted(backends)) or "none"
        raise ValueError(
            f"the route {config.name!r} names a backend {name!r} that is not configured; "
            f"there are: {there}"
        )
    return backend


def _check(
    configs: Sequence[RouteConfig], backends: Mapping[str, Backend], *, others: bool
) -> None:
    """Raise ValueError where names do not fit; `others`: there may be routes besides."""
    names: set[str] = set()
    for config in configs:
        for name in (config.name, *config.aliases):
            if name in names:
                raise ValueError(f"two routes are called {name!r}")
            names.add(name)
        for target in config.targets:
            _backend(config, target.backend, backends)
    for config in () if others else configs:
        _check_names(config, names)


def _check_names(config: RouteConfig, routes: Collection[str]) -> None:
    lists = config.fallbacks
    named = [*lists.error, *lists.context_window, *lists.content_policy, *lists.rate_limit]
    if config.shadow is not None:
        named.append(config.shadow.route)
    for name in named:
        if name not in routes:
            raise ValueError(
                f"the route {config.name!r} names a route {name!r} that is not configured"
            )
