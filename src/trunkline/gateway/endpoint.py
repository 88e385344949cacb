"""One target of a route while it is in use: what is under way there, how it does, its limits."""

from __future__ import annotations

import msgspec

from trunkline.core.errors import ErrorInfo
from trunkline.core.types import Backend, Health, Holder, Usage
from trunkline.gateway.breaker import CircuitBreaker
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.tally import Tally
from trunkline.gateway.verdict import verdict
from trunkline.gateway.window import Window

_MINUTE = 60.0
# Errors of other servers: when these say how long to stay away, we do, but no longer than this.
_TOLD = ("rate_limited", "upstream_failed")
_LONGEST_TOLD = 3600.0
# Seconds that a load of a model elsewhere is taken to last until one was seen; and the least.
_LOAD = 10.0
_SHORTEST_LOAD = 0.1
# Bytes of prompt that are taken for a token until the exact number is known.
_BYTES_PER_TOKEN = 4


class Past(msgspec.Struct, frozen=True, eq=False):
    """What is left of an endpoint whose backend is another one by now."""

    name: str
    target: Target
    requests_lately: Window
    tokens_lately: Window
    backend: None = None

    def past(self) -> Past:
        """The same."""
        return self


class Endpoint(Tally):
    """A model of a backend with its counters.

    Every `begin` is followed by exactly one of `completed`, `failed` and `given_up`: `in_flight` is
    the number of those that are not. Times are the clock's seconds.
    """

    def __init__(
        self,
        config: RouteConfig,
        target: Target,
        backend: Backend,
        name: str,
        before: Endpoint | Past | None = None,
    ) -> None:
        """`before` was the same model of a backend of that name: its requests count for limits."""
        super().__init__()
        self.backend = backend
        # As the backend calls it; "" = `find_model` has to be asked.
        self.model = target.model
        # Distinct within the route and stable across restarts, for rendezvous hashing.
        self.name = name
        self.breaker = CircuitBreaker(config.breaker)
        # By the error's kind.
        self.failures: dict[str, int] = {}
        # It said that it takes nothing before this, and how.
        self.not_before = 0.0
        self.told: ErrorInfo | None = None
        self.requests_lately: Window = (
            before.requests_lately
            if before is not None
            else self.breaker.tries
            if config.breaker.window == _MINUTE
            else Window(_MINUTE)
        )
        self.tokens_lately: Window = Window(_MINUTE) if before is None else before.tokens_lately
        # Who knows whether the model is in memory, and how long a load has lasted.
        self.holder = backend if isinstance(backend, Holder) and backend.loads else None
        self._load = _LOAD
        # When a request was sent that had to load it; 0 = none.
        self.load_began = 0.0
        self.follow(config, target)

    def follow(self, config: RouteConfig, target: Target) -> None:
        """The configuration says this of it from now on; what is known of it stays."""
        self.target = target
        self.breaker.follow(config.breaker)
        self._bounded = bool(target.max_parallel or target.rpm or target.tpm)
        self._longest_wait = config.retries.retry_after
        self._shortest_wait = config.retries.base / 2

    def past(self) -> Past:
        """What outlives the backend."""
        return Past(self.name, self.target, self.requests_lately, self.tokens_lately)

    def find_model(self) -> str:
        """The model to ask for where none is configured: the only one; "" = nobody knows it yet."""
        if not self.model:
            cards = self.backend.models()
            self.model = cards[0].name if cards else ""
        return self.model

    def usable(self, now: float) -> bool:
        """Whether breaker and limits let one more request through."""
        if now < self.not_before or not (self.breaker.closed or self.breaker.allows(now)):
            return False
        return not self._bounded or self._within_limits(now)

    def ready(self) -> bool:
        """Whether the backend says that it can answer."""
        return self.backend.health().state == "ready"

    def free_in(self, now: float) -> float | None:
        """Seconds until limits may let a request through: 0 = as soon as another one ends, or
        now. None: the breaker is open.
        """
        if not self.breaker.closed:
            return None
        wait = max(0.0, self.not_before - now)
        target = self.target
        if target.rpm and self.requests_lately.sum(now) >= target.rpm:
            wait = max(wait, self.requests_lately.free_in(now))
        if target.tpm and self.tokens_lately.sum(now) >= target.tpm:
            wait = max(wait, self.tokens_lately.free_in(now))
        return wait

    def load_seconds(self, health: Health) -> float:
        """Seconds until its model is loaded, for a request that comes now; 0 = it is, or nobody
        knows. `health` is its backend's.
        """
        return self._load if self._is_cold() else health.load_seconds

    def outstanding(self) -> int:
        """Requests there that have no complete answer, also those of others, as far as known."""
        stats = self.backend.stats()
        return max(self.in_flight, stats.running + stats.waiting)

    def drain(self) -> float:
        """Seconds until all that is there now would be done, a load of the model included.

        Its throughput is what it measures itself, else Little's law over our own requests: those in
        flight by the seconds that one takes. One a second while nothing is known.
        """
        stats = self.backend.stats()
        work = max(self.in_flight, stats.running + stats.waiting)
        load = self.load_seconds(self.backend.health())
        if not work:
            return load
        if stats.tokens_per_second > 0 and self.successes:
            answer = self.completion_tokens / self.successes
            return load + work * answer / stats.tokens_per_second
        if not self.measured_at:
            return load + work
        return load + work * self.duration / max(1.0, self.parallel)

    def begin(self, now: float, prompt_size: int) -> bool:
        """A request is sent, its prompt has so many bytes. True: it probes a half-open breaker."""
        self.sent()
        self.requests_lately.add(now)
        if self.breaker.tries is not self.requests_lately:
            self.breaker.tries.add(now)
        if prompt_size:
            self.tokens_lately.add(now, prompt_size // _BYTES_PER_TOKEN + 1)
        if self.holder is not None:
            self.look_for_load(now)
        return not self.breaker.closed and self.breaker.begin()

    def look_for_load(self, now: float) -> None:
        """A part of `begin`, where there is a `holder`: the request may have to load the model."""
        if self._is_cold():
            self.load_began = now

    def completed(
        self, now: float, began: float, first: float, usage: Usage, prompt_size: int
    ) -> None:
        """An answer is complete; `first` is when its first output came."""
        if self.load_began:
            self.note_load(began, first)
        total = self.answered(now, began, first, usage.prompt_tokens, usage.completion_tokens)
        self.breaker.row = 0
        guess = prompt_size // _BYTES_PER_TOKEN + 1 if prompt_size else 0
        self.tokens_lately.add(now, total - guess)

    def note_load(self, began: float, first: float) -> None:
        """A part of `completed`, where there is a `load_began`: it may be this request's."""
        if began == self.load_began:
            self.load_began = 0.0
            self._load = max(_SHORTEST_LOAD, first - began - self.ttft)

    def failed(self, now: float, error: ErrorInfo, probe: bool) -> None:
        """A request failed with `error`."""
        kind, retry_after = error.kind, error.retry_after
        self.in_flight -= 1
        self.failures[kind] = self.failures.get(kind, 0) + 1
        judged = verdict(kind)
        if judged.ill:
            self.breaker.failure(now, probe)
        elif probe:
            self.breaker.answered()
        if retry_after is not None and kind in _TOLD:
            until = now + min(retry_after, _LONGEST_TOLD)
            if until > self.not_before:
                self.not_before, self.told = until, error
        elif judged.cause == "rate_limit":
            # Of a queue that is full only an estimate is known.
            wait = self._shortest_wait if retry_after is None else retry_after
            self.not_before = max(self.not_before, now + min(wait, self._longest_wait))

    def given_up(self, probe: bool) -> None:
        """We cancelled a request."""
        self.in_flight -= 1
        self.cancelled += 1
        if probe:
            self.breaker.released()

    def _is_cold(self) -> bool:
        holder = self.holder
        return holder is not None and bool(self.model) and not holder.holds(self.model)

    def _within_limits(self, now: float) -> bool:
        target = self.target
        if target.max_parallel and self.in_flight >= target.max_parallel:
            return False
        if target.rpm and self.requests_lately.sum(now) >= target.rpm:
            return False
        return not (target.tpm and self.tokens_lately.sum(now) >= target.tpm)
