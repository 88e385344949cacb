"""A clock that tests move, and backends and clients that do what tests say."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Mapping, Sequence
from random import Random

from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import (
    BackendStats,
    ChatInput,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    Health,
    Input,
    Message,
    ModelCard,
    RawRequest,
    Relayed,
    Request,
    Routed,
    RowFinished,
    SamplingParams,
    Timing,
    Tokenization,
    Usage,
)
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.routes import Routes


class FakeTimer:
    """Implements `clock.Timer`."""

    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class FakeClock:
    """Implements `clock.Clock`; time passes in `advance` only."""

    def __init__(self) -> None:
        self.now = 1000.0
        self._timers: list[tuple[float, int, FakeTimer]] = []
        self._number = itertools.count()

    def time(self) -> float:
        return self.now

    def call_later(self, delay: float, callback: Callable[[], object]) -> FakeTimer:
        assert delay >= 0
        timer = FakeTimer(callback)
        heapq.heappush(self._timers, (self.now + delay, next(self._number), timer))
        return timer

    def advance(self, seconds: float = 0.0) -> None:
        """Let so much time pass, and call what is due, in order."""
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            due, _, timer = heapq.heappop(self._timers)
            self.now = max(self.now, due)
            if not timer.cancelled:
                timer.callback()
        self.now = until

    def pending(self) -> int:
        """Timers that would still be called."""
        return sum(not timer.cancelled for _, _, timer in self._timers)


class FakeCall:
    """A request at a `FakeBackend`; the test answers it."""

    def __init__(self, backend: FakeBackend, asked: Request | RawRequest, sink: EventSink) -> None:
        self.backend = backend
        self.asked = asked
        self.sink = sink
        self.cancelled = False
        self.ended = False

    @property
    def relayed(self) -> bool:
        return isinstance(self.asked, RawRequest)

    def cancel(self) -> None:
        self.cancelled = True

    def send(self, *events: Event) -> None:
        assert not self.cancelled
        self.ended = self.ended or isinstance(events[-1], Completed | Failed)
        self.sink.on_events(events)

    def text(self, text: str, tokens: int = 1) -> None:
        """One more piece, in the form that was asked for."""
        if self.relayed:
            self.send(Relayed(self.asked.id, text.encode(), tokens))
        else:
            self.send(Delta(self.asked.id, 0, text, tuple(range(tokens))))

    def finish(self, usage: Usage | None = None) -> None:
        completed = Completed(self.asked.id, usage or Usage(10, 5), Timing())
        if self.relayed:
            self.send(completed)
        else:
            self.send(RowFinished(self.asked.id, 0, "stop"), completed)

    def fail(self, error: TrunklineError) -> None:
        self.send(Failed(self.asked.id, error.info()))

    def request(self) -> Request:
        assert isinstance(self.asked, Request)
        return self.asked


class FakeBackend:
    """Implements `core.types.Backend`."""

    def __init__(self, name: str = "b", relays: bool = False) -> None:
        self.name = name
        self.relaying = relays
        self.calls: list[FakeCall] = []
        self.state = Health("ready")
        self.figures = BackendStats()
        self.cards: tuple[ModelCard, ...] = (ModelCard("m", context_length=4096),)
        # What questions about text fail with.
        self.error: TrunklineError | None = None

    @property
    def last(self) -> FakeCall:
        return self.calls[-1]

    def submit(self, request: Request, sink: EventSink) -> FakeCall:
        call = FakeCall(self, request, sink)
        self.calls.append(call)
        return call

    def relays(self, operation: str) -> bool:
        return self.relaying

    def relay(self, raw: RawRequest, sink: EventSink) -> FakeCall:
        assert self.relaying
        call = FakeCall(self, raw, sink)
        self.calls.append(call)
        return call

    async def count_tokens(self, request: Request) -> int:
        if self.error is not None:
            raise self.error
        return len(request.model)

    async def tokenize(self, request: Request) -> Tokenization:
        if self.error is not None:
            raise self.error
        return Tokenization(f"{self.name}:{request.model}", (1,))

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        if self.error is not None:
            raise self.error
        return Tokenization(self.name, token_ids)

    def models(self) -> tuple[ModelCard, ...]:
        return self.cards

    def health(self) -> Health:
        return self.state

    def stats(self) -> BackendStats:
        return self.figures


class Sink:
    """A client."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def on_events(self, events: Sequence[Event]) -> None:
        assert not self.ended, "an event after the end"
        assert events
        self.events += events

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Completed | Failed)

    @property
    def text(self) -> str:
        return "".join(
            event.text if isinstance(event, Delta) else event.data.decode()
            for event in self.events
            if isinstance(event, Delta | Relayed)
        )

    @property
    def error(self) -> str:
        """Kind of the error, or ""."""
        last = self.events[-1] if self.events else None
        return last.error.kind if isinstance(last, Failed) else ""

    @property
    def failed(self) -> Failed:
        last = self.events[-1]
        assert isinstance(last, Failed)
        return last

    @property
    def completed(self) -> Completed:
        last = self.events[-1]
        assert isinstance(last, Completed), last
        return last

    @property
    def routed(self) -> Routed:
        first = self.events[0]
        assert isinstance(first, Routed), first
        assert not any(isinstance(event, Routed) for event in self.events[1:])
        return first


class Setup:
    """Routes over fake backends, by default one route `m` over the backends named in `targets`."""

    def __init__(
        self,
        *configs: RouteConfig,
        relays: Sequence[str] = (),
        speakers: Mapping[str, object] | None = None,
        seed: int = 1,
        compared: Callable[..., None] | None = None,
    ) -> None:
        self.clock = FakeClock()
        names = {target.backend for config in configs for target in config.targets}
        self.backends = {name: FakeBackend(name, name in relays) for name in sorted(names)}
        self.routes = Routes(
            configs,
            self.backends,
            self.clock,
            speakers=speakers,  # type: ignore[arg-type]
            compared=compared,
            rng=Random(seed),
        )
        self.route = self.routes.routes[0]
        self._number = itertools.count(1)

    def __getitem__(self, name: str) -> FakeBackend:
        return self.backends[name]

    def submit(self, **changes: object) -> tuple[Sink, Callable[[], None]]:
        """A decoded request; how to cancel it."""
        sink = Sink()
        call = self.route.submit(request(f"r{next(self._number)}", **changes), sink)
        assert not sink.events, "an event before submit returned"
        return sink, call.cancel

    def relay(self, **changes: object) -> tuple[Sink, Callable[[], None]]:
        """A raw one."""
        sink = Sink()
        call = self.route.relay(raw(f"r{next(self._number)}", **changes), sink)
        assert not sink.events, "an event before relay returned"
        return sink, call.cancel

    def open_calls(self) -> list[FakeCall]:
        """Calls at the backends that nobody ended."""
        return [
            call
            for backend in self.backends.values()
            for call in backend.calls
            if not call.cancelled and not call.ended
        ]

    def in_flight(self) -> int:
        """As all endpoints count."""
        return sum(one.in_flight for route in self.routes.routes for one in route.endpoints)


def config(*targets: str | Target, name: str = "m", **fields: object) -> RouteConfig:
    """A route; a target's name is a backend and, behind a slash, its model."""
    made = tuple(_target(one) if isinstance(one, str) else one for one in targets)
    return RouteConfig(name=name, targets=made, **fields)  # type: ignore[arg-type]


def _target(text: str) -> Target:
    backend, _, model = text.partition("/")
    return Target(backend=backend, model=model or "m")


def request(id: str = "r", **changes: object) -> Request:  # noqa: A002
    fields: dict[str, object] = {"input": chat("hi"), "sampling": SamplingParams(max_tokens=100)}
    return Request(id=id, model="m", **{**fields, **changes})  # type: ignore[arg-type]


def raw(id: str = "r", *, bad: object = False, **changes: object) -> RawRequest:  # noqa: A002
    """`bad`: it makes no sense to whoever decodes it, or what they say of it. Else `changes` are
    those of the request, but for `stream`."""
    stream = bool(changes.pop("stream", True))
    decoded = request(id, **changes)

    def translate() -> Request:
        if isinstance(bad, TrunklineError):
            raise bad
        if bad:
            raise InvalidRequest("nonsense", param="messages")
        return decoded

    return RawRequest(
        id=id,
        operation="test.chat",
        model="m",
        asked_model="m",
        stream=stream,
        fields={},
        tenant=decoded.tenant,
        affinity=decoded.affinity,
        translate=translate,
    )


def chat(*texts: str) -> Input:
    return ChatInput(tuple(Message("user", text) for text in texts))


class FakeSpeaker:
    """Reads relayed streams of this test: the bytes are the text, a piece of one letter "!" is an
    error and "\\0" a finished row."""

    operation = "test.chat"

    def reader(self, asked: Request, terms: object, head: object) -> FakeReader:
        return FakeReader(asked.id)


class FakeReader:
    def __init__(self, request_id: str) -> None:
        self._id = request_id

    def feed(self, data: bytes) -> Sequence[Event]:
        if b"!" in data:
            raise Unsupported("unreadable")
        events: list[Event] = [
            Delta(self._id, 0, word, (1,))
            for word in data.replace(b"\0", b"").decode().splitlines(keepends=True)
        ]
        if b"\0" in data:
            events.append(RowFinished(self._id, 0, "stop"))
        return events

    def end(self) -> Sequence[Event]:
        return (RowFinished(self._id, 0, "stop"), Completed(self._id, Usage(1, 1), Timing()))
