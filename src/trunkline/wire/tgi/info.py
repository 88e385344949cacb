"""`GET /info`: `Info` in `router/src/lib.rs` (TGI db931fc, 2026-01-08)."""

from __future__ import annotations

import msgspec

from trunkline.core.types import ModelCard
from trunkline.wire.tgi.fields import MAX_BEST_OF, MAX_STOPS


class _Info(msgspec.Struct):
    model_id: str
    model_sha: str | None
    model_pipeline_tag: str | None
    max_concurrent_requests: int
    max_best_of: int
    max_stop_sequences: int
    max_input_tokens: int
    max_total_tokens: int
    validation_workers: int
    max_client_batch_size: int
    router: str
    version: str
    sha: str | None
    docker_label: str | None


def render_info(card: ModelCard, *, version: str, max_concurrent_requests: int) -> bytes:
    """What serves, and its limits. `version` is ours; requests beyond the bound are refused."""
    return msgspec.json.encode(
        _Info(
            model_id=card.name,
            model_sha=None,
            model_pipeline_tag="text-generation",
            max_concurrent_requests=max_concurrent_requests,
            max_best_of=min(MAX_BEST_OF, card.max_rows or MAX_BEST_OF),
            max_stop_sequences=MAX_STOPS,
            # At least one token is generated.
            max_input_tokens=max(0, card.context_length - 1),
            max_total_tokens=card.context_length,
            validation_workers=1,
            max_client_batch_size=1,
            router="trunkline",
            version=version,
            sha=None,
            docker_label=None,
        )
    )


def render_unhealthy() -> bytes:
    """Body of `GET /health` with status 503; with 200 it is empty."""
    return b'{"error":"unhealthy","error_type":"healthcheck"}'
