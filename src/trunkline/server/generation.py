"""One call on a hot route, from the first event of its backend to the last byte of its answer.

Events are delivered on the event loop; what they render to is written at once, in one piece per
batch of events. What a backend relays passes as it is.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Sequence
from typing import Protocol, cast

import msgspec
from msgspec.structs import replace

from trunkline.core.errors import PreviousNotFound, TrunklineError, Unsupported, from_info
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    Failed,
    Relayed,
    Request,
    Resumed,
    Routed,
    RowFinished,
    Timing,
    Usage,
)
from trunkline.gateway.gateway import ServedModel
from trunkline.gateway.route import Route
from trunkline.gateway.tally import bounded
from trunkline.server.http.exchange import EVENT_STREAM_HEADERS, Exchange
from trunkline.server.metrics import ModelMetrics
from trunkline.server.replies import id_line, respond_error
from trunkline.server.responses import StoredResponses
from trunkline.wire.codec import Answer, Ask, Codec, Incoming, Renderer, Successor
from trunkline.wire.raw import affinity_of

log = logging.getLogger("trunkline.server")

# Content type of the streams that may have comments, and one: readers of events pass it over.
_EVENTS = b"text/event-stream"
_COMMENT = b": keep-alive\n\n"


# Events of a whole answer that is relayed: who gives it, its bytes, its end.
_WHOLE = 3
# Most characters of a name in a header field.
_LONGEST_FIELD = 256
_NO_USAGE = Usage(0, 0)
_NO_TIMING = Timing()


class Active(Protocol):
    """A call under way, whatever holds it."""

    def give_up(self, error: TrunklineError) -> None:
        """End it with `error`, however far it has come."""

    def hold_route(self) -> None:
        """The configuration is about to change: have its route count it (`Route.calls`)."""


class Unopened(msgspec.Struct, eq=False):
    """A relayed body, decoded once somebody needs what is in it."""

    codec: Codec
    came: Incoming
    request_id: str
    # The model's own name, and the key's holder.
    model: str
    tenant: str
    _ask: Ask | None = None

    def ask(self) -> Ask:
        """What came. Raises `InvalidRequest`."""
        if self._ask is None:
            ask = cast(Ask, self.codec.decode(self.came))
            if getattr(ask, "recall", None) is not None:
                raise PreviousNotFound(
                    "The earlier response is kept by a backend that cannot answer now.",
                    param="previous_response_id",
                )
            self._ask = ask
        return self._ask

    def request(self) -> Request:
        """The call as core type. Raises `InvalidRequest`."""
        requests = self.ask().requests(self.request_id, self.model, self.tenant)
        if not requests:
            raise Unsupported("A request without a prompt: what answers cannot be told to load.")
        return replace(requests[0], affinity=affinity_of(self.came))


class Generation:
    """One call under way; it may hold several requests, one per prompt.

    It takes the events of the first request itself.
    """

    __slots__ = (
        "_active",
        "_codec",
        "_exchange",
        "_first",
        "_found",
        "_generated",
        "_last",
        "_metrics",
        "_model",
        "_open",
        "_relayed",
        "_relayed_at",
        "_stored",
        "_stream",
        "_tenant",
        "_timing",
        "_unopened",
        "_usage",
        "_wrote",
        "calls",
        "renderer",
        "request_id",
    )

    def __init__(
        self,
        active: set[Active],
        stored: StoredResponses,
        exchange: Exchange,
        codec: Codec,
        request_id: str,
        tenant: str,
        model: ServedModel,
        metrics: ModelMetrics,
        stream: bool,
        unopened: Unopened | None = None,
        renderer: Renderer | None = None,
        prompts: int = 1,
    ) -> None:
        """`unopened` of a call that is relayed, `renderer` of one that has been decoded."""
        self._active = active
        self._stored = stored
        self._exchange = exchange
        self._codec = codec
        self.request_id = request_id
        self._tenant = tenant
        self._model = model
        self._metrics = metrics
        self._stream = stream
        self._unopened = unopened
        # None while nothing but relayed bytes has come.
        self.renderer = renderer
        # Requests that have not completed.
        self._open = prompts
        self._usage = _NO_USAGE
        self._timing = _NO_TIMING
        # Lines for the head of the response: who answers.
        self._found = b""
        # time.monotonic() of the first output; 0 = there was none.
        self._first = 0.0
        # Output tokens seen so far, for calls that never complete.
        self._generated = 0
        # time.monotonic() when the client last got something; before that, when it asked.
        self._wrote = exchange.began
        # time.monotonic() of the last output that was relayed; 0 = there was none.
        self._relayed_at = 0.0
        # (prompt, row) -> time.monotonic() of its last output.
        self._last: dict[tuple[int, int], float] = {}
        # Pieces of a whole answer that is relayed.
        self._relayed: list[bytes] = []
        self.calls: list[Call] = []
        active.add(self)
        exchange.on_gone = self.gone
        if stream and codec.stream_type.startswith(_EVENTS):
            exchange.on_tick = self._break_silence

    def on_events(self, events: Sequence[Event], prompt: int = 0) -> None:
        """Count, render and send events of request number `prompt`."""
        exchange = self._exchange
        if exchange.closed:
            return
        now = time.monotonic()
        if len(events) == 1 and self._relayed_at and self._stream:
            event = events[0]
            if type(event) is Relayed:
                # The next piece of a stream: most of what ever comes.
                self._metrics.itl.observe(now - self._relayed_at)
                self._relayed_at = self._wrote = now
                self._generated += event.tokens
                exchange.write(event.data)
                return
        if len(events) == _WHOLE and type(events[1]) is Relayed and self._pass(events, now):
            return
        relayed = b""
        core: list[Event] = []
        for event in events:
            if type(event) is Relayed:
                relayed = relayed + event.data if relayed else event.data
                self._note_relayed(now, event.tokens)
                continue
            if type(event) is Routed:
                self._note_backend(event, now)
                continue
            if type(event) is Failed:
                self.give_up(from_info(event.error))
                return
            if type(event) is Resumed:
                self._succeed(prompt, event)
                continue
            if type(event) is Completed:
                self._note_completed(event, now)
                if self.renderer is None:
                    continue
            else:
                if self.renderer is None:
                    self._made_renderer()
                if type(event) is Delta:
                    self._note_output((prompt, event.row), now, len(event.token_ids))
                elif type(event) is RowFinished:
                    self._metrics.success(event.reason).inc()
            core.append(event)
        if core and self.renderer is not None:
            relayed += self.renderer.take(prompt, core)
        if self._open == 0:
            self._complete(relayed, now)
        elif relayed:
            self._send(relayed, now)

    def _pass(self, events: Sequence[Event], now: float) -> bool:
        """Send a whole answer that is relayed and came at once. False: it is something else."""
        routed, relayed, completed = events
        if (
            type(routed) is not Routed
            or type(relayed) is not Relayed
            or type(completed) is not Completed
            or self._stream
            or self._open != 1
            or self.renderer is not None
            or self._relayed
        ):
            return False
        self._active.discard(self)
        self.calls.clear()
        exchange = self._exchange
        took = now - exchange.began
        lines = id_line(self.request_id) + self._found + routed_lines(routed, took)
        metrics, usage = self._metrics, completed.usage
        metrics.ttft.observe(took)
        metrics.e2e.observe(took)
        _count(exchange, metrics, usage.prompt_tokens, usage.completion_tokens)
        exchange.respond(200, relayed.data, self._codec.whole_type, lines)
        return True

    def _send(self, data: bytes, now: float) -> None:
        if not self._stream:
            self._relayed.append(data)
            return
        if not self._exchange.started:
            self._begin_stream()
        self._exchange.write(data)
        self._wrote = now

    def keep_alive(self) -> float | None:
        """How long a relayed call wants its model kept, in seconds, where it says so."""
        with contextlib.suppress(TrunklineError):
            found: float | None = getattr(self._decoded(), "keep_alive", None)
            return found
        return None

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

    def _succeed(self, prompt: int, event: Resumed) -> None:
        """Render what follows on relayed bytes; what these say the client has already."""
        renderer = self._made_renderer()
        if isinstance(renderer, Successor):
            renderer.succeed(event.relayed)
        renderer.take(prompt, [event.sent])

    def _made_renderer(self) -> Renderer:
        """Made when the first event comes that needs one.

        Only then is it known that what answers does not relay.
        """
        if self.renderer is None:
            ask = self._decoded()
            self.renderer = ask.renderer(answer(self.request_id, ask.model, self._model))
        return self.renderer

    def _decoded(self) -> Ask:
        assert self._unopened is not None
        return self._unopened.ask()

    def _begin_stream(self) -> None:
        lines = EVENT_STREAM_HEADERS + id_line(self.request_id) + self._who()
        self._exchange.begin(200, self._codec.stream_type, lines)

    def hold_route(self) -> None:
        """As of `Active`: it always is."""

    def give_up(self, error: TrunklineError) -> None:
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
            respond_error(exchange, error, self._codec, self.request_id, self._found)

    def gone(self) -> None:
        """The client has left: stop the work."""
        self._cancel()
        self._settle()

    def _complete(self, data: bytes, now: float) -> None:
        exchange = self._exchange
        self._active.discard(self)
        # As in `_cancel`.
        self.calls.clear()
        self._settle()
        self._metrics.e2e.observe(now - exchange.began)
        extra = b""
        renderer = self.renderer
        if renderer is not None:
            data += renderer.finish(self._usage, self._timing)
            self._stored.keep(renderer, self._tenant)
            extra = self._codec.headers(self._usage, self._timing)
        if not self._stream:
            if self._relayed:
                data = b"".join((*self._relayed, data))
            lines = id_line(self.request_id) + self._who() + extra
            exchange.respond(200, data, self._codec.whole_type, lines)
            return
        if not exchange.started:
            self._begin_stream()
        exchange.end(data)

    def _note_completed(self, event: Completed, now: float) -> None:
        self._open -= 1
        used = self._usage
        self._usage = event.usage if used is _NO_USAGE else _sum(used, event.usage)
        if self.renderer is None:
            return
        timing = event.timing
        if not (timing.prefill or timing.decode):
            # What can be seen from here, where the backend does not tell.
            first = self._first or now
            timing = Timing(prefill=first - self._exchange.began, decode=now - first)
        known = self._timing
        self._timing = timing if known is _NO_TIMING else _longest(known, timing)

    def _note_relayed(self, now: float, tokens: int) -> None:
        if self._relayed_at:
            self._metrics.itl.observe(now - self._relayed_at)
        else:
            self._first = now
            self._metrics.ttft.observe(now - self._exchange.began)
        self._relayed_at = now
        self._generated += tokens

    def _note_output(self, key: tuple[int, int], now: float, tokens: int) -> None:
        # Where a relayed answer goes on in events, its one row does.
        before = self._last.get(key) or self._relayed_at
        if before:
            self._metrics.itl.observe(now - before)
        elif not self._first:
            self._first = now
            self._metrics.ttft.observe(now - self._exchange.began)
        self._last[key] = now
        self._generated += tokens

    def _note_backend(self, routed: Routed, now: float) -> None:
        """Say in the head who answers, and what it took to find it."""
        self._found += routed_lines(routed, now - self._exchange.began)

    def _who(self) -> bytes:
        """Lines for the head: who answers. Where no route chooses, the model itself does."""
        model = self._model
        if not self._found and not isinstance(model.backend, Route):
            here = Routed(self.request_id, model.name, model.name)
            self._note_backend(here, time.monotonic())
        return self._found

    def _settle(self) -> None:
        """Count the tokens, whether or not all of them reached a client."""
        used = self._usage
        generated = used.completion_tokens if self._open == 0 else self._generated
        _count(self._exchange, self._metrics, used.prompt_tokens, generated)

    def _cancel(self) -> None:
        self._active.discard(self)
        for call in self.calls:
            call.cancel()
        # They know this call: nothing is to keep them and it alive.
        self.calls.clear()


def _count(exchange: Exchange, metrics: ModelMetrics, prompt: int, generated: int) -> None:
    """Count tokens; another server may tell any number of them."""
    prompt, generated = bounded(prompt), bounded(generated)
    exchange.tokens = (prompt, generated)
    metrics.prompt_tokens.inc(prompt)
    metrics.generation_tokens.inc(generated)


def answer(request_id: str, asked: str, model: ServedModel) -> Answer:
    """What the response to a call says of itself; `asked`: the client's name of the model."""
    return Answer(request_id, asked or model.name, int(time.time()), model.fingerprint())


def routed_lines(routed: Routed, waited: float) -> bytes:
    """Lines of a head that say who answers, and what it took."""
    return routed_form(
        routed.backend,
        routed.model,
        routed.retries,
        routed.fallbacks,
        routed.arm,
        routed.dropped,
    ) % (waited * 1000)


@functools.lru_cache(maxsize=256)
def routed_form(
    backend: str,
    model: str,
    retries: int = 0,
    fallbacks: int = 0,
    arm: str = "",
    dropped: tuple[str, ...] = (),
) -> bytes:
    """Lines of a head that say who answers, but for the milliseconds that it took: a format."""
    lines = (
        f"x-trunkline-backend: {_field(backend)}\r\n"
        f"x-trunkline-model: {_field(model)}\r\n"
        f"x-trunkline-retries: {retries}\r\n"
        f"x-trunkline-fallbacks: {fallbacks}\r\n"
    )
    more = f"x-trunkline-arm: {_field(arm)}\r\n" if arm else ""
    if dropped:
        # Some come out of what the client sent.
        names = ", ".join(_field(name).replace('"', "'") for name in dropped)
        more += f'warning: 199 trunkline "not supported by the backend, left out: {names}"\r\n'
    before, after = (text.replace("%", "%%") for text in (lines, more))
    return f"{before}server-timing: ttfb;dur=%.1f\r\n{after}".encode("latin-1", "replace")


def _field(text: str) -> str:
    """`text` as the value of a header field: clients and backends make up names of models."""
    shown = text if text.isprintable() else "".join(c if c.isprintable() else "?" for c in text)
    return shown[:_LONGEST_FIELD]


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
        one.cache_write_tokens + other.cache_write_tokens,
    )
