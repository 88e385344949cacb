"""Stored responses of the Responses API: found for new requests, kept, and shown.

    asked = await stored.recall(asked, tenant)      before a request that leans on earlier ones
    stored.keep(renderer, tenant)                   after `renderer.finish`, before its bytes leave
    sink = stored.watch(sink, codec.kept, tenant, model)        of an answer that is relayed

A relayed response is kept by the backend that made it, and it is asked; here stands who that is.
The other methods are endpoints of the routes of the same names.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trunkline.core.errors import (
    InvalidRequest,
    NotFound,
    PreviousNotFound,
    Unsupported,
    response_not_found,
)
from trunkline.core.types import Event, EventSink, Keeper, KeptAsk, Relayed, Routed
from trunkline.gateway.gateway import Gateway
from trunkline.state.makers import Maker, Makers
from trunkline.state.responses import ResponseStore
from trunkline.wire.codec import Renderer
from trunkline.wire.openai.responses import Recalling, listed_items
from trunkline.wire.openai.responses_answer import ResponseRenderer
from trunkline.wire.passing import renamed

T = TypeVar("T")

_JSON = "application/json"
# Items of one page: OpenAI's bounds.
_PAGE = 20
_MAX_PAGE = 100


class StoredResponses:
    """Between the store and those who use it."""

    def __init__(self, store: ResponseStore, makers: Makers, gateway: Gateway) -> None:
        self._store = store
        self._makers = makers
        self._gateway = gateway

    async def recall(self, asked: Recalling[T], tenant: str) -> T:
        """`asked` with what its `recall` names. Raises `InvalidRequest` and `Unavailable`."""
        needed = asked.recall
        assert needed is not None
        previous = needed.previous
        try:
            chain = await self._store.chain(tenant, previous) if previous is not None else ()
        except NotFound as error:
            problem = f"Previous response with id '{(previous or '')[:100]}' not found."
            raise PreviousNotFound(problem, param="previous_response_id") from error
        try:
            holders = await self._store.holders(tenant, needed.items)
        except NotFound as error:
            raise InvalidRequest(error.message, param="input") from error
        return asked.recalled(chain, holders)

    def keep(self, renderer: Renderer, tenant: str) -> None:
        """Store what `renderer` has finished, if it is a response that is to be stored."""
        if isinstance(renderer, ResponseRenderer):
            response = renderer.stored()
            if response is not None:
                self._store.put(tenant, response)

    def watch(
        self, sink: EventSink, kept: Callable[[bytes], str], tenant: str, model: str
    ) -> EventSink:
        """Takes the events of a relayed response for `sink`, and notes who keeps it.

        `kept` finds its id, `model` is the client's name of the model.
        """

        def note(response_id: str, backend: str) -> None:
            self._makers.put(tenant, response_id, Maker(backend, model))

        return _Watched(sink, kept, note)

    async def keeper(self, tenant: str, response_id: str) -> str | None:
        """Name of the backend that keeps a response; "" = nobody knows, None = it is here.

        Raises `Unavailable`.
        """
        try:
            await self._store.get(tenant, response_id)
        except NotFound:
            maker = await self._makers.get(tenant, response_id)
            return "" if maker is None else maker.backend
        return None

    async def response(self, request: Request) -> Response:
        """`GET /v1/responses/{response_id}`."""
        if request.query_params.get("stream") == "true":
            problem = "A response cannot be streamed again; ask for it without 'stream'."
            raise Unsupported(problem, param="stream")
        tenant, response_id = self._tenant(request), _id(request)
        try:
            body = (await self._store.get(tenant, response_id)).body
        except NotFound:
            return await self._there(tenant, KeptAsk(response_id, "get", request.url.query))
        return Response(body, media_type=_JSON)

    async def response_delete(self, request: Request) -> Response:
        """`DELETE /v1/responses/{response_id}`."""
        tenant, response_id = self._tenant(request), _id(request)
        try:
            await self._store.delete(tenant, response_id)
        except NotFound:
            answer = await self._there(tenant, KeptAsk(response_id, "delete"))
            await self._makers.forget(tenant, response_id)
            return answer
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    async def response_cancel(self, request: Request) -> Response:
        """`POST /v1/responses/{response_id}/cancel`: what is stored here has ended already."""
        tenant, response_id = self._tenant(request), _id(request)
        try:
            await self._store.get(tenant, response_id)
        except NotFound:
            return await self._there(tenant, KeptAsk(response_id, "cancel"))
        raise InvalidRequest("Cannot cancel a synchronous response.")

    async def response_input_items(self, request: Request) -> Response:
        """`GET /v1/responses/{response_id}/input_items`: all that the model was told, paged."""
        tenant, response_id = self._tenant(request), _id(request)
        try:
            chain = await self._store.chain(tenant, response_id)
        except NotFound:
            ask = KeptAsk(response_id, "input_items", request.url.query)
            return await self._there(tenant, ask)
        items = [item for response in chain[:-1] for item in listed_items(response)]
        sent = len(json.loads(chain[-1].input))
        items += listed_items(chain[-1])[:sent]
        limit, after, ascending = _page(request.query_params)
        if not ascending:
            items.reverse()
        ids = [item.id or "" for item in items]
        begin = 0
        if after is not None:
            if after not in ids:
                raise InvalidRequest(f"No item has the id '{after[:100]}'.", param="after")
            begin = ids.index(after) + 1
        shown = items[begin : begin + limit]
        head = {
            "object": "list",
            "first_id": ids[begin] if shown else None,
            "last_id": ids[begin + len(shown) - 1] if shown else None,
            "has_more": begin + len(shown) < len(items),
        }
        data = b",".join(item.raw for item in shown)
        body = b'%b,"data":[%b]}' % (json.dumps(head)[:-1].encode(), data)
        return Response(body, media_type=_JSON)

    async def _there(self, tenant: str, ask: KeptAsk) -> Response:
        """What the backend that made a response says. Raises `NotFound` and what that raises."""
        maker = await self._makers.get(tenant, ask.response_id)
        if maker is not None:
            backend = self._gateway.backends().get(maker.backend)
            if backend is not None and isinstance(backend, Keeper):
                body = renamed(await backend.kept(ask), maker.model)
                # As the lines of other answers that say who gave them.
                named = {"x-trunkline-backend": maker.backend}
                return Response(body, headers=named, media_type=_JSON)
        raise response_not_found(ask.response_id)

    def _tenant(self, request: Request) -> str:
        return self._gateway.keys.holder_of(request.headers)


class _Watched:
    """Implements `EventSink`: looks for who keeps a response until it is known."""

    __slots__ = ("_backend", "_kept", "_note", "_sink")

    def __init__(
        self, sink: EventSink, kept: Callable[[bytes], str], note: Callable[[str, str], None]
    ) -> None:
        self._sink = sink
        self._kept = kept
        # None: there is nothing more to look for.
        self._note: Callable[[str, str], None] | None = note
        self._backend = ""

    def on_events(self, events: Sequence[Event]) -> None:
        """Hand on."""
        if self._note is not None:
            for event in events:
                if isinstance(event, Routed):
                    self._backend = event.backend
                elif isinstance(event, Relayed) and self._note is not None:
                    response_id = self._kept(event.data)
                    if response_id and self._backend:
                        self._note(response_id, self._backend)
                    self._note = None
        self._sink.on_events(events)


def _id(request: Request) -> str:
    found: str = request.path_params["response_id"]
    return found


def _page(query: Mapping[str, str]) -> tuple[int, str | None, bool]:
    """Number of items, the one before them, and whether the oldest come first."""
    limit = query.get("limit", str(_PAGE))
    if not (limit.isascii() and limit.isdecimal() and 1 <= int(limit[:9]) <= _MAX_PAGE):
        raise InvalidRequest(f"'limit' must be between 1 and {_MAX_PAGE}.", param="limit")
    order = query.get("order", "desc")
    if order not in ("asc", "desc"):
        raise InvalidRequest("'order' must be 'asc' or 'desc'.", param="order")
    return int(limit), query.get("after"), order == "asc"
