"""What clients of each dialect ask about models, as endpoints."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

import trunkline
from trunkline.gateway.gateway import Gateway
from trunkline.wire.anthropic import models as anthropic
from trunkline.wire.ollama import models as ollama
from trunkline.wire.ollama.names import find_name
from trunkline.wire.openai import models as openai
from trunkline.wire.tgi.info import render_info

_JSON = "application/json"
# Requests beyond the rows that run and the queue are refused; TGI's clients want one number.
_TGI_CONCURRENT = 512


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
        """One model, by any of its names."""
        name: str = request.path_params["model"]
        card = self._gateway.find(name).card()
        if "anthropic-version" in request.headers:
            return _json(anthropic.render_model(name, card))
        return _json(openai.render_model(name, card))

    async def ollama_tags(self, request: Request) -> Response:
        """Every listed name."""
        listed = self._gateway.listed()
        return _json(ollama.render_tags((name, model.card()) for name, model in listed))

    async def ollama_ps(self, request: Request) -> Response:
        """Every model: they are all loaded."""
        return _json(
            ollama.render_ps(
                (model.name, model.card(), model.backend.stats().resident_bytes)
                for model in self._gateway.models
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


def _json(body: bytes) -> Response:
    return Response(body, media_type=_JSON)
