"""All routes: (method, path) and what answers there.

A row with a codec is served in place by the listener. The others cross the ASGI bridge to the
endpoint called `name`; there a GET serves HEAD as well.
"""

from __future__ import annotations

import msgspec

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


def _both(method: str, ending: str, name: str, codec: Codec | None = None) -> tuple[Route, ...]:
    """KServe's paths of a model, with and without a version."""
    model = "/v2/models/{model}"
    paths = (f"{model}{ending}", f"{model}/versions/{{version}}{ending}")
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
    *_both("GET", "", "kserve_model"),
    *_both("GET", "/ready", "kserve_model_ready"),
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
