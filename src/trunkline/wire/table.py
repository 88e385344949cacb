"""All routes: (method, path) and what answers there.

A row with a codec is served in place by the listener. The others cross the ASGI bridge to the
endpoint called `name`; there a GET serves HEAD as well.

`ROUTES` are the paths as the dialects have them, `ALIASES` where clients of LiteLLM's proxy and of
Azure OpenAI look for the same (litellm/proxy/proxy_server.py and response_api_endpoints 1.106.2;
openai/lib/azure.py of OpenAI's client): without ``/v1``, below ``/openai`` and ``/openai/v1``, with
the model in the path, and the proxy's probes. ``/completions`` stays llama.cpp's.
"""

from __future__ import annotations

import re

import msgspec
from msgspec.structs import replace

from trunkline.wire.anthropic.messages import COUNT_TOKENS, MESSAGES
from trunkline.wire.codec import Codec
from trunkline.wire.kserve import generate as kserve
from trunkline.wire.llamacpp import completion as llamacpp
from trunkline.wire.llamacpp.lookups import APPLY_TEMPLATE
from trunkline.wire.ollama import chat as ollama_chat
from trunkline.wire.ollama import generate as ollama_generate
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.completions import COMPLETIONS
from trunkline.wire.openai.responses import INPUT_TOKENS, RESPONSES
from trunkline.wire.shared import SHARED, Shared
from trunkline.wire.tgi import generate as tgi
from trunkline.wire.tgi.lookups import CHAT_TOKENIZE


class Route(msgspec.Struct, frozen=True):
    """One row."""

    method: str
    # In Starlette's notation.
    path: str
    # Of the endpoint; in logs and metrics.
    name: str
    codec: Codec | None = None
    # Instead of `codec`: the dialects that have this path.
    shared: Shared | None = None
    # True: needs a key where the server has keys. Health, version and metrics never do.
    keyed: bool = True
    # True: the path's {model} is the one that is asked for, whatever the body says.
    names_model: bool = False


def _both(method: str, ending: str, name: str, codec: Codec | None = None) -> tuple[Route, ...]:
    """KServe's paths of a model, with a version and without; names of models have slashes too."""
    model = "/v2/models/{model:path}"
    paths = (f"{model}/versions/{{version}}{ending}", f"{model}{ending}")
    return tuple(Route(method, path, name, codec) for path in paths)


ROUTES = (
    Route("POST", "/v1/chat/completions", "chat_completions", CHAT),
    Route("POST", "/v1/completions", "completions", COMPLETIONS),
    Route("POST", "/v1/responses", "responses", RESPONSES),
    Route("POST", "/v1/responses/input_tokens", "responses_input_tokens", INPUT_TOKENS),
    Route("GET", "/v1/responses/{response_id}", "response"),
    Route("DELETE", "/v1/responses/{response_id}", "response_delete"),
    Route("POST", "/v1/responses/{response_id}/cancel", "response_cancel"),
    Route("GET", "/v1/responses/{response_id}/input_items", "response_input_items"),
    Route("POST", "/v1/messages", "messages", MESSAGES),
    Route("POST", "/v1/messages/count_tokens", "messages_count_tokens", COUNT_TOKENS),
    Route("POST", "/api/chat", "ollama_chat", ollama_chat.CHAT),
    Route("POST", "/api/generate", "ollama_generate", ollama_generate.GENERATE),
    Route("GET", "/api/tags", "ollama_tags"),
    Route("GET", "/api/ps", "ollama_ps"),
    Route("POST", "/api/show", "ollama_show"),
    Route("GET", "/api/version", "ollama_version", keyed=False),
    Route("POST", "/", "tgi", tgi.ROOT),
    Route("POST", "/generate", "generate", shared=SHARED["POST", "/generate"]),
    Route("POST", "/generate_stream", "tgi_generate_stream", tgi.GENERATE_STREAM),
    Route("POST", "/tokenize", "tokenize", shared=SHARED["POST", "/tokenize"]),
    Route("POST", "/detokenize", "detokenize", shared=SHARED["POST", "/detokenize"]),
    Route("POST", "/chat_tokenize", "tgi_chat_tokenize", CHAT_TOKENIZE),
    Route("GET", "/info", "tgi_info"),
    Route("POST", "/completion", "llamacpp_completion", llamacpp.COMPLETION),
    Route("POST", "/completions", "llamacpp_completion", llamacpp.COMPLETION),
    Route("POST", "/infill", "llamacpp_infill", llamacpp.INFILL),
    Route("POST", "/apply-template", "llamacpp_apply_template", APPLY_TEMPLATE),
    Route("GET", "/props", "llamacpp_props"),
    Route("GET", "/slots", "llamacpp_slots"),
    Route("GET", "/load", "vllm_load"),
    Route("GET", "/v2", "kserve_server", keyed=False),
    Route("GET", "/v2/health/live", "kserve_live", keyed=False),
    Route("GET", "/v2/health/ready", "kserve_ready", keyed=False),
    *_both("GET", "/ready", "kserve_model_ready"),
    *_both("GET", "", "kserve_model"),
    *_both("POST", "/generate", "kserve_generate", kserve.GENERATE),
    *_both("POST", "/generate_stream", "kserve_generate_stream", kserve.GENERATE_STREAM),
    # OpenAI's list, and Anthropic's for its own clients.
    Route("GET", "/v1/models", "models"),
    Route("GET", "/v1/models/{model:path}", "model"),
    Route("GET", "/", "root", keyed=False),
    Route("GET", "/version", "version", keyed=False),
    Route("GET", "/metrics", "metrics", keyed=False),
    Route("GET", "/health", "health", keyed=False),
    Route("GET", "/health/live", "live", keyed=False),
    Route("GET", "/health/ready", "ready", keyed=False),
    Route("GET", "/ready", "ready", keyed=False),
    # vLLM's and TGI's name of /health, and llama.cpp's second one.
    Route("GET", "/ping", "health", keyed=False),
    Route("GET", "/v1/health", "health", keyed=False),
)

# What OpenAI's clients find below their base URL, whatever that is.
_UNVERSIONED = tuple(
    row
    for row in ROUTES
    if re.match(r"/v1/(chat/completions|completions|responses|models)\b", row.path)
)
_TAKEN = frozenset((row.method, row.path) for row in ROUTES)


def _below(prefix: str) -> tuple[Route, ...]:
    """Those rows with `prefix` in place of ``/v1``, but for what another dialect has there."""
    moved = (replace(row, path=prefix + row.path.removeprefix("/v1")) for row in _UNVERSIONED)
    return tuple(row for row in moved if (row.method, row.path) not in _TAKEN)


def _of_model(prefix: str) -> tuple[Route, ...]:
    """Paths that name the model."""
    names = ("chat_completions", "completions")
    return tuple(
        replace(row, path=prefix + row.path.removeprefix("/v1"), names_model=True)
        for row in _UNVERSIONED
        if row.name in names
    )


ALIASES = (
    *_below(""),
    *_below("/openai/v1"),
    *_of_model("/openai/deployments/{model:path}"),
    *_of_model("/engines/{model:path}"),
    *_below("/openai"),
    Route("GET", "/health/liveliness", "live", keyed=False),
    Route("GET", "/health/liveness", "live", keyed=False),
    Route("GET", "/health/readiness", "ready", keyed=False),
)
