"""What the calls of one route share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from random import Random
from typing import Protocol

import msgspec

from trunkline.core.errors import ErrorInfo, QueueFull, TrunklineError, Unavailable, UpstreamTimeout
from trunkline.core.types import Backend, Call, Event, EventSink
from trunkline.gateway.ask import Ask
from trunkline.gateway.choose import Chooser
from trunkline.gateway.clock import Clock
from trunkline.gateway.config import RouteConfig
from trunkline.gateway.continuation import Partial, continuable
from trunkline.gateway.endpoint import Endpoint, Past
from trunkline.gateway.waiting import WaitingRoom
from trunkline.wire.client import Speaker

# The shortest wait that clients are told, in seconds.
_SHORTEST_WAIT = 1.0


class Peer(Protocol):
    """Another route, as a fallback or for shadows."""

    @property
    def name(self) -> str:
        """As the configuration calls it."""

    def relays(self, operation: str) -> bool:
        """As of `core.types.Backend`."""

    def begin(self, ask: Ask, sink: EventSink, visited: list[str]) -> Call:
        """Answer; routes in `visited` are not asked, those that are asked are added to it."""


class Watch(Protocol):
    """Sees what a client is given."""

    def on_events(self, events: Sequence[Event]) -> None:
        """As of `EventSink`."""

    def cancelled(self) -> None:
        """The client wants no more of it."""


class Counters(msgspec.Struct):
    """What happened to the requests of a route, besides what its endpoints count."""

    # Further tries of the same target; tries of another one or of another route, because one had
    # failed; second targets asked because the first was slow, and those of them that won; answers
    # continued by another target; requests that found no place in the queue, or no target in time.
    retries: int = 0
    fallbacks: int = 0
    hedges: int = 0
    hedges_won: int = 0
    continued: int = 0
    rejected: int = 0


class Kept(msgspec.Struct, frozen=True):
    """What a route leaves to the one that has its name in the next configuration."""

    config: RouteConfig
    endpoints: tuple[Endpoint | Past, ...]
    # What its strategy has learnt is in there; None where targets are others now.
    chooser: Chooser | None
    counters: Counters

    def without_others(self, backends: Mapping[str, Backend]) -> Kept:
        """Without backends that are no more: who asks by a name made up may come much later."""
        if all(backends.get(one.target.backend) is one.backend for one in self.endpoints):
            return self
        left = tuple(
            one if backends.get(one.target.backend) is one.backend else one.past()
            for one in self.endpoints
        )
        return Kept(self.config, left, None, self.counters)


class RouteState:
    """The parts of one route that its calls work with."""

    def __init__(
        self,
        config: RouteConfig,
        endpoints: Sequence[Endpoint],
        peers: Mapping[str, Peer],
        clock: Clock,
        rng: Random,
        speakers: Mapping[str, Speaker],
        before: Kept | None = None,
    ) -> None:
        self.config = config
        self.endpoints = tuple(endpoints)
        # Fallbacks by name; filled before the first request, by whoever owns the routes.
        self.peers = peers
        self.clock = clock
        self.rng = rng
        self.counters = Counters() if before is None else before.counters
        same = before is not None and (before.config, before.endpoints) == (config, self.endpoints)
        chooser = before.chooser if before is not None and same else None
        self.chooser = chooser or Chooser(config, endpoints, rng)
        self.waiting = WaitingRoom(clock, config.queue, config.queue_timeout, self._free)
        # Under way, but for those that go straight to a target (`Route.straight`).
        self.calls = 0
        self._speakers = speakers
        # Whether an answer may be continued at all: by another target, or by another route.
        others = len(self.endpoints) > 1 or bool(config.fallbacks.error)
        self.continues = config.continue_streams and others

    def kept(self) -> Kept:
        """For the next configuration; calls under way go on counting in it."""
        return Kept(self.config, self.endpoints, self.chooser, self.counters)

    def partial(self, ask: Ask, relayed: bool) -> Partial | None:
        """Keeps an answer that may be continued; None: it cannot be, whatever happens."""
        if not relayed:
            try:
                request = ask.request()
            except TrunklineError:
                # Passed on as it came, and answered without a byte that could be relayed.
                return None
            return Partial(ask, None) if continuable(request) else None
        raw = ask.raw
        assert raw is not None
        speaker = self._speakers.get(raw.operation) if raw.stream else None
        return None if speaker is None else Partial(ask, speaker)

    def pause(
        self,
        made: Sequence[Endpoint],
        barred: Sequence[Endpoint],
        retry_after: float | None,
        now: float,
    ) -> float | None:
        """Seconds before those that were asked, but for `barred`, are again; None: too many.

        Exponential with jitter over the upper half, and what the target itself said, or another
        that is free sooner.
        """
        retries = self.config.retries
        if all(one in barred for one in self.endpoints):
            return None
        soonest = self.chooser.soonest(barred)
        if retry_after is not None and soonest is not None and soonest is not made[-1]:
            retry_after = min(retry_after, max(0.0, soonest.not_before - now))
        if retry_after is not None and retry_after > retries.retry_after:
            return None
        grown = min(retries.longest, retries.base * 2.0 ** min(len(made) - 1, 30))
        jittered = grown * (0.5 + 0.5 * self.rng.random())
        # A little later than asked for, as timers may be a little early.
        return 1.01 * max(jittered, retry_after or 0.0)

    def full(self, wait: float) -> ErrorInfo:
        """There is no place in the queue, or no target for so many seconds."""
        return QueueFull(
            f"All backends of `{self.config.name}` are at their limits, and its queue is full or "
            "too slow; try again later.",
            retry_after=max(_SHORTEST_WAIT, wait),
        ).info()

    def too_late(self) -> ErrorInfo:
        """The time for the whole call is over."""
        return UpstreamTimeout(
            f"There was no complete answer within {self.config.timeout:g} seconds, the time that "
            f"`{self.config.name}` has."
        ).info()

    def all_failed(self, now: float) -> ErrorInfo:
        """No breaker lets a request through."""
        return Unavailable(
            f"No backend of `{self.config.name}` can be asked now: all failed lately.",
            retry_after=max(_SHORTEST_WAIT, self.chooser.closed_in(now)),
        ).info()

    def _free(self) -> bool:
        now = self.clock.time()
        if any(endpoint.usable(now) for endpoint in self.endpoints):
            return True
        return self.chooser.free_in(now) is None
