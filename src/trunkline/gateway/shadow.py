"""Copies of requests, and how their answers compare with those that clients were given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random

import msgspec

from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    Failed,
    Relayed,
    Routed,
    RowFinished,
    Usage,
)
from trunkline.gateway.ask import Ask
from trunkline.gateway.clock import Clock
from trunkline.gateway.config import Shadow
from trunkline.gateway.reading import read
from trunkline.gateway.route_state import Peer
from trunkline.wire.client import Speaker

# Longest answer that is compared, in bytes or characters.
_MOST = 1 << 20


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """One of two answers to the same request."""

    # Who answered: "" = nobody.
    backend: str
    model: str
    # All text of all rows; None = not known (too long, or in a form that nobody reads here).
    text: str | None
    # Why each row ended, in the order in which they did.
    finish: tuple[str, ...]
    usage: Usage | None
    # Kind of the error, or "".
    error: str
    # Seconds until the first output and until the end.
    first: float
    total: float


class Comparison(msgspec.Struct, frozen=True, kw_only=True):
    """Two answers to one request; `equal` is None where a text is not known."""

    request_id: str
    answer: Outcome
    copy: Outcome
    equal: bool | None


class ShadowCounters(msgspec.Struct):
    """What happened to copies."""

    # Sent, not sent as too many were under way, and given up because the client's call was.
    sent: int = 0
    skipped: int = 0
    cancelled: int = 0
    # Both ended; of those the copy failed, the texts are equal, are different, are not known.
    compared: int = 0
    failed: int = 0
    equal: int = 0
    different: int = 0
    # Seconds over those compared.
    answer_seconds: float = 0.0
    copy_seconds: float = 0.0


class Shadows:
    """Sends copies of one route's requests to another route."""

    def __init__(
        self,
        config: Shadow,
        peers: Mapping[str, Peer],
        clock: Clock,
        rng: Random,
        speakers: Mapping[str, Speaker],
        compared: Callable[[Comparison], None] | None,
        counters: ShadowCounters | None = None,
    ) -> None:
        """`counters` are those to go on with."""
        self.config = config
        self.counters = counters or ShadowCounters()
        self._peers = peers
        self._clock = clock
        self._rng = rng
        self._speakers = speakers
        self._compared = compared
        self._under_way: set[Pair] = set()

    def wanted(self) -> bool:
        """Whether the next request is copied."""
        if self._rng.random() >= self.config.share:
            return False
        if len(self._under_way) >= self.config.most or self.config.route not in self._peers:
            self.counters.skipped += 1
            return False
        return True

    def begin(self, ask: Ask) -> Pair:
        """Send a copy; the pair must see what the client is given."""
        pair = Pair(self, ask, self._clock)
        self._under_way.add(pair)
        self.counters.sent += 1
        peer = self._peers[self.config.route]
        pair.call = peer.begin(ask, pair.copy, [peer.name])
        return pair

    def close(self) -> None:
        """Give up all copies."""
        for pair in tuple(self._under_way):
            pair.cancelled()

    def done(self, pair: Pair) -> None:
        """Both have ended."""
        self._under_way.discard(pair)
        answer, copy = (self._outcome(pair.ask, one) for one in (pair.answer, pair.copy))
        known = answer.text is not None and copy.text is not None
        equal = answer.text == copy.text if known else None
        counters = self.counters
        counters.compared += 1
        counters.failed += bool(copy.error)
        counters.equal += equal is True
        counters.different += equal is False
        counters.answer_seconds += answer.total
        counters.copy_seconds += copy.total
        if self._compared is not None:
            self._compared(
                Comparison(request_id=pair.ask.id, answer=answer, copy=copy, equal=equal)
            )

    def gave_up(self, pair: Pair) -> None:
        """One of them will never end."""
        self._under_way.discard(pair)
        self.counters.cancelled += 1

    def _outcome(self, ask: Ask, seen: Seen) -> Outcome:
        events = seen.events
        relayed = b"".join(one.data for one in events if isinstance(one, Relayed))
        if relayed and not seen.too_long:
            speaker = None if ask.raw is None else self._speakers.get(ask.raw.operation)
            known = None if speaker is None else read(ask, speaker, relayed, not seen.error)
            if known is None:
                seen.too_long = True
            else:
                # What came after a change of hands is known already.
                events = [*known, *(one for one in events if not isinstance(one, Relayed))]
        routed = next((one for one in events if isinstance(one, Routed)), None)
        return Outcome(
            backend=routed.backend if routed else "",
            model=routed.model if routed else "",
            text=None if seen.too_long else _text(events),
            finish=tuple(one.reason for one in events if isinstance(one, RowFinished)),
            usage=seen.usage,
            error=seen.error,
            first=seen.first,
            total=seen.total,
        )


def _size(event: Delta | Relayed) -> int:
    """What is held against `_MOST`; also what is not compared takes memory."""
    if isinstance(event, Relayed):
        return len(event.data)
    called = sum(len(call.arguments) for call in event.tool_calls)
    return 1 + len(event.text) + len(event.reasoning) + called


def _text(events: Sequence[Event]) -> str:
    rows: dict[int, list[str]] = {}
    for event in events:
        if isinstance(event, Delta):
            row = rows.setdefault(event.row, [])
            row.append(event.text)
            row += [f"{call.name or ''}{call.arguments}" for call in event.tool_calls]
    return "\n".join("".join(rows[row]) for row in sorted(rows))


class Pair:
    """An answer and the one to its copy. Implements `route_state.Watch` for the client's."""

    def __init__(self, shadows: Shadows, ask: Ask, clock: Clock) -> None:
        self.ask = ask
        # The copy's.
        self.call: Call | None = None
        self.answer = Seen(clock, self._ended)
        self.copy = Seen(clock, self._ended)
        self._shadows = shadows
        self._clock = clock
        self._left = 2

    def on_events(self, events: Sequence[Event]) -> None:
        """What the client is given."""
        self.answer.on_events(events)

    def cancelled(self) -> None:
        """The client's call was cancelled, or all copies are given up."""
        if self._left:
            self._left = 0
            self._shadows.gave_up(self)
            self.answer.over = self.copy.over = None
            if self.call is not None:
                self.call.cancel()

    def _ended(self) -> None:
        self._left = max(0, self._left - 1)
        if not self._left:
            # Not while the client waits for what is being delivered.
            self._clock.call_later(0.0, self._compare)

    def _compare(self) -> None:
        self._shadows.done(self)


class Seen:
    """An answer as it passes. Implements `EventSink`."""

    def __init__(self, clock: Clock, ended: Callable[[], None]) -> None:
        self._clock = clock
        self._began = clock.time()
        # Told of the end, once; it knows us, and nothing is to keep both alive after that.
        self.over: Callable[[], None] | None = ended
        self._size = 0
        self.events: list[Event] = []
        self.usage: Usage | None = None
        self.error = ""
        self.first = 0.0
        self.total = 0.0
        # True: its text is not known.
        self.too_long = False

    def on_events(self, events: Sequence[Event]) -> None:
        """Take note."""
        for event in events:
            if isinstance(event, Completed | Failed):
                self.total = self._clock.time() - self._began
                if isinstance(event, Completed):
                    self.usage = event.usage
                else:
                    self.error = event.error.kind
                over, self.over = self.over, None
                if over is not None:
                    over()
            elif not self.too_long:
                self._keep(event)

    def _keep(self, event: Event) -> None:
        self.events.append(event)
        if isinstance(event, Delta | Relayed):
            if not self.first:
                self.first = self._clock.time() - self._began
            self._size += _size(event)
            if self._size > _MOST:
                self.too_long = True
                self.events = [one for one in self.events if isinstance(one, Routed)]
