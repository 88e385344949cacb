"""Which target a request goes to: who may take it, then whom the strategy likes best."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from msgspec.structs import replace

from trunkline.core.errors import ErrorInfo
from trunkline.gateway.affinity import rendezvous
from trunkline.gateway.ask import Ask
from trunkline.gateway.config import RouteConfig
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.strategies import READING, STRATEGIES, Weighted


class Chooser:
    """Chooses among the endpoints of one route."""

    def __init__(self, config: RouteConfig, endpoints: Sequence[Endpoint], rng: Random) -> None:
        self._config = config
        self._endpoints = tuple(endpoints)
        # Who is chosen where there is no choice.
        self.only = self._endpoints[0] if len(self._endpoints) == 1 else None
        self._strategy = STRATEGIES[config.strategy](rng)
        self._weighted = Weighted(rng)
        self._ordered = len({endpoint.target.order for endpoint in self._endpoints}) > 1
        arms: dict[str, float] = {}
        for endpoint in self._endpoints:
            target = endpoint.target
            arms[target.arm] = arms.get(target.arm, 0.0) + target.weight
        # True: the choice depends on the prompt, not on who asks alone.
        self.reads = self.only is None and config.strategy in READING
        # (arm, its name for hashing, its weight)
        self._arms = [(arm, f"{config.name}/{arm}", weight) for arm, weight in arms.items()]

    def choose(self, ask: Ask, now: float, without: Collection[Endpoint] = ()) -> Endpoint | None:
        """Who is to answer, none of `without`; None: nobody may take it now."""
        only = self.only
        if only is not None:
            return only if only.usable(now) and only not in without else None
        among = [one for one in self._endpoints if one.usable(now) and one not in without]
        cold = False
        if len(among) > 1:
            among, cold = _well(among)
        if len(self._arms) > 1 and len(among) > 1:
            among = self._arm(among, ask, now)
        if self._ordered and len(among) > 1:
            lowest = min(one.target.order for one in among)
            among = [one for one in among if one.target.order == lowest]
        if cold and len(among) > 1:
            among = _warm(among)
        if len(among) > 1:
            return self._strategy(among, ask, now)
        return among[0] if among else None

    def next_order(
        self, ask: Ask, now: float, made: Sequence[Endpoint], barred: Sequence[Endpoint]
    ) -> Endpoint | None:
        """As `choose`, among those whose order none of `made` has."""
        if not self._ordered:
            return None
        asked = {one.target.order for one in made}
        tried = [one for one in self._endpoints if one.target.order in asked]
        return self.choose(ask, now, (*tried, *barred))

    def free_in(self, now: float, without: Collection[Endpoint] = ()) -> float | None:
        """Seconds until a target may be below its limits again; None: waiting is of no use."""
        waits = [one.free_in(now) for one in self._endpoints if one not in without]
        return min((wait for wait in waits if wait is not None), default=None)

    def soonest(self, without: Collection[Endpoint] = ()) -> Endpoint | None:
        """Which target takes more first, by its own word; None: their breakers are open."""
        well = [one for one in self._endpoints if one.breaker.closed and one not in without]
        return min(well, key=lambda one: one.not_before, default=None)

    def told(self, now: float, without: Collection[Endpoint]) -> ErrorInfo | None:
        """Where all have said that they take nothing for longer than anybody waits: how."""
        soonest = self.soonest(without)
        if soonest is None or soonest.told is None:
            return None
        left = soonest.not_before - now
        if left <= self._config.retries.retry_after:
            return None
        return replace(soonest.told, retry_after=left)

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


def _well(among: list[Endpoint]) -> tuple[list[Endpoint], bool]:
    """Those who say that they are ready, or all when nobody does; and whether any must load."""
    ready: list[Endpoint] = []
    cold = False
    for endpoint in among:
        health = endpoint.backend.health()
        if health.state == "ready":
            ready.append(endpoint)
            cold = cold or endpoint.load_seconds(health) > 0
    return ready or among, cold


def _warm(among: list[Endpoint]) -> list[Endpoint]:
    """Without those that would load their model for longer than the others take to be free."""
    # As these include the load, one of `among` is always left.
    soonest = min(endpoint.drain() for endpoint in among)
    return [one for one in among if one.load_seconds(one.backend.health()) <= soonest]
