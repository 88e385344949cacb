"""Stored responses of the Responses API: found for new requests, kept, and shown.

    asked = await stored.recall(asked, tenant)      before a request that leans on earlier ones
    stored.keep(renderer, tenant)                   after `renderer.finish`, before its bytes leave

The other methods are endpoints of the routes of the same names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from trunkline.core.errors import InvalidRequest, NotFound, PreviousNotFound, Unsupported
from trunkline.gateway.keys import Keys
from trunkline.state.responses import ResponseStore
from trunkline.wire.codec import Renderer
from trunkline.wire.openai.responses import Recalling, listed_items
from trunkline.wire.openai.responses_answer import ResponseRenderer

T = TypeVar("T")

_JSON = "application/json"
# Items of one page: OpenAI's bounds.
_PAGE = 20
_MAX_PAGE = 100


class StoredResponses:
    """Between the store and those who use it."""

    def __init__(self, store: ResponseStore, keys: Keys) -> None:
        self._store = store
        self._keys = keys

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

    async def response(self, request: Request) -> Response:
        """`GET /v1/responses/{response_id}`."""
        if request.query_params.get("stream") == "true":
            problem = "Only background responses can be streamed again; there are none here."
            raise Unsupported(problem, param="stream")
        found = await self._store.get(self._tenant(request), _id(request))
        return Response(found.body, media_type=_JSON)

    async def response_delete(self, request: Request) -> Response:
        """`DELETE /v1/responses/{response_id}`."""
        response_id = _id(request)
        await self._store.delete(self._tenant(request), response_id)
        return JSONResponse({"id": response_id, "object": "response", "deleted": True})

    async def response_cancel(self, request: Request) -> Response:
        """`POST /v1/responses/{response_id}/cancel`: what is stored has ended already."""
        await self._store.get(self._tenant(request), _id(request))
        raise InvalidRequest("Cannot cancel a synchronous response.")

    async def response_input_items(self, request: Request) -> Response:
        """`GET /v1/responses/{response_id}/input_items`: all that the model was told, paged."""
        chain = await self._store.chain(self._tenant(request), _id(request))
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

    def _tenant(self, request: Request) -> str:
        fields = [request.headers.get(name) for name in ("authorization", "x-api-key")]
        return self._keys.tenant(*(one.encode("latin-1") if one else None for one in fields))


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
