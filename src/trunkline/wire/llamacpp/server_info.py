"""What llama.cpp's server says of itself: `/health`, `/props`, `/slots`, its metrics.

Source: `get_res_props` in tools/server/server-context.cpp, `to_metrics` in server-task.cpp, of
llama.cpp b11549. Fields of its own web page and of images are left out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from trunkline.core.types import BackendStats, Json, ModelCard, SamplingParams
from trunkline.wire.llamacpp.completion_answer import encoder
from trunkline.wire.llamacpp.sampling import settings

# Its defaults where a request says nothing.
_DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.95, min_p=0.05)


class Metric(NamedTuple):
    """One of its metrics, and where we have it from."""

    name: str
    help: str
    kind: Literal["counter", "gauge"]
    value: Callable[[BackendStats], float]


# Those of its names that a backend's counters can fill.
METRICS = (
    Metric(
        "llamacpp:prompt_tokens_total",
        "Number of prompt tokens processed, excluding cached tokens",
        "counter",
        lambda stats: stats.prefix_queries - stats.prefix_hits,
    ),
    Metric(
        "llamacpp:prompt_tokens_cached_total",
        "Number of prompt tokens reused from the cache",
        "counter",
        lambda stats: stats.prefix_hits,
    ),
    Metric(
        "llamacpp:n_decode_total",
        "Total number of llama_decode() calls, excluding speculative decoding and multimodal "
        "decoding",
        "counter",
        lambda stats: stats.steps,
    ),
    Metric(
        "llamacpp:requests_processing",
        "Number of requests processing",
        "gauge",
        lambda stats: stats.running,
    ),
    Metric(
        "llamacpp:requests_deferred",
        "Number of requests deferred",
        "gauge",
        lambda stats: stats.waiting,
    ),
)


def render_health() -> bytes:
    """`/health`, when all is well; else `Unavailable` is rendered."""
    return encoder.encode({"status": "ok"})


def render_props(name: str, card: ModelCard, build: str) -> bytes:
    """`/props` of the model that a client calls `name`; `build` names this server."""
    params = settings(_DEFAULTS, only_sampling=True)
    body: Json = {
        "default_generation_settings": {"params": params, "n_ctx": card.context_length},
        "total_slots": card.max_rows,
        "model_alias": name,
        "model_ftype": card.quantization,
        "model_path": card.source,
        "modalities": {"vision": False, "video": False, "audio": False},
        "endpoint_slots": True,
        "endpoint_props": False,
        "endpoint_metrics": True,
        "chat_template": card.chat_template,
        "build_info": build,
        "is_sleeping": False,
    }
    return encoder.encode(body)


def render_slots(card: ModelCard, stats: BackendStats) -> bytes:
    """`/slots`: as many as rows run together; the first ones are taken."""
    return encoder.encode(
        [
            {
                "id": number,
                "n_ctx": card.context_length,
                "speculative": False,
                "is_processing": number < stats.running,
            }
            for number in range(card.max_rows)
        ]
    )
