"""Everything but generation, as a Starlette application: models, health, version, metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import msgspec
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route as AsgiRoute

import trunkline
from trunkline.core.errors import InternalError, MethodNotAllowed, NotFound, TrunklineError
from trunkline.core.metrics import CONTENT_TYPE
from trunkline.core.types import Able, Backend, Json
from trunkline.gateway.gateway import Gateway
from trunkline.server.metrics import ServerMetrics
from trunkline.server.models import ModelPages
from trunkline.server.replies import new_request_id
from trunkline.server.responses import StoredResponses
from trunkline.wire.dialects import errors_for
from trunkline.wire.shared import OLLAMA_RUNS, health_body, is_for_ollama
from trunkline.wire.table import ALIASES, ROUTES

Endpoint = Callable[[Request], Awaitable[Response]]

_JSON = "application/json"


def build(gateway: Gateway, metrics: ServerMetrics, stored: StoredResponses) -> Starlette:
    """The application; its routes are the rows of the tables that have no codec."""
    pages = _Pages(gateway, metrics)
    asked = ModelPages(gateway)
    routes: list[AsgiRoute] = []
    for row in (*ROUTES, *ALIASES):
        if row.codec is None and row.shared is None:
            owner = next(one for one in (pages, asked, stored) if hasattr(one, row.name))
            endpoint: Endpoint = getattr(owner, row.name)
            routes.append(AsgiRoute(row.path, endpoint, methods=[row.method]))
    app = Starlette(
        routes=routes,
        exception_handlers={
            HTTPException: _http_error,
            TrunklineError: _our_error,
            Exception: _fault,
        },
    )
    app.router.redirect_slashes = False
    return app


class _Pages:
    """One method per name in the table."""

    def __init__(self, gateway: Gateway, metrics: ServerMetrics) -> None:
        self._gateway = gateway
        self._metrics = metrics

    async def root(self, request: Request) -> Response:
        """What this is; for clients of Ollama, that Ollama runs."""
        if is_for_ollama(request.headers.get("accept", "")):
            return Response(OLLAMA_RUNS, media_type="text/plain")
        return JSONResponse({"name": "trunkline", "version": trunkline.__version__})

    async def version(self, request: Request) -> Response:
        """Our version, where vLLM shows its own."""
        return JSONResponse({"version": trunkline.__version__})

    async def metrics(self, request: Request) -> Response:
        """Prometheus' text format."""
        return Response(self._metrics.registry.render(), headers={"content-type": CONTENT_TYPE})

    async def live(self, request: Request) -> Response:
        """This process answers."""
        return JSONResponse({"status": "ok"})

    async def ready(self, request: Request) -> Response:
        """A model can be served, and we are not draining."""
        return self._state(request, self._gateway.ready())

    async def health(self, request: Request) -> Response:
        """A model can be served, and none has work without progress."""
        states = {health.state for health in self._gateway.health().values()}
        return self._state(request, "ready" in states and "stalled" not in states)

    def _state(self, request: Request, good: bool) -> Response:
        backends = self._gateway.backends()
        states = {health.state for health in self._gateway.health().values()}
        # The models of one that starts may not be known yet.
        states |= {backend.health().state for backend in backends.values()}
        # llama.cpp's words, by which its clients tell a server that will be ready from others.
        why = "Loading model" if "starting" in states else "No model can answer"
        more = {
            "draining": self._gateway.draining,
            "models": {model.name: _details(model.backend) for model in self._gateway.models},
        }
        if self._gateway.keys.fit(request.headers):
            # Where requests go is for those alone who may send some.
            report = self._gateway.report
            more["routes"] = msgspec.to_builtins(report()) if report is not None else []
            more["backends"] = {name: _all_details(one) for name, one in backends.items()}
        body = health_body(good=good, why=why, more=more)
        return JSONResponse(body, status_code=200 if good else 503)


def _details(backend: Backend) -> Json:
    health = backend.health()
    stats = backend.stats()
    return {
        "state": health.state,
        "detail": health.detail,
        "load_seconds": health.load_seconds,
        "running": stats.running,
        "waiting": stats.waiting,
        "restarts": stats.restarts,
    }


def _all_details(backend: Backend) -> Json:
    """As `_details`, with what its server tells of its load and does, where that is known."""
    stats = backend.stats()
    found = {
        **_details(backend),
        "kv_usage": stats.kv_share(),
        "tokens_per_second": stats.tokens_per_second,
        "ttft": stats.ttft,
    }
    able = backend.abilities() if isinstance(backend, Able) else None
    return found if able is None else {**found, "abilities": msgspec.to_builtins(able)}


async def _http_error(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, HTTPException)
    where = f"{request.method} {request.url.path}"
    error: TrunklineError
    match raised.status_code:
        case 404:
            error = NotFound(f"Unknown request URL: {where}. Please check the URL for typos.")
        case 405:
            error = MethodNotAllowed(f"Not allowed to {request.method} on {request.url.path}.")
        case _:
            error = TrunklineError(raised.detail)
    answer = _told(request, error)
    answer.headers.update(raised.headers or {})
    return answer


async def _our_error(request: Request, raised: Exception) -> Response:
    assert isinstance(raised, TrunklineError)
    return _told(request, raised)


async def _fault(request: Request, raised: Exception) -> Response:
    return _told(request, InternalError("A fault of this server; its log says more."))


def _told(request: Request, error: TrunklineError) -> Response:
    """`error` in the words of whoever asked."""
    errors = errors_for(request.url.path, anthropic_client="anthropic-version" in request.headers)
    error.request_id = new_request_id()
    headers = {"x-request-id": error.request_id, "request-id": error.request_id}
    return Response(errors.render(error), errors.status(error), headers, _JSON)
