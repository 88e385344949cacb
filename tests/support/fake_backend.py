"""A backend that answers as told: scripted events, hangs, failures, crashes, floods."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from trunkline.core.errors import EngineCrashed, TrunklineError
from trunkline.core.types import (
    BackendStats,
    Call,
    ChatInput,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    FinishReason,
    Health,
    InfillInput,
    MixedInput,
    ModelCard,
    RawRequest,
    Request,
    RowFinished,
    TextInput,
    Timing,
    Tokenization,
    TokenLogprob,
    TokensInput,
    Usage,
)


class FakeCall:
    """One submitted request."""

    def __init__(self, request: Request, sink: EventSink) -> None:
        self.request = request
        self.sink = sink
        self.cancelled = asyncio.Event()
        self.task: asyncio.Task[None] | None = None

    def cancel(self) -> None:
        self.cancelled.set()
        if self.task is not None:
            self.task.cancel()

    def send(self, *events: Event) -> None:
        """Deliver `events`, unless cancelled."""
        if not self.cancelled.is_set():
            self.sink.on_events(events)

    def delta(
        self, text: str, row: int = 0, logprobs: Sequence[TokenLogprob] | None = None
    ) -> None:
        """One more piece of text."""
        shown = None if logprobs is None else tuple(logprobs)
        self.send(Delta(self.request.id, row, text, (1,), shown))

    def finished(
        self, row: int = 0, reason: FinishReason = "stop", stop: str | None = None
    ) -> None:
        """The end of one row."""
        self.send(RowFinished(self.request.id, row, reason, stop))

    def completed(self, usage: Usage) -> None:
        """The end."""
        self.send(Completed(self.request.id, usage, Timing()))

    def fail(self, error: TrunklineError) -> None:
        """The other end."""
        self.send(Failed(self.request.id, error.info()))


class FakeBackend:
    """Implements `core.types.Backend`.

    Modes: "words" answers each row with `words`, one per event; "hang" sends nothing; "crash" fails
    after `words`; "manual" leaves it all to the test (`calls`).
    """

    def __init__(
        self,
        mode: str = "words",
        words: Sequence[str] = ("Hello", " there", "!"),
        *,
        name: str = "fake",
        pause: float = 0.0,
        error: TrunklineError | None = None,
    ) -> None:
        self.mode = mode
        self.words = tuple(words)
        self.name = name
        self.pause = pause
        # "fail" mode: how every request fails; "crash": how it fails in the middle.
        self.error = error or EngineCrashed("the engine died while this request was in flight")
        self.calls: list[FakeCall] = []
        self.state = Health("ready")
        self.figures = BackendStats()
        self.cards: tuple[ModelCard, ...] = (
            ModelCard(name, context_length=4096, created=1700000000),
        )

    def submit(self, request: Request, sink: EventSink) -> Call:
        call = FakeCall(request, sink)
        self.calls.append(call)
        if self.mode in ("words", "crash", "fail"):
            call.task = asyncio.get_running_loop().create_task(self._answer(call))
        return call

    def relays(self, operation: str) -> bool:
        return False

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        return self.submit(raw.translate(), sink)

    async def count_tokens(self, request: Request) -> int:
        return _prompt_tokens(request)

    async def tokenize(self, request: Request) -> Tokenization:
        """As many tokens as `count_tokens` says."""
        return Tokenization("fake", tuple(range(await self.count_tokens(request))))

    async def detokenize(self, token_ids: tuple[int, ...]) -> Tokenization:
        """The ids as text."""
        return Tokenization(" ".join(map(str, token_ids)), token_ids)

    def models(self) -> tuple[ModelCard, ...]:
        return self.cards

    def health(self) -> Health:
        return self.state

    def stats(self) -> BackendStats:
        return self.figures

    async def _answer(self, call: FakeCall) -> None:
        if self.mode == "fail":
            call.fail(self.error)
            return
        for word in self.words:
            for row in range(call.request.n):
                call.delta(word, row)
            await asyncio.sleep(self.pause)
        if self.mode == "crash":
            call.fail(self.error)
            return
        for row in range(call.request.n):
            call.finished(row)
        made = len(self.words) * call.request.n
        call.completed(Usage(_prompt_tokens(call.request), made, cached_tokens=2))


def _prompt_tokens(request: Request) -> int:
    match request.input:
        case ChatInput(messages=messages):
            return len(messages) * 5
        case TextInput(text=text):
            return len(text.split())
        case MixedInput(parts=parts):
            return len(parts)
        case TokensInput(token_ids=token_ids):
            return len(token_ids)
        case InfillInput(prefix=prefix, suffix=suffix):
            return len(prefix) + len(suffix)
