"""The built-in engine, driven from a program that waits for its user.

The event loop runs only while an answer is awaited. Between answers the program sits in `input`,
with nothing to read from the engine, which is idle then. So Ctrl-C and line editing work as in any
other program, with neither threads nor signal handlers of our own.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Protocol, Self

import msgspec

from trunkline.cli.terminal import StatusLine
from trunkline.core.errors import from_info
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    EventSink,
    Failed,
    Request,
    RowFinished,
    Timing,
    Usage,
)
from trunkline.engine.config import EngineConfig
from trunkline.engine.frames import FrontStatus
from trunkline.residency.local import LocalEngine, start_local

# Seconds that a model may take to load. Large ones on slow disks need minutes.
_LOAD_TIMEOUT = 1800.0


class Answer(msgspec.Struct, frozen=True):
    """What came of one request."""

    text: str
    # None: the user stopped it.
    finish_reason: str | None = None
    usage: Usage | None = None
    timing: Timing | None = None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C ended it."""
        return self.finish_reason is None

    def summary(self) -> str:
        """Token counts and speed, in two lines."""
        if self.usage is None or self.timing is None:
            return "stopped"
        usage, timing = self.usage, self.timing
        fresh = usage.prompt_tokens - usage.cached_tokens
        # The first token comes out of the prefill.
        decoded = max(0, usage.completion_tokens - 1)
        return (
            f"prompt: {usage.prompt_tokens} tokens, {usage.cached_tokens} of them cached, "
            f"{timing.prefill:.2f} s{_rate(fresh, timing.prefill)}\n"
            f"answer: {usage.completion_tokens} tokens, "
            f"{timing.decode:.2f} s{_rate(decoded, timing.decode)}, ended by {self.finish_reason}"
        )


def _rate(tokens: int, seconds: float) -> str:
    return f", {tokens / seconds:.0f} tokens/s" if seconds > 0 and tokens > 0 else ""


class _QueueSink:
    """Hands events to whoever waits for them."""

    def __init__(self) -> None:
        self.queue: asyncio.Queue[Event] = asyncio.Queue()

    def on_events(self, events: Sequence[Event]) -> None:
        """Queue them. The engine bounds what may wait for one reader."""
        for event in events:
            self.queue.put_nowait(event)


class Submits(Protocol):
    """The part of `core.types.Backend` that a chat needs."""

    def submit(self, request: Request, sink: EventSink) -> Call:
        """Begin `request`."""


async def stream_answer(backend: Submits, request: Request, write: Callable[[str], None]) -> Answer:
    """Pass the text of `request` to `write` as it comes. Cancelling ends the request's work.

    A first Ctrl-C cancels, and what has come until then is the answer. Raises `TrunklineError`.
    """
    sink = _QueueSink()
    text: list[str] = []
    reason: str | None = None
    call = backend.submit(request, sink)
    try:
        while True:
            match await sink.queue.get():
                case Delta(text=piece):
                    text.append(piece)
                    write(piece)
                case RowFinished(reason=reason):
                    pass
                case Completed(usage=usage, timing=timing):
                    return Answer("".join(text), reason, usage, timing)
                case Failed(error=error):
                    raise from_info(error)
    except asyncio.CancelledError:
        return Answer("".join(text))
    finally:
        call.cancel()


class LocalChatEngine:
    """Owns an engine from ``with`` to its end; entering waits until the model is loaded.

    Raises `TrunklineError` when it cannot be loaded, KeyboardInterrupt on Ctrl-C meanwhile.
    """

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._runner = asyncio.Runner()
        self._stack = contextlib.AsyncExitStack()
        self._engine: LocalEngine | None = None
        self._line = StatusLine(sys.stderr)

    def __enter__(self) -> Self:
        try:
            self._runner.run(self._start())
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop()

    def ask(self, request: Request, write: Callable[[str], None]) -> Answer:
        """As `stream_answer`, waiting for it. Ctrl-C ends the answer, and is not raised."""
        assert self._engine is not None, "used outside its with block"
        try:
            return self._runner.run(self._ask(self._engine, request, write))
        except KeyboardInterrupt:
            return Answer("")

    async def _ask(
        self, engine: LocalEngine, request: Request, write: Callable[[str], None]
    ) -> Answer:
        # The engine may have died while nobody looked; its keeper starts it again now.
        await asyncio.sleep(0)
        await engine.backend.wait_ready(_LOAD_TIMEOUT)
        return await stream_answer(engine.backend, request, write)

    async def _start(self) -> None:
        self._show("starting")
        self._engine = await self._stack.enter_async_context(
            start_local(self._config, self._on_status)
        )
        try:
            await self._engine.backend.wait_ready(_LOAD_TIMEOUT)
        finally:
            self._line.clear()

    def _on_status(self, status: FrontStatus) -> None:
        if status.state == "starting":
            self._show(status.detail or "loading")

    def _show(self, what: str) -> None:
        self._line.show(f"{self._config.name}: {what}")

    def _stop(self) -> None:
        with self._runner as runner:
            runner.run(self._stack.aclose())
