"""The hot routes: one call from its bytes to the last byte of its answer, without a task.

A body that a backend takes as it is passes without being decoded; every other is decoded here.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine, Mapping, Sequence
from typing import Any, cast

from msgspec.structs import replace

from trunkline.core.errors import InternalError, TrunklineError
from trunkline.core.types import (
    Event,
    EventSink,
    OnDemand,
    RawRequest,
    Request,
    Routed,
    Tokenization,
)
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.gateway.route import Route
from trunkline.server.generation import Active, Generation, Unopened, answer, routed_lines
from trunkline.server.http.exchange import Exchange, Headers
from trunkline.server.metrics import ServerMetrics
from trunkline.server.passage import Passage, passed
from trunkline.server.replies import Ids, id_line, respond_error
from trunkline.server.responses import StoredResponses
from trunkline.server.tracks import Track
from trunkline.wire.codec import Ask, Codec, Incoming, Lookup
from trunkline.wire.raw import Peeked, affinity_of, peek

log = logging.getLogger("trunkline.server")

# Header fields that are part of a dialect and go on with a relayed body.
_DIALECT_HEADERS = frozenset((b"anthropic-beta", b"anthropic-version", b"openai-beta"))
_NO_HEADERS: tuple[tuple[str, str], ...] = ()
_FIXED = ("always", "never")


class Generator:
    """Answers calls to generating routes."""

    def __init__(self, gateway: Gateway, metrics: ServerMetrics, stored: StoredResponses) -> None:
        self._gateway = gateway
        self._stored = stored
        self._metrics = metrics
        self.ids = Ids()
        # Calls under way.
        self._active: set[Active] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        gateway.leaving = self.hold_routes

    def handle(
        self,
        exchange: Exchange,
        codec: Codec,
        path: Mapping[str, str],
        chosen: Endpoint | None = None,
    ) -> None:
        """Decode, find a backend and begin; `path` are the variables of the route."""
        request_id = codec.id_prefix + self.ids.next()
        request = exchange.request
        fields = request.fields
        gateway = self._gateway
        try:
            tenant = gateway.keys.holder(fields)
            query = request.query.decode("latin-1") if request.query else ""
            came = Incoming(request.body, path, fields, query)
            request.body = b""
            peeked = None
            if codec.operation and gateway.relays(codec.operation):
                peeked = peek(came, streams=codec.streams == "unless_declined")
                if peeked is not None and self._relay(
                    exchange, codec, came, peeked, request_id, tenant, chosen=chosen
                ):
                    return
            asked = codec.decode(came)
            if getattr(asked, "recall", None) is not None:
                work = self._recalled(exchange, codec, asked, request_id, tenant)
                self._own(exchange, codec, request_id, work)
            else:
                affinity = ""
                if self._gateway.report is not None:
                    affinity = affinity_of(came) if peeked is None else peeked.affinity
                self._begin(exchange, codec, asked, request_id, tenant, affinity)
        except TrunklineError as error:
            respond_error(exchange, error, codec, request_id)

    def _begin(
        self,
        exchange: Exchange,
        codec: Codec,
        asked: Ask | Lookup,
        request_id: str,
        tenant: str,
        affinity: str = "",
    ) -> None:
        """Find the backend and give it the work. Raises `TrunklineError`.

        `affinity` is what the client gave to stay with one backend.
        """
        model = self._gateway.resolve(self._name(codec, asked.model))
        exchange.model = model.metric_name()
        if codec.looks_up:
            lookup = cast(Lookup, asked)
            question = lookup.question(request_id, model.name, tenant)
            work = self._looked_up(exchange, codec, lookup, model, question, request_id)
            self._own(exchange, codec, request_id, work)
            return
        ask = cast(Ask, asked)
        check = getattr(ask, "check", None)
        if check is not None:
            check(model.card())
        requests = ask.requests(request_id, model.name, tenant)
        if affinity:
            requests = tuple(replace(one, affinity=affinity) for one in requests)
        backend = model.backend
        if not requests and isinstance(backend, OnDemand):
            loaded = _load(backend, getattr(ask, "keep_alive", None))
            work = self._answer_when(loaded, exchange, codec, ask, model, request_id)
            self._own(exchange, codec, request_id, work)
            return
        self._generate(exchange, codec, ask, model, requests, request_id, tenant)
        keep_alive = getattr(ask, "keep_alive", None)
        if keep_alive is not None and isinstance(backend, OnDemand):
            # Only now: a model in use is not unloaded.
            backend.keep(keep_alive)

    def _generate(
        self,
        exchange: Exchange,
        codec: Codec,
        ask: Ask,
        model: ServedModel,
        requests: Sequence[Request],
        request_id: str,
        tenant: str,
    ) -> None:
        """Give the requests of a call to the backend; without any the answer is there."""
        generation = Generation(
            self._active,
            self._stored,
            exchange,
            codec,
            request_id,
            tenant,
            model,
            self._metrics.model(model.metric_name()),
            ask.stream,
            renderer=ask.renderer(answer(request_id, ask.model, model)),
            prompts=len(requests),
        )
        for index, one in enumerate(requests):
            sink = _PromptSink(generation, index) if index else generation
            generation.calls.append(model.backend.submit(one, sink))
        if not requests:
            generation.on_events(())

    def _name(self, codec: Codec, asked: str) -> str:
        """Which of the names that there are a client of this dialect means."""
        if codec.find_name is None:
            return asked
        return codec.find_name(asked, self._gateway.names()) or asked

    def _relay(
        self,
        exchange: Exchange,
        codec: Codec,
        came: Incoming,
        peeked: Peeked,
        request_id: str,
        tenant: str,
        kept_by: str | None = None,
        chosen: Endpoint | None = None,
    ) -> bool:
        """Pass the body on as it is, if the backend of its model takes it so.

        `kept_by`: who keeps the earlier response that it goes on from; "" = nobody knows, None =
        nobody has looked. `chosen` as of `handle`. Raises `TrunklineError`.
        """
        fields = peeked.fields
        if kept_by is None and codec.refers is not None and codec.refers(fields):
            work = self._referring(exchange, codec, came, peeked, request_id, tenant)
            self._own(exchange, codec, request_id, work)
            return True
        operation = codec.operation
        asked = peeked.model
        model = self._gateway.resolve(
            asked if codec.find_name is None else self._name(codec, asked)
        )
        backend = model.backend
        stream = peeked.stream
        if codec.streams in _FIXED:
            stream = codec.streams == "always"
        exchange.model = label = model.label or model.name
        plain = came.headers.keys().isdisjoint(_DIALECT_HEADERS)
        unopened = Unopened(codec, came, request_id, model.name, tenant)
        raw = RawRequest(
            id=request_id,
            operation=operation,
            model=model.name,
            asked_model=asked or model.name,
            stream=stream,
            fields=fields,
            headers=_NO_HEADERS if plain else _dialect_headers(exchange.request.headers),
            tenant=tenant,
            affinity=peeked.affinity,
            kept_by=kept_by or "",
            translate=unopened.request,
        )
        active, stored, metrics = self._active, self._stored, self._metrics.model(label)
        if type(backend) is Route and not (
            stream or kept_by or codec.kept is not None or "keep_alive" in fields
        ):
            on = (active, stored, metrics, model, backend, codec, came, raw, exchange.route, label)
            track = Track(self._gateway.epoch, *on, ways={})
            begun = passed(self._gateway, track, exchange, unopened, raw, chosen)
            if isinstance(begun, Passage):
                return True
            chosen = begun
        if not backend.relays(operation):
            return False
        generation = Generation(
            active, stored, exchange, codec, request_id, tenant, model, metrics, stream, unopened
        )
        sink: EventSink = generation
        if codec.kept is not None:
            sink = self._stored.watch(generation, codec.kept, tenant, raw.asked_model)
        if chosen:
            generation.calls.append(cast(Route, backend).relay(raw, sink, chosen))
        else:
            generation.calls.append(backend.relay(raw, sink))
        if "keep_alive" in fields and isinstance(backend, OnDemand):
            keep_alive = generation.keep_alive()
            if keep_alive is not None:
                backend.keep(keep_alive)
        return True

    def _own(
        self,
        exchange: Exchange,
        codec: Codec,
        request_id: str,
        work: Coroutine[Any, Any, None],
    ) -> None:
        """Run `work`, which is to answer, for as long as the client waits."""
        sure = _answered(exchange, codec, request_id, work)
        task = asyncio.get_running_loop().create_task(sure)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

        def gone() -> None:
            task.cancel()

        exchange.on_gone = gone

    async def _referring(
        self,
        exchange: Exchange,
        codec: Codec,
        came: Incoming,
        peeked: Peeked,
        request_id: str,
        tenant: str,
    ) -> None:
        """Answer a body that goes on from an earlier response: where that is kept."""
        assert codec.refers is not None
        try:
            keeper = await self._stored.keeper(tenant, codec.refers(peeked.fields))
            if keeper is not None and self._relay(
                exchange, codec, came, peeked, request_id, tenant, keeper
            ):
                return
            asked = codec.decode(came)
        except TrunklineError as error:
            respond_error(exchange, error, codec, request_id)
            return
        await self._recalled(exchange, codec, asked, request_id, tenant, peeked.affinity)

    async def _recalled(
        self,
        exchange: Exchange,
        codec: Codec,
        asked: Any,
        request_id: str,
        tenant: str,
        affinity: str = "",
    ) -> None:
        try:
            found: Ask | Lookup = await self._stored.recall(asked, tenant)
            self._begin(exchange, codec, found, request_id, tenant, affinity)
        except TrunklineError as error:
            respond_error(exchange, error, codec, request_id)

    async def _answer_when(
        self,
        done: Coroutine[Any, Any, None],
        exchange: Exchange,
        codec: Codec,
        ask: Ask,
        model: ServedModel,
        request_id: str,
    ) -> None:
        """Answer a call that has no requests once something is done."""
        try:
            await done
        except TrunklineError as error:
            respond_error(exchange, error, codec, request_id)
        else:
            self._generate(exchange, codec, ask, model, (), request_id, "")

    async def _looked_up(
        self,
        exchange: Exchange,
        codec: Codec,
        lookup: Lookup,
        model: ServedModel,
        question: Request | tuple[int, ...],
        request_id: str,
    ) -> None:
        try:
            found = await self._answer(model, question)
            body = lookup.render(found)
        except TrunklineError as error:
            respond_error(exchange, error, codec, request_id)
        else:
            # Where no route chooses, the model itself answers.
            routed = found.routed or Routed(request_id, model.name, model.name)
            lines = id_line(request_id) + routed_lines(routed, time.monotonic() - exchange.began)
            exchange.respond(200, body, codec.whole_type, lines)

    async def _answer(
        self, model: ServedModel, question: Request | tuple[int, ...]
    ) -> Tokenization:
        if isinstance(question, tuple):
            return await model.backend.detokenize(question)
        return await model.backend.tokenize(question)

    def hold_routes(self) -> None:
        """Have the routes count every call under way, as they are about to be replaced."""
        for call in tuple(self._active):
            call.hold_route()

    def cut(self, error: TrunklineError) -> None:
        """End every call under way with `error`."""
        for generation in list(self._active):
            generation.give_up(error)
        for task in list(self._tasks):
            task.cancel()


async def _answered(
    exchange: Exchange, codec: Codec, request_id: str, work: Coroutine[Any, Any, None]
) -> None:
    """`work`; the client gets an answer also where that fails by a fault of ours."""
    try:
        await work
    except Exception:
        log.exception("%s failed", request_id)
        if exchange.started:
            exchange.abort()
        else:
            respond_error(exchange, InternalError("a fault of this server"), codec, request_id)


async def _load(backend: OnDemand, keep_alive: float | None) -> None:
    """Load or unload, as a call that asks for nothing else wants it. Raises `TrunklineError`."""
    if keep_alive == 0:
        backend.unload()
        return
    await backend.load()
    if keep_alive is not None:
        backend.keep(keep_alive)


def _dialect_headers(headers: Headers) -> tuple[tuple[str, str], ...]:
    """Those of `headers` that go on.

    Betas may have a line each, as Anthropic's client for Go sends them: together they are a list.
    """
    found: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in found and name.endswith(b"-beta"):
            found[name] += b", " + value
        elif name in _DIALECT_HEADERS:
            found.setdefault(name, value)
    return tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in found.items())


class _PromptSink:
    """Takes the events of a further request of a call."""

    __slots__ = ("_generation", "_prompt")

    def __init__(self, generation: Generation, prompt: int) -> None:
        self._generation = generation
        self._prompt = prompt

    def on_events(self, events: Sequence[Event]) -> None:
        """Hand on."""
        self._generation.on_events(events, self._prompt)
