"""One try of a call."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from trunkline.core.types import Call, Completed, Event, EventSink, Failed, Routed
from trunkline.gateway.endpoint import Endpoint


class Owner(Protocol):
    """The call that a try belongs to."""

    sink: EventSink

    def first(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """The first events of a try that has not won, without `Routed`."""

    def passed(self, attempt: Attempt, events: Sequence[Event]) -> None:
        """More of the one that has won."""


class Attempt:
    """One try at a target or, without an endpoint, at another route. Implements `EventSink`."""

    __slots__ = (
        "_owner",
        "began",
        "call",
        "endpoint",
        "first_at",
        "hedge",
        "number",
        "plain",
        "probe",
        "relayed",
        "routed",
        "size",
        "won",
    )

    def __init__(self, owner: Owner, endpoint: Endpoint | None, now: float, number: int) -> None:
        # None: settled; what still comes is not looked at.
        self._owner: Owner | None = owner
        self.endpoint = endpoint
        self.began = now
        self.first_at = now
        # Tries before this one.
        self.number = number
        self.call: Call | None = None
        # True: the answer comes from here.
        self.won = False
        # True: all but the end passes as it is.
        self.plain = False
        # True: it tries a half-open breaker; it was made because another one was slow.
        self.probe = False
        self.hedge = False
        self.relayed = False
        self.routed: Routed | None = None
        # Bytes of the prompt, where tokens are limited.
        self.size = 0

    def on_events(self, events: Sequence[Event]) -> None:
        """Pass on, or let the call decide."""
        owner = self._owner
        if owner is None or not events:
            return
        if self.plain:
            last = type(events[-1])
            if last is not Completed and last is not Failed:
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
        call, self.call, self._owner = self.call, None, None
        return call
