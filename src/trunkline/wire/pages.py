"""All pages of docs/api: which endpoints and parameters each format has."""

from __future__ import annotations

from trunkline.wire.anthropic import reference as anthropic
from trunkline.wire.kserve import reference as kserve
from trunkline.wire.llamacpp import reference as llamacpp
from trunkline.wire.ollama import reference as ollama
from trunkline.wire.openai import reference as openai
from trunkline.wire.openai import responses_reference as responses
from trunkline.wire.reference import Page
from trunkline.wire.sglang import reference as sglang
from trunkline.wire.tgi import reference as tgi
from trunkline.wire.vllm import reference as vllm

_SERVER = Page(
    name="server",
    title="The server itself",
    about="What belongs to no format alone. These need no key. LiteLLM's names of the probes work "
    "too: `/health/liveliness`, `/health/liveness` and `/health/readiness`.",
    endpoints={
        "root": "Who this is.",
        "version": "Our version.",
        "metrics": "Prometheus' text format.",
        "health": "200 where a model can answer and none is stalled, else 503.",
        "live": "This process answers.",
        "ready": "200 where a model can answer and the server is not draining, else 503.",
    },
)

PAGES = (
    openai.PAGE,
    responses.PAGE,
    anthropic.PAGE,
    ollama.PAGE,
    tgi.PAGE,
    llamacpp.PAGE,
    vllm.PAGE,
    sglang.PAGE,
    kserve.PAGE,
    _SERVER,
)
