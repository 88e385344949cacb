"""What clients of each dialect ask about models, as endpoints."""

from __future__ import annotations

import math
import time

from starlette.requests import Request
from starlette.responses import Response

import trunkline
from trunkline.core.types import Backend, Health, OnDemand
from trunkline.gateway.gateway import Gateway, ServedModel
from trunkline.wire.anthropic import models as anthropic
from trunkline.wire.kserve import metadata as kserve
from trunkline.wire.llamacpp import server_info as llamacpp
from trunkline.wire.ollama import models as ollama
from trunkline.wire.ollama.names import find_name
from trunkline.wire.openai import models as openai
from trunkline.wire.tgi.info import render_info
from trunkline.wire.vllm import server_info as vllm

_JSON = "application/json"
# Requests beyond the rows that run and the queue are refused; TGI's clients want one number.
_TGI_CONCURRENT = 512
# States of a backend in which its model is in memory.
_LOADED = frozenset(("ready", "stalled", "draining"))


class ModelPages:
    """One method per name in the table of routes."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, request: Request) -> Response:
        """Every listed name; in Anthropic's shape for its clients."""
        entries = [(name, model.card()) for name, model in self._gateway.listed()]
        if "anthropic-version" in request.headers:
            return _json(anthropic.render_models(entries, request.url.query))
        return _json(openai.render_models(entries))

    async def model(self, request: Request) -> Response:
        """One model, by any of its names; without one, all of them."""
        name: str = request.path_params["model"]
        if not name:
            return await self.models(request)
        card = self._gateway.find(name).card()
        if "anthropic-version" in request.headers:
            return _json(anthropic.render_model(name, card))
        return _json(openai.render_model(name, card))

    async def ollama_tags(self, request: Request) -> Response:
        """Every listed name."""
        listed = self._gateway.listed()
        return _json(ollama.render_tags((name, model.card()) for name, model in listed))

    async def ollama_ps(self, request: Request) -> Response:
        """Models in memory."""
        return _json(
            ollama.render_ps(
                (
                    *(model.name, model.card(), model.backend.stats().resident_bytes),
                    _leaves_at(model.backend),
                )
                for model in self._gateway.models
                if _in_memory(model.backend.health())
            )
        )

    async def ollama_show(self, request: Request) -> Response:
        """One model in detail."""
        asked = ollama.decode_show(await request.body())
        name = find_name(asked, self._gateway.names()) or asked
        return _json(ollama.render_show(asked, self._gateway.find(name).card()))

    async def ollama_version(self, request: Request) -> Response:
        """A version that Ollama's clients accept."""
        return _json(ollama.render_version())

    async def tgi_info(self, request: Request) -> Response:
        """The default model, as TGI describes the one that it serves."""
        card = self._gateway.find("").card()
        version = trunkline.__version__
        return _json(render_info(card, version=version, max_concurrent_requests=_TGI_CONCURRENT))

    async def llamacpp_props(self, request: Request) -> Response:
        """The default model and its defaults, as llama.cpp's server tells them."""
        model = self._gateway.find("")
        build = f"trunkline {trunkline.__version__}"
        return _json(llamacpp.render_props(model.name, model.card(), build))

    async def llamacpp_slots(self, request: Request) -> Response:
        """Rows of the default model that are taken."""
        model = self._gateway.find("")
        return _json(llamacpp.render_slots(model.card(), model.backend.stats()))

    async def vllm_load(self, request: Request) -> Response:
        """Requests under way at the default model."""
        return _json(vllm.render_load(self._gateway.find("").backend.stats()))

    async def kserve_server(self, request: Request) -> Response:
        """What this is."""
        return _json(kserve.render_server(trunkline.__version__))

    async def kserve_live(self, request: Request) -> Response:
        """This process answers."""
        return _json(kserve.render_live())

    async def kserve_ready(self, request: Request) -> Response:
        """A model can be served, and we are not draining."""
        ready = self._gateway.ready()
        return _json(kserve.render_ready(ready=ready), 200 if ready else 503)

    async def kserve_model(self, request: Request) -> Response:
        """One model's inputs and outputs."""
        name, model = self._versioned(request)
        return _json(kserve.render_model(name, model.card()))

    async def kserve_model_ready(self, request: Request) -> Response:
        """One model can answer."""
        name, model = self._versioned(request)
        ready = model.backend.health().state == "ready"
        return _json(kserve.render_model_ready(name, ready=ready), 200 if ready else 503)

    def _versioned(self, request: Request) -> tuple[str, ServedModel]:
        name: str = request.path_params["model"]
        kserve.check_version(name, request.path_params.get("version"))
        return name, self._gateway.find(name)


def _leaves_at(backend: Backend) -> float | None:
    """Unix seconds when it is unloaded if nobody asks for it again; None: it stays."""
    left = backend.leaves_in() if isinstance(backend, OnDemand) else math.inf
    return None if math.isinf(left) else time.time() + left


def _in_memory(health: Health) -> bool:
    return health.state in _LOADED and not health.load_seconds


def _json(body: bytes, status: int = 200) -> Response:
    return Response(body, status, media_type=_JSON)
