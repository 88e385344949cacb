"""One try of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import msgspec
from msgspec.structs import replace

from trunkline.core.types import Call, Completed, Event, EventSink, Failed, Routed
from trunkline.gateway.endpoint import Endpoint

# Types of what ends an answer.
_LAST = frozenset((Completed, Failed))


class Owner(Protocol):
    """The call that a try belongs to."""

    sink: EventSink

    def first(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """The first events of a try that has not won, without `Routed`."""

    def passed(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """More of the one that has won."""


class Attempt(msgspec.Struct, eq=False):
    """One try at a target or, without an endpoint, at another route. Implements `EventSink`."""

    # None: settled; what still comes is not looked at.
    owner: Owner | None
    endpoint: Endpoint | None
    began: float
    # When its first output came; until then as `began`.
    first_at: float
    # Tries before this one.
    number: int
    # True: it was made because another one was slow.
    hedge: bool = False
    call: Call | None = None
    # True: the answer comes from here.
    won: bool = False
    # True: all but the end passes as it is.
    plain: bool = False
    # True: it tries a half-open breaker.
    probe: bool = False
    # What the backend said of itself.
    routed: Routed | None = None
    # Bytes of the prompt, where tokens are limited.
    size: int = 0

    def on_events(self, events: Sequence[Event]) -> None:
        """Pass on, or let the call decide."""
        owner = self.owner
        if owner is None or not events:
            return
        if self.plain and type(events[-1]) not in _LAST:
            owner.sink.on_events(events)
            return
        if self.won:
            owner.passed(self, events)
            return
        first = events[0]
        if type(first) is Routed:
            self.routed = first
            events = events[1:]
        if events:
            owner.first(self, events)

    def settle(self) -> Call | None:
        """It has ended; the call, to be cancelled where it ended early."""
        call, self.call, self.owner = self.call, None, None
        return call

    def says(self, request_id: str, made: Sequence[Endpoint], peers: int = 0) -> Routed | None:
        """Who answers, after the tries in `made` and so many other routes; None where that is
        told by another route.
        """
        endpoint, inner, number = self.endpoint, self.routed, self.number
        if endpoint is None:
            return None if inner is None else replace(inner, fallbacks=inner.fallbacks + number)
        same = made[:number].count(endpoint) if number else 0
        target = endpoint.target
        dropped = () if inner is None else inner.dropped
        return Routed(
            request_id,
            target.backend,
            endpoint.model,
            same,
            number - same + peers,
            dropped,
            target.arm,
        )
