"""One call on a hot route, from the first event of its backend to the last byte of its answer.

Events are delivered on the event loop; what they render to is written at once, in one piece per
batch of events. What a backend relays passes as it is.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence

from trunkline.core.errors import TrunklineError, from_info
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    Failed,
    PromptTokens,
    Relayed,
    Resumed,
    Routed,
    RowFinished,
    Timing,
    Usage,
)
from trunkline.server.http.exchange import EVENT_STREAM_HEADERS, Exchange
from trunkline.server.metrics import ModelMetrics
from trunkline.server.replies import id_line, respond_error
from trunkline.wire.codec import Codec, Renderer, Successor

log = logging.getLogger("trunkline.server")

# Content type of the streams that may have comments, and one: readers of events pass it over.
_EVENTS = b"text/event-stream"
_COMMENT = b": keep-alive\n\n"


class Generation:
    """One call under way; it may hold several requests, one per prompt."""

    __slots__ = (
        "_active",
        "_codec",
        "_exchange",
        "_first",
        "_generated",
        "_head",
        "_last",
        "_metrics",
        "_new_renderer",
        "_now",
        "_open",
        "_relayed",
        "_stream",
        "_timing",
        "_usage",
        "_wrote",
        "calls",
        "keep",
        "renderer",
        "request_id",
    )

    def __init__(
        self,
        active: set[Generation],
        exchange: Exchange,
        codec: Codec,
        request_id: str,
        metrics: ModelMetrics,
        *,
        stream: bool,
        prompts: int = 1,
        renderer: Renderer | None = None,
        new_renderer: Callable[[], Renderer] | None = None,
    ) -> None:
        self._active = active
        self._exchange = exchange
        self._codec = codec
        # None while nothing but relayed bytes has come; then `new_renderer` makes one.
        self.renderer = renderer
        self._new_renderer = new_renderer
        self._stream = stream
        self.request_id = request_id
        self._head = id_line(request_id)
        self._metrics = metrics
        # Requests that have not completed.
        self._open = prompts
        self._usage = Usage(0, 0)
        self._timing = Timing()
        # time.monotonic() of the first output; 0 = there was none.
        self._first = 0.0
        # Output tokens seen so far, for calls that never complete.
        self._generated = 0
        # time.monotonic() when the client last got something; before that, when it asked.
        self._wrote = self._now = exchange.began
        # (prompt, row) -> time.monotonic() of its last output.
        self._last: dict[tuple[int, int], float] = {}
        # Pieces of a whole answer that is relayed.
        self._relayed: list[bytes] = []
        self.calls: list[Call] = []
        # Told of the renderer once it has finished, before its last bytes leave.
        self.keep: Callable[[Renderer], None] = _forget
        active.add(self)
        exchange.on_gone = self.gone
        if stream and codec.stream_type.startswith(_EVENTS):
            exchange.on_tick = self._break_silence

    def take(self, prompt: int, events: Sequence[Event]) -> None:
        """Render and send events of request number `prompt`."""
        exchange = self._exchange
        if exchange.closed:
            return
        failed = self._observe(prompt, events)
        if failed is not None:
            self.fail(from_info(failed.error))
            return
        data = self._render(prompt, events)
        if self._open == 0:
            self._complete(data)
        elif data:
            if not self._stream:
                self._relayed.append(data)
                return
            if not exchange.started:
                self._begin_stream()
            exchange.write(data)
            self._wrote = self._now

    def _break_silence(self, now: float, longest: float) -> None:
        """Send a comment after `longest` seconds without a byte; 0 = never.

        Where nothing has come from a backend yet, this settles the status: what goes wrong after it
        is told within the stream.
        """
        if not longest or now - self._wrote < longest:
            return
        self._wrote = now
        if not self._exchange.started:
            self._begin_stream()
        self._exchange.write(_COMMENT)

    def _render(self, prompt: int, events: Sequence[Event]) -> bytes:
        """What to send of `events`; of whole answers only what is relayed.

        A renderer is made when the first event comes that needs one: only then is it known that
        what answers does not relay.
        """
        relayed: list[bytes] = []
        core: list[Event] = []
        for event in events:
            if isinstance(event, Relayed):
                relayed.append(event.data)
            elif isinstance(event, Resumed):
                self._succeed(prompt, event)
            elif not isinstance(event, Routed):
                core.append(event)
                if isinstance(event, Delta | RowFinished | PromptTokens):
                    self._made_renderer()
        if self.renderer is None or not core:
            return relayed[0] if len(relayed) == 1 else b"".join(relayed)
        return b"".join(relayed) + self.renderer.take(prompt, core)

    def _succeed(self, prompt: int, event: Resumed) -> None:
        """Render what follows on relayed bytes; what these say the client has already."""
        renderer = self._made_renderer()
        if isinstance(renderer, Successor):
            renderer.succeed(event.relayed)
        renderer.take(prompt, [event.sent])

    def _made_renderer(self) -> Renderer:
        if self.renderer is None:
            assert self._new_renderer is not None
            self.renderer = self._new_renderer()
        return self.renderer

    def _begin_stream(self) -> None:
        self._exchange.begin(200, self._codec.stream_type, EVENT_STREAM_HEADERS + self._head)

    def fail(self, error: TrunklineError) -> None:
        """End the call with `error`, however far it has come."""
        exchange = self._exchange
        self._cancel()
        if exchange.closed:
            return
        error.request_id = self.request_id
        if error.status >= 500:
            log.warning("%s: %s", exchange.request.path, error.message)
        self._settle()
        if exchange.started:
            exchange.status = error.status
            # A dialect whose events are numbered goes on counting.
            ending = getattr(self.renderer, "fail", self._codec.stream_error)
            exchange.end(ending(error), broken=True)
        else:
            respond_error(exchange, error, self._codec, self.request_id, self._head)

    def gone(self) -> None:
        """The client has left: stop the work."""
        self._cancel()
        self._settle()

    def _complete(self, data: bytes) -> None:
        exchange = self._exchange
        self._active.discard(self)
        self._settle()
        self._metrics.e2e.observe(time.monotonic() - exchange.began)
        extra = b""
        if self.renderer is not None:
            data += self.renderer.finish(self._usage, self._timing)
            self.keep(self.renderer)
            extra = self._codec.headers(self._usage, self._timing)
        if not self._stream:
            body = b"".join((*self._relayed, data))
            exchange.respond(200, body, self._codec.whole_type, self._head + extra)
            return
        if not exchange.started:
            self._begin_stream()
        exchange.end(data)

    def _observe(self, prompt: int, events: Sequence[Event]) -> Failed | None:
        """Count what `events` bring; returns the failure among them, if there is one."""
        self._now = now = time.monotonic()
        for event in events:
            if isinstance(event, Delta):
                self._note_output((prompt, event.row), now, len(event.token_ids))
            elif isinstance(event, Relayed):
                self._note_output((prompt, 0), now, event.tokens)
            elif isinstance(event, RowFinished):
                self._metrics.success(event.reason).inc()
            elif isinstance(event, Completed):
                self._open -= 1
                self._usage = _sum(self._usage, event.usage)
                self._timing = _longest(self._timing, self._told_or_seen(event.timing, now))
            elif isinstance(event, Routed):
                self._note_backend(event)
            elif isinstance(event, Failed):
                return event
        return None

    def _told_or_seen(self, timing: Timing, now: float) -> Timing:
        """Where the time went; what can be seen from here, where the backend does not tell."""
        if timing.prefill or timing.decode:
            return timing
        first = self._first or now
        return Timing(prefill=first - self._exchange.began, decode=now - first)

    def _note_output(self, key: tuple[int, int], now: float, tokens: int) -> None:
        before = self._last.get(key)
        if before is not None:
            self._metrics.itl.observe(now - before)
        elif not self._last:
            self._first = now
            self._metrics.ttft.observe(now - self._exchange.began)
        self._last[key] = now
        self._generated += tokens

    def _note_backend(self, routed: Routed) -> None:
        """Say in the head who answers, and what it took to find it."""
        waited = (time.monotonic() - self._exchange.began) * 1000
        lines = (
            f"x-trunkline-backend: {routed.backend}\r\n"
            f"x-trunkline-model: {routed.model}\r\n"
            f"x-trunkline-retries: {routed.retries}\r\n"
            f"x-trunkline-fallbacks: {routed.fallbacks}\r\n"
            f"server-timing: ttfb;dur={waited:.1f}\r\n"
        )
        if routed.arm:
            lines += f"x-trunkline-arm: {routed.arm}\r\n"
        if routed.dropped:
            names = ", ".join(routed.dropped)
            lines += f'warning: 199 trunkline "not supported by the backend, left out: {names}"\r\n'
        self._head += lines.encode("latin-1", "replace")

    def _settle(self) -> None:
        """Count the tokens, whether or not all of them reached a client."""
        used = self._usage
        generated = used.completion_tokens if self._open == 0 else self._generated
        self._exchange.tokens = (used.prompt_tokens, generated)
        self._metrics.prompt_tokens.inc(used.prompt_tokens)
        self._metrics.generation_tokens.inc(generated)

    def _cancel(self) -> None:
        self._active.discard(self)
        for call in self.calls:
            call.cancel()


def _forget(renderer: Renderer) -> None:
    """Keeps nothing."""


def _longest(one: Timing, other: Timing) -> Timing:
    return Timing(
        max(one.queue, other.queue), max(one.prefill, other.prefill), max(one.decode, other.decode)
    )


def _sum(one: Usage, other: Usage) -> Usage:
    return Usage(
        one.prompt_tokens + other.prompt_tokens,
        one.completion_tokens + other.completion_tokens,
        one.cached_tokens + other.cached_tokens,
        one.reasoning_tokens + other.reasoning_tokens,
    )
