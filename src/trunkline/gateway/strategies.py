"""How to choose among targets that could all answer, by name.

A strategy is made once for a route and asked for each request. It is given at least two endpoints;
their order is the configuration's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Protocol

from trunkline.gateway import prefix
from trunkline.gateway.affinity import rendezvous
from trunkline.gateway.ask import Ask
from trunkline.gateway.config import Strategy
from trunkline.gateway.endpoint import Endpoint

# Estimates of latency within this factor of the best are as good.
_AS_FAST = 1.1
# Seconds after which an estimate is tried again, where nothing is under way there.
_STALE = 30.0
# Tokens of prompt for one of answer, in what things usually cost.
_INPUT_SHARE = 3.0
# A target with the prompt's prefix is left alone when it has more than this many requests more
# than the least busy one, and so many times as many.
_HOT_MORE = 8
_HOT_TIMES = 1.5
# A shared prefix of less than this part of the prompt decides nothing.
_WORTH = 0.1


class Chooses(Protocol):
    """One strategy at work."""

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        """One of `among`."""


class Weighted:
    """At random, each as often as its weight says."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        total = 0.0
        for endpoint in among:
            total += endpoint.target.weight
        if not total:
            return among[int(self._rng.random() * len(among))]
        point = self._rng.random() * total
        for endpoint in among:
            point -= endpoint.target.weight
            if point < 0:
                return endpoint
        return next(one for one in reversed(among) if one.target.weight)


class RoundRobin:
    """In turn, and by weight: nginx' smooth weighted round robin."""

    def __init__(self, rng: Random) -> None:
        self._credit: dict[Endpoint, float] = {}

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        credit = self._credit
        same = not any(endpoint.target.weight for endpoint in among)
        total = 0.0
        for endpoint in among:
            weight = 1.0 if same else endpoint.target.weight
            total += weight
            credit[endpoint] = credit.get(endpoint, 0.0) + weight
        chosen = max(among, key=credit.__getitem__)
        credit[chosen] -= total
        return chosen


class Least:
    """The least by a measure; at random among those within `slack` times the least."""

    def __init__(
        self, rng: Random, measure: Callable[[Endpoint, float], float], slack: float = 1.0
    ) -> None:
        self._rng = rng
        self._measure = measure
        self._slack = slack

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        measured = [(self._measure(endpoint, now), endpoint) for endpoint in among]
        bound = min(value for value, _ in measured) * self._slack
        best = [endpoint for value, endpoint in measured if value <= bound]
        return best[0] if len(best) == 1 else best[int(self._rng.random() * len(best))]


class PowerOfTwo:
    """Of two at random the one that has done its work sooner (Mitzenmacher 2001)."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        one, other = self._rng.sample(among, 2) if len(among) > 2 else among
        mine, theirs = one.drain(), other.drain()
        if mine == theirs:
            mine, theirs = one.in_flight, other.in_flight
        if mine == theirs:
            return one if self._rng.random() < 0.5 else other
        return one if mine < theirs else other


class PrefixAffinity:
    """Where the longest prefix of the prompt has been, unless that one has much more to do."""

    def __init__(self, rng: Random) -> None:
        self._index = prefix.PrefixIndex()
        self._numbers: dict[Endpoint, int] = {}
        self._idlest = Least(rng, lambda endpoint, now: endpoint.drain())

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        chain = prefix.chain(ask.prompt())
        found = self._index.matches(chain)
        chosen = self._idlest(among, ask, now)
        if len(found) > _WORTH * len(chain):
            best = max(among, key=lambda one: prefix.longest(found, self._number(one)))
            if prefix.longest(found, self._number(best)) and not _hot(best, among):
                chosen = best
        self._index.add(chain, self._number(chosen))
        return chosen

    def _number(self, endpoint: Endpoint) -> int:
        return self._numbers.setdefault(endpoint, len(self._numbers))


def _hot(endpoint: Endpoint, among: Sequence[Endpoint]) -> bool:
    load = endpoint.outstanding()
    least = min(one.outstanding() for one in among)
    return load - least > _HOT_MORE and load > _HOT_TIMES * least


class SessionAffinity:
    """A session stays where it is while that one can answer; without a session, by weight."""

    def __init__(self, rng: Random) -> None:
        self._weighted = Weighted(rng)

    def __call__(self, among: Sequence[Endpoint], ask: Ask, now: float) -> Endpoint:
        holder = ask.holder()
        if not holder:
            return self._weighted(among, ask, now)
        return rendezvous(holder, ((one, one.name, one.target.weight) for one in among))


def _latency(endpoint: Endpoint, now: float) -> float:
    """Expected seconds of a whole answer; what is not known, or is stale, is found out first."""
    at = endpoint.measured_at
    if endpoint.in_flight == 0 and (not at or now - at > _STALE):
        return 0.0
    if not at:
        return float("inf")
    made = endpoint.completion_tokens / max(1, endpoint.successes)
    return endpoint.ttft + endpoint.per_token * made


def _cost(endpoint: Endpoint, now: float) -> float:
    return _INPUT_SHARE * endpoint.target.input_cost + endpoint.target.output_cost


def _usage(endpoint: Endpoint, now: float) -> float:
    """Share of its limits used this minute, or tokens where it has none; with what is under way."""
    target = endpoint.target
    tokens = endpoint.tokens_lately.sum(now) + endpoint.in_flight * endpoint.size
    requests = endpoint.requests_lately.sum(now)
    if not target.tpm and not target.rpm:
        return tokens + requests
    of_tokens = tokens / target.tpm if target.tpm else 0.0
    of_requests = requests / target.rpm if target.rpm else 0.0
    return max(of_tokens, of_requests)


STRATEGIES: Mapping[Strategy, Callable[[Random], Chooses]] = {
    "weighted": Weighted,
    "round_robin": RoundRobin,
    "least_busy": lambda rng: Least(rng, lambda endpoint, now: endpoint.in_flight),
    "lowest_latency": lambda rng: Least(rng, _latency, _AS_FAST),
    "lowest_cost": lambda rng: Least(rng, _cost),
    "lowest_usage": lambda rng: Least(rng, _usage),
    "power_of_two": PowerOfTwo,
    "prefix_affinity": PrefixAffinity,
    "session_affinity": SessionAffinity,
}

# Those that look at the prompt.
READING: frozenset[Strategy] = frozenset(("prefix_affinity",))

# Names that other routers have for them: LiteLLM's, smg's, vLLM production-stack's.
ALIASES: Mapping[str, Strategy] = {
    "simple-shuffle": "weighted",
    "least-busy": "least_busy",
    "latency-based-routing": "lowest_latency",
    "cost-based-routing": "lowest_cost",
    "usage-based-routing": "lowest_usage",
    "usage-based-routing-v2": "lowest_usage",
    "random": "weighted",
    "least_load": "power_of_two",
    "cache_aware": "prefix_affinity",
    "prefix_hash": "prefix_affinity",
    "consistent_hashing": "session_affinity",
    "roundrobin": "round_robin",
    "session": "session_affinity",
    "prefixaware": "prefix_affinity",
    "kvaware": "prefix_affinity",
}
