"""How routes do: for the health page, `trunkline status` and the metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

from trunkline.core.metrics import Family, Kind, Sample
from trunkline.gateway.breaker import BreakerState
from trunkline.gateway.config import Strategy
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.route import Route
from trunkline.gateway.route_state import Counters
from trunkline.gateway.shadow import ShadowCounters


class TargetReport(msgspec.Struct, frozen=True, kw_only=True):
    """One target; counters run from when it was first configured so, times are in seconds."""

    # Distinct within the route.
    name: str
    backend: str
    model: str
    arm: str
    order: int
    # As of `Health`, with the reason where it is not "ready".
    state: str
    detail: str
    # Until its model is loaded, when asked for; 0 = it is, or nobody knows.
    load_seconds: float
    breaker: BreakerState
    # Until the breaker lets a request try, or the target said that it takes more; 0 = now.
    closed_for: float
    # Our requests there; those that the backend says are running and waiting, of anybody.
    in_flight: int
    running: int
    waiting: int
    # Until all that is there would be done.
    drain: float
    # Moving averages; 0 = not known.
    ttft: float
    per_token: float
    duration: float
    requests: int
    successes: int
    cancelled: int
    # By kind of error.
    failures: dict[str, int]
    prompt_tokens: int
    completion_tokens: int
    # Within the last minute.
    requests_lately: int
    tokens_lately: int


class ArmReport(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of an A/B split; means are over complete answers, in seconds."""

    arm: str
    requests: int
    successes: int
    failures: int
    prompt_tokens: int
    completion_tokens: int
    mean_ttft: float
    mean_duration: float


class RouteReport(msgspec.Struct, frozen=True, kw_only=True):
    """One route."""

    name: str
    aliases: tuple[str, ...]
    strategy: Strategy
    # As of `Health`.
    state: str
    detail: str
    # Requests that wait for a target below its limits.
    queued: int
    counters: Counters
    targets: tuple[TargetReport, ...]
    # Empty where nothing is split.
    arms: tuple[ArmReport, ...] = ()
    # Where copies go, and what became of them.
    shadow: str = ""
    shadows: ShadowCounters | None = None


def report(route: Route, now: float) -> RouteReport:
    """As of `now`."""
    health = route.health()
    shadows = route.shadows
    return RouteReport(
        name=route.name,
        aliases=route.config.aliases,
        strategy=route.config.strategy,
        state=health.state,
        detail=health.detail,
        queued=len(route.state.waiting.inside),
        counters=msgspec.structs.replace(route.state.counters),
        targets=tuple(_target(endpoint, now) for endpoint in route.endpoints),
        arms=_arms(route.endpoints),
        shadow="" if shadows is None else shadows.config.route,
        shadows=None if shadows is None else msgspec.structs.replace(shadows.counters),
    )


def _target(endpoint: Endpoint, now: float) -> TargetReport:
    health = endpoint.backend.health()
    stats = endpoint.backend.stats()
    target = endpoint.target
    return TargetReport(
        name=endpoint.name,
        backend=target.backend,
        model=endpoint.find_model(),
        arm=target.arm,
        order=target.order,
        state=health.state,
        detail=health.detail,
        load_seconds=endpoint.load_seconds(health),
        breaker=endpoint.breaker.state(now),
        closed_for=max(0.0, endpoint.breaker.wait(now), endpoint.not_before - now),
        in_flight=endpoint.in_flight,
        running=stats.running,
        waiting=stats.waiting,
        drain=endpoint.drain(),
        ttft=endpoint.ttft,
        per_token=endpoint.per_token,
        duration=endpoint.duration,
        requests=endpoint.requests,
        successes=endpoint.successes,
        cancelled=endpoint.cancelled,
        failures=dict(endpoint.failures),
        prompt_tokens=endpoint.prompt_tokens,
        completion_tokens=endpoint.completion_tokens,
        requests_lately=endpoint.requests_lately.sum(now),
        tokens_lately=endpoint.tokens_lately.sum(now),
    )


def _arms(endpoints: Sequence[Endpoint]) -> tuple[ArmReport, ...]:
    names = dict.fromkeys(endpoint.target.arm for endpoint in endpoints)
    if len(names) < 2:
        return ()
    return tuple(_arm(name, [one for one in endpoints if one.target.arm == name]) for name in names)


def _arm(name: str, members: Sequence[Endpoint]) -> ArmReport:
    successes = sum(one.successes for one in members)
    return ArmReport(
        arm=name,
        requests=sum(one.requests for one in members),
        successes=successes,
        failures=sum(sum(one.failures.values()) for one in members),
        prompt_tokens=sum(one.prompt_tokens for one in members),
        completion_tokens=sum(one.completion_tokens for one in members),
        mean_ttft=sum(one.ttft_seconds for one in members) / max(1, successes),
        mean_duration=sum(one.answer_seconds for one in members) / max(1, successes),
    )


class _Row(msgspec.Struct, frozen=True):
    name: str
    kind: Kind
    help: str
    read: Callable[[TargetReport], float]


_BREAKER: dict[str, float] = {"closed": 0.0, "half_open": 1.0, "open": 2.0}

_TARGET_ROWS = (
    _Row(
        "trunkline_target_ready",
        "gauge",
        "1 = the target says that it can answer.",
        lambda one: float(one.state == "ready"),
    ),
    _Row(
        "trunkline_target_breaker_state",
        "gauge",
        "0 = closed, 1 = half open, 2 = open: nothing is sent.",
        lambda one: _BREAKER[one.breaker],
    ),
    _Row("trunkline_target_in_flight", "gauge", "Requests under way.", lambda one: one.in_flight),
    _Row(
        "trunkline_target_drain_seconds",
        "gauge",
        "Time until all that is there would be done.",
        lambda one: one.drain,
    ),
    _Row(
        "trunkline_target_ttft_seconds",
        "gauge",
        "Time to first token, moving average.",
        lambda one: one.ttft,
    ),
    _Row(
        "trunkline_target_token_seconds",
        "gauge",
        "Time per further token, moving average.",
        lambda one: one.per_token,
    ),
    _Row("trunkline_target_requests_total", "counter", "Tries.", lambda one: one.requests),
    _Row(
        "trunkline_target_successes_total",
        "counter",
        "Tries that gave a complete answer.",
        lambda one: one.successes,
    ),
    _Row(
        "trunkline_target_cancelled_total",
        "counter",
        "Tries given up: the client left, or another one was faster.",
        lambda one: one.cancelled,
    ),
    _Row(
        "trunkline_target_prompt_tokens_total",
        "counter",
        "Prompt tokens of complete answers.",
        lambda one: one.prompt_tokens,
    ),
    _Row(
        "trunkline_target_generation_tokens_total",
        "counter",
        "Output tokens of complete answers.",
        lambda one: one.completion_tokens,
    ),
)


def families(reports: Sequence[RouteReport]) -> Iterable[Family]:
    """Metrics of all routes. Labels hold what the configuration names and kinds of errors only."""
    targets = [
        (
            (
                ("route", one.name),
                ("target", target.name),
                ("backend", target.backend),
                ("arm", target.arm),
            ),
            target,
        )
        for one in reports
        for target in one.targets
    ]
    for row in _TARGET_ROWS:
        samples = tuple(Sample(row.read(target), labels) for labels, target in targets)
        yield Family(row.name, row.kind, row.help, samples)
    yield Family(
        "trunkline_target_failures_total",
        "counter",
        "Tries that failed, by kind of error.",
        tuple(
            Sample(count, (*labels, ("error", kind)))
            for labels, target in targets
            for kind, count in sorted(target.failures.items())
        ),
    )
    yield Family(
        "trunkline_route_queued",
        "gauge",
        "Requests that wait for a target below its limits.",
        tuple(Sample(one.queued, (("route", one.name),)) for one in reports),
    )
    yield Family(
        "trunkline_route_events_total",
        "counter",
        "Retries (of the same target), fallbacks (to another target or route), hedges and those "
        "that won, continued answers, rejected requests.",
        tuple(
            Sample(count, (("route", one.name), ("event", name)))
            for one in reports
            for name, count in msgspec.structs.asdict(one.counters).items()
        ),
    )
    yield Family(
        "trunkline_route_shadow_total",
        "counter",
        "Copies of requests, by what became of them; seconds of both answers of those compared.",
        tuple(
            Sample(count, (("route", one.name), ("shadow", one.shadow), ("result", name)))
            for one in reports
            if one.shadows is not None
            for name, count in msgspec.structs.asdict(one.shadows).items()
        ),
    )
