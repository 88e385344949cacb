"""The built-in engine as a backend: frames to a front process over its Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from typing import cast

import msgspec

from trunkline.core.errors import (
    EngineCrashed,
    RequestTimeout,
    Unavailable,
    from_info,
)
from trunkline.core.types import (
    BackendStats,
    Call,
    Completed,
    Event,
    EventSink,
    Failed,
    Health,
    ModelCard,
    RawRequest,
    Request,
    Tokenization,
)
from trunkline.engine.frames import (
    CancelRequest,
    CountTokens,
    DetokenizeIds,
    EventBatch,
    FrameTooLarge,
    Framing,
    FromFront,
    FrontStatus,
    Submit,
    ToFront,
    TokenCount,
    Tokenized,
    TokenizePrompt,
    pack,
)

# Seconds that a question may take: a template and a tokenizer, never the model.
_QUESTION_TIMEOUT = 30.0


class _Call:
    """A request under way at the front."""

    def __init__(self, backend: LocalBackend, request_id: str) -> None:
        self._backend = backend
        self._request_id = request_id

    def cancel(self) -> None:
        """Tell the front, and let no event through from now on."""
        self._backend.forget(self._request_id)


class LocalBackend(asyncio.Protocol):
    """Implements `core.types.Backend` over one connection to one front.

    `connect` opens the connection; when it is lost every request in flight fails with
    `EngineCrashed`, and new ones with `Unavailable` until `connect` succeeds again.
    """

    def __init__(self, name: str, on_status: Callable[[FrontStatus], None] | None = None) -> None:
        self.name = name
        self.status: FrontStatus | None = None
        # Times that the front was started again; the residency that owns the process counts.
        self.front_restarts = 0
        # Core restarts that fronts counted which are gone.
        self._core_restarts = 0
        self._on_status = on_status
        self._sinks: dict[str, EventSink] = {}
        self._questions: dict[str, asyncio.Future[TokenCount | Tokenized]] = {}
        self._numbers = itertools.count(1)
        self._transport: asyncio.WriteTransport | None = None
        self._framing = Framing()
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[FromFront] = msgspec.msgpack.Decoder(FromFront)
        self._changed = asyncio.Event()
        self._closed = asyncio.Event()
        self._closed.set()
        self._down = Health("starting", "the engine is starting")

    # core.types.Backend

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Send `request` to the front."""
        if self._transport is None:
            error = Unavailable(f"model {self.name!r} is not ready: {self._down.detail}")
            error.retry_after = 1.0
            asyncio.get_running_loop().call_soon(
                sink.on_events, (Failed(request.id, error.info()),)
            )
            return _Call(self, request.id)
        self._sinks[request.id] = sink
        self._send(Submit(_less_notes(request)))
        return _Call(self, request.id)

    def relays(self, operation: str) -> bool:
        """Never: the engine speaks core types only."""
        return False

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        """Decodes it first. Raises `InvalidRequest`."""
        return self.submit(raw.translate(), sink)

    async def count_tokens(self, request: Request) -> int:
        """Ask the front. Raises `TrunklineError`."""
        answer = await self._asked(request.id, CountTokens(_less_notes(request)))
        assert isinstance(answer, TokenCount)
        return answer.count

    async def tokenize(self, request: Request) -> Tokenization:
        """Ask the front. Raises `TrunklineError`."""
        answer = await self._asked(request.id, TokenizePrompt(_less_notes(request)))
        assert isinstance(answer, Tokenized)
        context = max((card.context_length for card in self.models()), default=0)
        return msgspec.structs.replace(answer.answer, context_length=context)

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """Ask the front. Raises `TrunklineError`."""
        number = f"detokenize-{next(self._numbers)}"
        answer = await self._asked(number, DetokenizeIds(number, token_ids))
        assert isinstance(answer, Tokenized)
        return answer.answer

    def models(self) -> tuple[ModelCard, ...]:
        """The one model, once it is loaded."""
        card = self.status.card if self.status else None
        return (card,) if card else ()

    def health(self) -> Health:
        """The front's own state, or why there is none."""
        if self._transport is None or self.status is None:
            return self._down
        return Health(self.status.state, self.status.detail)  # type: ignore[arg-type]

    @property
    def in_flight(self) -> int:
        """Requests that have not ended."""
        return len(self._sinks)

    def stats(self) -> BackendStats:
        """The front's last word; restarts of front and core together."""
        if self.status is None:
            return BackendStats(restarts=self.front_restarts + self._core_restarts)
        stats = self.status.stats
        return BackendStats(
            running=stats.running,
            waiting=stats.waiting,
            kv_in_use=stats.kv_in_use,
            kv_cached=stats.kv_cached,
            kv_total=stats.kv_total,
            prefix_queries=stats.prefix_queries,
            prefix_hits=stats.prefix_hits,
            preemptions=stats.preemptions,
            restarts=self.front_restarts + self._core_restarts + self.status.restarts,
            steps=stats.steps,
            step_seconds=stats.step_seconds,
            sampling_seconds=stats.sampling_seconds,
            resident_bytes=stats.resident_bytes,
        )

    # connection

    async def connect(self, path: str) -> None:
        """Connect to the front's socket. Raises OSError."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, path)

    async def wait_ready(self, timeout: float) -> None:
        """Wait until the model can answer. Raises `Unavailable` when it failed or time is up."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while self.health().state not in ("ready", "failed"):
                    self._changed.clear()
                    await self._changed.wait()
        health = self.health()
        if health.state != "ready":
            raise Unavailable(health.detail or f"model {self.name!r} is {health.state}")

    async def wait_closed(self) -> None:
        """Wait, a second at most, until what the front sent before it ended has been read."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await self._closed.wait()

    def mark_down(self, health: Health) -> None:
        """Say why there is no connection, for health pages and errors."""
        self._down = health
        self._changed.set()

    def close(self) -> None:
        """Drop the connection; requests in flight fail."""
        if self._transport is not None:
            self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start afresh on a new connection."""
        # No isinstance check: uvloop's transports are not subclasses of asyncio's.
        self._transport = cast(asyncio.WriteTransport, transport)
        self._framing = Framing()
        self._closed.clear()

    def data_received(self, data: bytes) -> None:
        """Hand each message on."""
        try:
            for payload in self._framing.feed(data):
                self._dispatch(self._decoder.decode(payload))
        except (FrameTooLarge, msgspec.DecodeError) as error:
            self._down = Health("failed", f"bad message from the front: {error}")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail everything in flight."""
        if self.status is not None:
            self._core_restarts += self.status.restarts
        if self.status is not None and self.status.state == "failed":
            self._down = Health("failed", self.status.detail)
        elif self._down.state == "starting":
            self._down = Health("restarting", "the engine's front process ended")
        self._transport = None
        self.status = None
        self._closed.set()
        self._changed.set()
        error = EngineCrashed(
            f"the engine of model {self.name!r} ended while this request was in flight; "
            "it is being restarted, try again",
            retry_after=1.0,
        )
        sinks, self._sinks = self._sinks, {}
        for request_id, sink in sinks.items():
            sink.on_events((Failed(request_id, error.info()),))
        for future in self._questions.values():
            if not future.done():
                future.set_exception(error)

    # internals

    async def _asked(self, number: str, question: ToFront) -> TokenCount | Tokenized:
        if self._transport is None:
            raise Unavailable(f"model {self.name!r} is not ready: {self._down.detail}")
        future: asyncio.Future[TokenCount | Tokenized]
        future = asyncio.get_running_loop().create_future()
        self._questions[number] = future
        self._send(question)
        try:
            async with asyncio.timeout(_QUESTION_TIMEOUT):
                return await future
        except TimeoutError:
            raise RequestTimeout(f"model {self.name!r} did not answer in time") from None
        finally:
            self._questions.pop(number, None)

    def forget(self, request_id: str) -> None:
        """Cancel at the front and deliver nothing more."""
        if self._sinks.pop(request_id, None) is not None:
            self._send(CancelRequest(request_id))

    def _send(self, message: ToFront) -> None:
        if self._transport is not None:
            self._transport.write(pack(self._encoder.encode(message)))

    def _dispatch(self, message: FromFront) -> None:
        match message:
            case EventBatch():
                self._deliver(message.events)
            case FrontStatus():
                self.status = message
                self._changed.set()
                if self._on_status is not None:
                    self._on_status(message)
            case TokenCount() | Tokenized():
                self._answered(message)

    def _deliver(self, events: Sequence[Event]) -> None:
        by_request: dict[str, list[Event]] = {}
        for event in events:
            by_request.setdefault(event.request_id, []).append(event)
        for request_id, own in by_request.items():
            sink = self._sinks.get(request_id)
            if sink is None:
                continue
            if isinstance(own[-1], Completed | Failed):
                del self._sinks[request_id]
            sink.on_events(own)

    def _answered(self, answer: TokenCount | Tokenized) -> None:
        future = self._questions.get(answer.request_id)
        if future is None or future.done():
            return
        if answer.error is None:
            future.set_result(answer)
        else:
            future.set_exception(from_info(answer.error))


def _less_notes(request: Request) -> Request:
    """What the front looks at. Notes are any JSON at all, of which MessagePack has not all."""
    return msgspec.structs.replace(request, notes={}) if request.notes else request
