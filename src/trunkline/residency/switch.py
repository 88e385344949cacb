"""A backend that is there at times: what stands behind it comes and goes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec

from trunkline.core.errors import TrunklineError, Unavailable, response_not_found
from trunkline.core.types import (
    Abilities,
    Able,
    Backend,
    BackendStats,
    Call,
    EventSink,
    Failed,
    Health,
    Holder,
    Keeper,
    KeptAsk,
    ModelCard,
    RawRequest,
    Request,
    Tokenization,
)

_RETRY = 1.0


class Refused:
    """Implements `Call`: fails a request as soon as its sender is done."""

    __slots__ = ("_handle",)

    def __init__(self, request_id: str, error: TrunklineError, sink: EventSink) -> None:
        failed = Failed(request_id, error.info())
        self._handle = asyncio.get_running_loop().call_soon(sink.on_events, (failed,))

    def cancel(self) -> None:
        """Let it not fail any more."""
        self._handle.cancel()


class SwitchBackend:
    """Implements `core.types.Backend`: as `current` does, or fails with the reason why none is.

    `cards` are shown until the models are known. Another one may answer in its place at first: see
    `lean_on`.
    """

    def __init__(
        self, title: str, cards: Sequence[ModelCard] = (), operations: frozenset[str] = frozenset()
    ) -> None:
        self.title = title
        # Times that it was started again after it died.
        self.restarts = 0
        self._cards = tuple(cards)
        # What it relays, as far as is known before it was there.
        self._operations = operations
        self._current: Backend | None = None
        # Who answers in our place, and how many we answer for.
        self._support: SwitchBackend | None = None
        self._leaning = 0
        self._last: Backend | None = None
        self._health = Health("starting", "not started yet")
        self._retry = _RETRY

    @property
    def current(self) -> Backend | None:
        """What answers now, be it in our place."""
        if self._current is None and self._support is not None:
            return self._support.current
        return self._current

    @property
    def itself(self) -> Backend | None:
        """What is our own and answers now."""
        return self._current

    def up(self, backend: Backend) -> None:
        """From now on `backend` answers."""
        self._current = self._last = backend
        self.stand()

    def lean_on(self, other: SwitchBackend) -> None:
        """Have `other` answer while we start: until `up`, until that has failed, or `stand`."""
        self.stand()
        while other._current is None and other._support is not None:
            # Who leans himself may fall.
            other = other._support
        self._support = other
        other._leaning += 1

    def stand(self) -> None:
        """Lean on nobody any more."""
        support, self._support = self._support, None
        if support is not None:
            support._leaning -= 1

    def down(self, health: Health, retry_after: float = _RETRY) -> None:
        """Nobody answers, for the reason in `health`; a retry makes sense in so many seconds."""
        self._keep_cards()
        self._current = None
        if health.state != "starting":
            self.stand()
        self._health = health
        self._retry = max(_RETRY, retry_after)

    def why(self) -> Unavailable:
        """The error of a request that comes now."""
        health = self._health
        detail = f": {health.detail}" if health.detail else ""
        problem = f"{self.title} cannot answer now, it is {health.state}{detail}"
        return Unavailable(problem, retry_after=self._retry)

    # core.types.Backend

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Hand on, or fail."""
        current = self.current
        if current is None:
            return Refused(request.id, self.why(), sink)
        return current.submit(request, sink)

    def relays(self, operation: str) -> bool:
        """As what answers, or answered last; what is to be expected before."""
        known = self.current or self._last
        return known.relays(operation) if known else operation in self._operations

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        """Hand on, or fail. Decodes it where what answers turned out not to speak the dialect."""
        current = self.current
        if current is None:
            return Refused(raw.id, self.why(), sink)
        if current.relays(raw.operation):
            return current.relay(raw, sink)
        try:
            return current.submit(raw.translate(), sink)
        except TrunklineError as error:
            return Refused(raw.id, error, sink)

    async def count_tokens(self, request: Request) -> int:
        """Hand on. Raises `TrunklineError`."""
        return await self._there().count_tokens(request)

    async def tokenize(self, request: Request) -> Tokenization:
        """Hand on. Raises `TrunklineError`."""
        return await self._there().tokenize(request)

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """Hand on. Raises `TrunklineError`."""
        return await self._there().detokenize(token_ids)

    async def kept(self, ask: KeptAsk) -> bytes:
        """Hand on. Raises `TrunklineError`."""
        there = self._there()
        if not isinstance(there, Keeper):
            raise response_not_found(ask.response_id)
        return await there.kept(ask)

    @property
    def loads(self) -> bool:
        """Whether what answers does is not known before it is there."""
        return True

    def holds(self, model: str) -> bool:
        """As what answers."""
        current = self.current
        return current is None or not isinstance(current, Holder) or current.holds(model)

    def abilities(self) -> Abilities | None:
        """As what answers, or answered last; None: it is built in, or was not there yet."""
        known = self.current or self._last
        if known is None or not isinstance(known, Able):
            return None
        return known.abilities()

    def models(self) -> tuple[ModelCard, ...]:
        """As what answers, or answered last."""
        current = self.current
        return (current.models() if current else ()) or self._cards

    def health(self) -> Health:
        """As what answers, or why nobody does."""
        current = self.current
        return current.health() if current else self._health

    def stats(self) -> BackendStats:
        """As what answers; its restarts and ours."""
        current = self.current
        stats = current.stats() if current else BackendStats()
        if not self.restarts:
            return stats
        return msgspec.structs.replace(stats, restarts=stats.restarts + self.restarts)

    @property
    def in_flight(self) -> int:
        """Requests under way with what is our own; each that leans on us is one more."""
        current = self._current
        if current is None:
            return self._leaning
        stats = current.stats()
        return self._leaning + int(getattr(current, "in_flight", stats.running + stats.waiting))

    # internals

    def _there(self) -> Backend:
        current = self.current
        if current is None:
            raise self.why()
        return current

    def _keep_cards(self) -> None:
        if self._current is not None:
            self._cards = self._current.models() or self._cards
