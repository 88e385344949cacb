"""Which target a request goes to: who may take it, then whom the strategy likes best."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from trunkline.gateway.affinity import rendezvous
from trunkline.gateway.ask import Ask
from trunkline.gateway.config import RouteConfig
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.strategies import STRATEGIES, Weighted


class Chooser:
    """Chooses among the endpoints of one route."""

    def __init__(self, config: RouteConfig, endpoints: Sequence[Endpoint], rng: Random) -> None:
        self._config = config
        self._endpoints = tuple(endpoints)
        self._only = self._endpoints[0] if len(self._endpoints) == 1 else None
        self._strategy = STRATEGIES[config.strategy](rng)
        self._weighted = Weighted(rng)
        arms: dict[str, float] = {}
        for endpoint in self._endpoints:
            target = endpoint.target
            arms[target.arm] = arms.get(target.arm, 0.0) + target.weight
        # (arm, its name for hashing, its weight)
        self._arms = [(arm, f"{config.name}/{arm}", weight) for arm, weight in arms.items()]

    def choose(self, ask: Ask, now: float, without: Collection[Endpoint] = ()) -> Endpoint | None:
        """Who is to answer, none of `without`; None: nobody may take it now."""
        only = self._only
        if only is not None:
            return only if only.usable(now) and only not in without else None
        among = [
            endpoint
            for endpoint in self._endpoints
            if endpoint.usable(now) and endpoint not in without
        ]
        if len(among) > 1:
            among = [endpoint for endpoint in among if endpoint.ready()] or among
        if len(self._arms) > 1 and len(among) > 1:
            among = self._arm(among, ask, now)
        if len(among) > 1:
            lowest = min(endpoint.target.order for endpoint in among)
            among = _warm([one for one in among if one.target.order == lowest])
        if len(among) > 1:
            return self._strategy(among, ask, now)
        return among[0] if among else None

    def free_in(self, now: float, without: Collection[Endpoint] = ()) -> float | None:
        """Seconds until a target may be below its limits again; None: waiting is of no use."""
        waits = [one.free_in(now) for one in self._endpoints if one not in without]
        return min((wait for wait in waits if wait is not None), default=None)

    def closed_in(self, now: float) -> float:
        """Seconds until a breaker lets a request try."""
        return min((one.breaker.wait(now) for one in self._endpoints), default=0.0)

    def _arm(self, among: list[Endpoint], ask: Ask, now: float) -> list[Endpoint]:
        """Those of the asker's arm, or all when that has nobody who can answer."""
        holder = ask.holder() if self._config.sticky else ""
        if holder:
            arm = rendezvous(holder, self._arms)
        else:
            arm = self._weighted(among, ask, now).target.arm
        return [endpoint for endpoint in among if endpoint.target.arm == arm] or among


def _warm(among: list[Endpoint]) -> list[Endpoint]:
    """Without those that would load their model for longer than the others take to be free."""
    loads = [endpoint.backend.health().load_seconds for endpoint in among]
    if not any(loads):
        return among
    # As these include the load, one of `among` is always left.
    soonest = min(endpoint.drain() for endpoint in among)
    return [one for one, load in zip(among, loads, strict=True) if load <= soonest]
