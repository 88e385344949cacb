"""A name that clients ask for, as a backend: who answers is chosen anew for each request."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from random import Random
from typing import TypeVar

import msgspec
from msgspec.structs import replace

from trunkline.core.errors import (
    EngineCrashed,
    TrunklineError,
    Unavailable,
    Unsupported,
    UpstreamFailed,
    UpstreamTimeout,
)
from trunkline.core.types import (
    Backend,
    BackendStats,
    Call,
    EventSink,
    Health,
    ModelCard,
    OnDemand,
    RawRequest,
    Request,
    Routed,
    Tokenization,
)
from trunkline.gateway.ask import Ask
from trunkline.gateway.attempt import Attempt
from trunkline.gateway.cards import route_card, total
from trunkline.gateway.clock import Clock
from trunkline.gateway.config import Fallbacks, RouteConfig
from trunkline.gateway.endpoint import Endpoint, Past
from trunkline.gateway.route_state import Kept, Peer, RouteState
from trunkline.gateway.shadow import Comparison, ShadowCounters, Shadows
from trunkline.gateway.tries import Tries
from trunkline.gateway.verdict import fallback_names
from trunkline.wire.client import Speaker

# Seconds for which what is known of the models is not asked again.
_CARD = 1.0
# A question that fails like this is put to the next target.
_ASK_NEXT = (Unsupported, Unavailable, UpstreamFailed, UpstreamTimeout, EngineCrashed)

T = TypeVar("T")


class LeftBehind(msgspec.Struct, frozen=True):
    """What a route knew when its configuration ended."""

    state: Kept
    shadows: ShadowCounters | None

    def without_others(self, backends: Mapping[str, Backend]) -> LeftBehind:
        """As of `Kept`."""
        return LeftBehind(self.state.without_others(backends), self.shadows)


class Route:
    """Implements `core.types.Backend` and `route_state.Peer`."""

    def __init__(
        self,
        config: RouteConfig,
        targets: Sequence[Backend],
        peers: Mapping[str, Peer],
        clock: Clock,
        rng: Random,
        speakers: Mapping[str, Speaker],
        compared: Callable[[Comparison], None] | None = None,
        before: LeftBehind | None = None,
    ) -> None:
        """`targets` are the backends of `config.targets`, in order. `peers` may be filled later.

        `speakers`, by operation, read relayed answers that another target continues or that are
        compared; without one for an operation its relayed answers are neither. `before`
        is what the route left that had this name in the configuration before.
        """
        self.config = config
        left = None if before is None else before.state
        self.endpoints = _endpoints(config, targets, () if left is None else left.endpoints)
        self.state = RouteState(config, self.endpoints, peers, clock, rng, speakers, left)
        self.shadows: Shadows | None = None
        if config.shadow is not None:
            counted = None if before is None else before.shadows
            self.shadows = Shadows(config.shadow, peers, clock, rng, speakers, compared, counted)
        self._peers = peers
        self._clock = clock
        self._rng = rng
        self._speakers = speakers
        # For requests that one backend alone can answer, by its name.
        self._alone: dict[str, RouteState] = {}
        # True: nothing but asking one target can happen before it has failed.
        self._plain = not (config.hedge or config.shadow or config.timeout) and not any(
            endpoint.target.tpm for endpoint in self.endpoints
        )
        # True: nobody looks at a prompt before a target has failed.
        self.blind = self._plain and not self.state.chooser.reads
        self._card: ModelCard | None = None
        self._card_until = 0.0

    @property
    def name(self) -> str:
        """As the configuration calls it."""
        return self.config.name

    def submit(self, request: Request, sink: EventSink) -> Call:
        """As of `Backend`."""
        return self._call(Ask(request), sink)

    def relays(self, operation: str) -> bool:
        """Whether a target does, or a route that it falls back to."""
        for one in self.endpoints:
            if one.backend.relays(operation):
                return True
        return self._relays(operation, set())

    def relay(self, raw: RawRequest, sink: EventSink, first: Endpoint | None = None) -> Call:
        """As of `Backend`; where the one who answers cannot relay, core events come instead.

        `first` is who was found by `straight`.
        """
        alone = self._state_of(raw.kept_by) if raw.kept_by else None
        if alone is None:
            return self._call(Ask(raw, raw), sink, first)
        tries = Tries(alone, Ask(raw, raw), sink, [self.config.name])
        tries.start()
        return tries

    def straight(self, raw: RawRequest, now: float) -> Endpoint | None:
        """The target for a call that may go straight to it, as nothing else happens beside.

        It has had its turn by this. Whoever sends the call there, past a breaker that is closed,
        tells the endpoint as `Tries` would, and has `taken_over` begin as soon as anything comes
        but a whole answer; whoever does not gives it to `relay`.
        """
        state = self.state
        if not self._plain or state.waiting.inside:
            return None
        only = state.chooser.only
        if only is not None:
            return only if only.usable(now) else None
        if not self.relays(raw.operation):
            # It will be decoded, and somebody is chosen for it then.
            return None
        return state.chooser.choose(Ask(raw, raw), now)

    def taken_over(
        self, raw: RawRequest, sink: EventSink, endpoint: Endpoint, began: float
    ) -> tuple[Tries, Attempt]:
        """The call and its one try, which has been `straight` so far."""
        tries = Tries(self.state, Ask(raw, raw), sink, [self.config.name])
        return tries, tries.take_over(endpoint, began)

    def begin(self, ask: Ask, sink: EventSink, visited: list[str]) -> Call:
        """As of `Peer`."""
        tries = Tries(self.state, ask, sink, visited)
        tries.start()
        return tries

    async def count_tokens(self, request: Request) -> int:
        """As of `Backend`: by the first target that is well and can."""
        found, _, _ = await self._first(
            lambda one: one.backend.count_tokens(replace(request, model=one.find_model()))
        )
        return found

    async def tokenize(self, request: Request) -> Tokenization:
        """As of `Backend`: by the first target that is well and can."""
        found = await self._first(
            lambda one: one.backend.tokenize(replace(request, model=one.find_model()))
        )
        return _signed(*found)

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """As of `Backend`: by the first target that is well and can."""
        return _signed(*await self._first(lambda one: one.backend.detokenize(token_ids)))

    def models(self) -> tuple[ModelCard, ...]:
        """One card under the route's name."""
        now = self._clock.time()
        if self._card is None or now >= self._card_until:
            self._card = route_card(self.config.name, self.config.aliases, self.endpoints)
            self._card_until = now + _CARD
        return (self._card,)

    def health(self) -> Health:
        """Ready while a target is; else what the targets say."""
        now = self._clock.time()
        found = [(one, one.backend.health()) for one in self.endpoints]
        for one, health in found:
            if health.state == "ready" and one.breaker.allows(now):
                return health
        if not found:
            return Health("failed", "the route has no targets")
        details = "; ".join(
            f"{one.name}: {health.detail or health.state}"
            + ("" if one.breaker.closed else " (failed lately)")
            for one, health in found
        )
        for _, health in found:
            if health.state != "ready":
                return Health(health.state, details)
        return Health("failed", details)

    def stats(self) -> BackendStats:
        """Sums over the backends."""
        return total(list({id(one.backend): one.backend for one in self.endpoints}.values()))

    async def load(self) -> None:
        """As of `OnDemand`: the first target that can be loaded."""
        for one in self._on_demand()[:1]:
            await one.load()

    def keep(self, seconds: float) -> None:
        """As of `OnDemand`, of every target."""
        for one in self._on_demand():
            one.keep(seconds)

    def unload(self) -> None:
        """As of `OnDemand`, of every target."""
        for one in self._on_demand():
            one.unload()

    def leaves_in(self) -> float:
        """As of `OnDemand`: until the last target has gone; those always loaded stay."""
        times = [one.leaves_in() for one in self._on_demand()]
        return max(times) if len(times) == len(self.endpoints) else math.inf

    def _on_demand(self) -> list[OnDemand]:
        backends = (one.backend for one in self.endpoints)
        return [backend for backend in backends if isinstance(backend, OnDemand)]

    def left_behind(self) -> LeftBehind:
        """What the route of this name in the next configuration goes on with."""
        counted = None if self.shadows is None else self.shadows.counters
        return LeftBehind(self.state.kept(), counted)

    def calls(self) -> int:
        """How many are under way, but for those that go `straight`."""
        return self.state.calls + sum(state.calls for state in self._alone.values())

    def reaches(self, backend: Backend) -> bool:
        """Whether calls here may come to `backend`, also by falling back."""
        return any(one.backend is backend for route in self._reached({}) for one in route.endpoints)

    def close(self) -> None:
        """Give up what no client waits for."""
        if self.shadows is not None:
            self.shadows.close()

    def _call(self, ask: Ask, sink: EventSink, first: Endpoint | None = None) -> Call:
        tries = Tries(self.state, ask, sink, [self.config.name])
        tries.start(first)
        if self.shadows is not None and self.shadows.wanted():
            tries.watch = self.shadows.begin(ask)
        return tries

    def _state_of(self, backend: str) -> RouteState | None:
        """For calls that nobody but `backend` can answer."""
        if backend not in self._alone and any(
            one.target.backend == backend for one in self.endpoints
        ):
            endpoints = [one for one in self.endpoints if one.target.backend == backend]
            config = replace(self.config, fallbacks=Fallbacks(), hedge=None, shadow=None)
            state = RouteState(
                config, endpoints, self._peers, self._clock, self._rng, self._speakers
            )
            state.counters = self.state.counters
            self._alone[backend] = state
        return self._alone.get(backend)

    def _reached(self, seen: dict[str, Route]) -> Iterable[Route]:
        seen[self.config.name] = self
        lists = self.config.fallbacks
        for name in (*lists.error, *lists.context_window, *lists.content_policy, *lists.rate_limit):
            peer = self._peers.get(name)
            if isinstance(peer, Route) and peer.name not in seen:
                peer._reached(seen)
        return seen.values()

    def _relays(self, operation: str, seen: set[str]) -> bool:
        seen.add(self.config.name)
        if any(one.backend.relays(operation) for one in self.endpoints):
            return True
        names = fallback_names(self.config.fallbacks, "error")
        peers = (self._peers.get(name) for name in names)
        return any(
            peer._relays(operation, seen)
            for peer in peers
            if isinstance(peer, Route) and peer.name not in seen
        )

    async def _first(self, question: Callable[[Endpoint], Awaitable[T]]) -> tuple[T, Endpoint, int]:
        """An answer, who gave it, and how many could not."""
        well = sorted(self.endpoints, key=lambda one: not one.ready())
        error: TrunklineError = Unavailable(f"The route `{self.config.name}` has no targets.")
        self.state.calls += 1
        try:
            for number, endpoint in enumerate(well):
                try:
                    return await question(endpoint), endpoint, number
                except _ASK_NEXT as caught:
                    error = caught
        finally:
            self.state.calls -= 1
        raise error


def _signed(answer: Tokenization, endpoint: Endpoint, fallbacks: int) -> Tokenization:
    """`answer` with who gave it, after so many others could not."""
    model = endpoint.find_model()
    return replace(answer, routed=Routed("", endpoint.target.backend, model, fallbacks=fallbacks))


def _endpoints(
    config: RouteConfig, targets: Sequence[Backend], before: Sequence[Endpoint | Past]
) -> tuple[Endpoint, ...]:
    """One for each target, the one that was there before where backend and model are the same.

    Equal ones are told apart by a number.
    """
    known = {endpoint.name: endpoint for endpoint in before}
    endpoints: list[Endpoint] = []
    names: dict[str, int] = {}
    for target, backend in zip(config.targets, targets, strict=True):
        name = f"{target.backend}/{target.model}" if target.model else target.backend
        names[name] = names.get(name, 0) + 1
        shown = name if names[name] == 1 else f"{name}#{names[name]}"
        old = known.get(shown)
        if isinstance(old, Endpoint) and old.backend is backend:
            old.follow(config, target)
            endpoints.append(old)
        else:
            endpoints.append(Endpoint(config, target, backend, shown, old))
    return tuple(endpoints)
