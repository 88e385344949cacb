"""The hot routes: one call from its bytes to the last byte of its answer, without a task.

The backend delivers events on the event loop; what they render to is written at once, in one piece
per batch of events.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import secrets
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, cast

from trunkline.core.errors import TrunklineError, from_info
from trunkline.core.types import (
    Call,
    Completed,
    Delta,
    Event,
    Failed,
    Request,
    RowFinished,
    Timing,
    Tokenization,
    Usage,
)
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.server.http.exchange import (
    EVENT_STREAM_HEADERS,
    JSON,
    Exchange,
    HttpRequest,
)
from trunkline.server.metrics import ModelMetrics, ServerMetrics
from trunkline.server.responses import StoredResponses
from trunkline.wire.codec import Answer, Ask, Codec, Incoming, Lookup, Renderer

log = logging.getLogger("trunkline.server")


class Generator:
    """Answers calls to generating routes."""

    def __init__(self, gateway: Gateway, metrics: ServerMetrics, stored: StoredResponses) -> None:
        self._gateway = gateway
        self._stored = stored
        self._metrics = metrics
        # Calls under way.
        self._active: set[Generation] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(
        self, exchange: Exchange, codec: Codec, path: Mapping[str, str] | None = None
    ) -> None:
        """Decode, find a backend and begin; `path` are the variables of the route."""
        request_id = codec.id_prefix + secrets.token_hex(12)
        request = exchange.request
        try:
            tenant = self._gateway.keys.tenant(
                request.header(b"authorization"), request.header(b"x-api-key")
            )
            asked = codec.decode(incoming(request, path))
            request.body = b""
            if getattr(asked, "recall", None) is not None:
                self._own(exchange, self._recalled(exchange, codec, asked, request_id, tenant))
            else:
                self._begin(exchange, codec, asked, request_id, tenant)
        except TrunklineError as error:
            respond_error(exchange, error, codec, id_line(request_id))

    def _begin(
        self, exchange: Exchange, codec: Codec, asked: Ask | Lookup, request_id: str, tenant: str
    ) -> None:
        """Find the backend and give it the work. Raises `TrunklineError`."""
        name = asked.model
        if codec.find_name is not None:
            name = codec.find_name(name, self._gateway.names()) or name
        model = self._gateway.resolve(name)
        exchange.model = model.name
        if codec.looks_up:
            lookup = cast(Lookup, asked)
            question = lookup.question(request_id, model.name, tenant)
            self._own(exchange, self._looked_up(exchange, codec, lookup, model, question))
            return
        ask = cast(Ask, asked)
        check = getattr(ask, "check", None)
        if check is not None:
            check(model.card())
        requests = ask.requests(request_id, model.name, tenant)
        answer = Answer(request_id, ask.model or model.name, int(time.time()), model.fingerprint())
        metrics = self._metrics.model(model.name)
        generation = Generation(self._active, exchange, codec, ask, answer, metrics, len(requests))
        generation.keep = functools.partial(self._stored.keep, tenant=tenant)
        self._active.add(generation)
        exchange.on_gone = generation.gone
        for index, one in enumerate(requests):
            generation.calls.append(model.backend.submit(one, _PromptSink(generation, index)))
        if not requests:
            generation.take(0, ())

    def _own(self, exchange: Exchange, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` for as long as the client waits."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def gone() -> None:
            task.cancel()

        exchange.on_gone = gone

    async def _recalled(
        self, exchange: Exchange, codec: Codec, asked: Any, request_id: str, tenant: str
    ) -> None:
        try:
            found: Ask | Lookup = await self._stored.recall(asked, tenant)
            self._begin(exchange, codec, found, request_id, tenant)
        except TrunklineError as error:
            respond_error(exchange, error, codec, id_line(request_id))

    async def _looked_up(
        self,
        exchange: Exchange,
        codec: Codec,
        lookup: Lookup,
        model: ServedModel,
        question: Request | tuple[int, ...],
    ) -> None:
        try:
            body = lookup.render(await self._answer(model, question))
        except TrunklineError as error:
            respond_error(exchange, error, codec)
        else:
            exchange.respond(200, body, codec.whole_type)

    async def _answer(
        self, model: ServedModel, question: Request | tuple[int, ...]
    ) -> Tokenization:
        if isinstance(question, tuple):
            return await model.backend.detokenize(question)
        return await model.backend.tokenize(question)

    def cut(self, error: TrunklineError) -> None:
        """End every call under way with `error`."""
        for generation in list(self._active):
            generation.fail(error)
        for task in list(self._tasks):
            task.cancel()


class Generation:
    """One call under way; it may hold several requests, one per prompt."""

    __slots__ = (
        "_active",
        "_ask",
        "_codec",
        "_exchange",
        "_generated",
        "_head",
        "_last",
        "_metrics",
        "_open",
        "_renderer",
        "_stream",
        "_timing",
        "_usage",
        "calls",
        "keep",
    )

    def __init__(
        self,
        active: set[Generation],
        exchange: Exchange,
        codec: Codec,
        ask: Ask,
        answer: Answer,
        metrics: ModelMetrics,
        prompts: int,
    ) -> None:
        self._active = active
        self._exchange = exchange
        self._codec = codec
        self._renderer: Renderer = ask.renderer(answer)
        self._stream = ask.stream
        self._head = id_line(answer.id)
        self._metrics = metrics
        # Requests that have not completed.
        self._open = prompts
        self._usage = Usage(0, 0)
        self._timing = Timing()
        # Output tokens seen so far, for calls that never complete.
        self._generated = 0
        # (prompt, row) -> time.monotonic() of its last output.
        self._last: dict[tuple[int, int], float] = {}
        self.calls: list[Call] = []
        # Told of the renderer once it has finished, before its last bytes leave.
        self.keep: Callable[[Renderer], None] = _forget

    def take(self, prompt: int, events: Sequence[Event]) -> None:
        """Render and send events of request number `prompt`."""
        exchange = self._exchange
        if exchange.closed:
            return
        failed = self._observe(prompt, events)
        if failed is not None:
            self.fail(from_info(failed.error))
            return
        data = self._renderer.take(prompt, events)
        if self._open == 0:
            self._complete(data)
        elif self._stream and data:
            if not exchange.started:
                self._begin_stream()
            exchange.write(data)

    def _begin_stream(self) -> None:
        self._exchange.begin(200, self._codec.stream_type, EVENT_STREAM_HEADERS + self._head)

    def fail(self, error: TrunklineError) -> None:
        """End the call with `error`, however far it has come."""
        exchange = self._exchange
        self._cancel()
        if exchange.closed:
            return
        if error.status >= 500:
            log.warning("%s: %s", exchange.request.path, error.message)
        self._settle()
        if exchange.started:
            exchange.status = error.status
            # A dialect whose events are numbered goes on counting.
            ending = getattr(self._renderer, "fail", self._codec.stream_error)
            exchange.end(ending(error), broken=True)
        else:
            respond_error(exchange, error, self._codec, self._head)

    def gone(self) -> None:
        """The client has left: stop the work."""
        self._cancel()
        self._settle()

    def _complete(self, data: bytes) -> None:
        exchange = self._exchange
        self._active.discard(self)
        self._settle()
        self._metrics.e2e.observe(time.monotonic() - exchange.began)
        last = data + self._renderer.finish(self._usage, self._timing)
        self.keep(self._renderer)
        if not self._stream:
            extra = self._codec.headers(self._usage, self._timing)
            exchange.respond(200, last, self._codec.whole_type, self._head + extra)
            return
        if not exchange.started:
            self._begin_stream()
        exchange.end(last)

    def _observe(self, prompt: int, events: Sequence[Event]) -> Failed | None:
        """Count what `events` bring; returns the failure among them, if there is one."""
        now = time.monotonic()
        for event in events:
            if isinstance(event, Delta):
                key = (prompt, event.row)
                before = self._last.get(key)
                if before is not None:
                    self._metrics.itl.observe(now - before)
                elif not self._last:
                    self._metrics.ttft.observe(now - self._exchange.began)
                self._last[key] = now
                self._generated += len(event.token_ids)
            elif isinstance(event, RowFinished):
                self._metrics.success(event.reason).inc()
            elif isinstance(event, Completed):
                self._open -= 1
                self._usage = _sum(self._usage, event.usage)
                self._timing = _longest(self._timing, event.timing)
            elif isinstance(event, Failed):
                return event
        return None

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


class _PromptSink:
    """Takes the events of one request of a call."""

    __slots__ = ("_generation", "_prompt")

    def __init__(self, generation: Generation, prompt: int) -> None:
        self._generation = generation
        self._prompt = prompt

    def on_events(self, events: Sequence[Event]) -> None:
        """Hand on."""
        self._generation.take(self._prompt, events)


def respond_error(
    exchange: Exchange, error: TrunklineError, codec: Codec, headers: bytes = b""
) -> None:
    """Answer with `error` in the dialect of `codec`."""
    exchange.respond(codec.status(error), codec.error(error), JSON, headers + retry_line(error))


def id_line(request_id: str) -> bytes:
    """The header by which a client and its provider speak of a request."""
    name = request_id.encode()
    # OpenAI's spelling, and Anthropic's.
    return b"x-request-id: %b\r\nrequest-id: %b\r\n" % (name, name)


def retry_line(error: TrunklineError) -> bytes:
    """`Retry-After`, in whole seconds, where a retry makes sense."""
    if error.retry_after is None:
        return b""
    return b"retry-after: %d\r\n" % max(1, math.ceil(error.retry_after))


def incoming(request: HttpRequest, path: Mapping[str, str] | None = None) -> Incoming:
    """What a codec sees of `request`; `path` are the variables of its route."""
    headers: dict[str, str] = {}
    for name, value in request.headers:
        headers.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    return Incoming(request.body, path or {}, headers, request.query.decode("latin-1"))


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
