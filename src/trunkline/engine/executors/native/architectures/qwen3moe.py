"""Qwen 3 with experts."""

from __future__ import annotations

from trunkline.engine.executors.native.description import Description, Metadata, base


def describe(meta: Metadata, vocab: int) -> Description:
    """Qwen 3, with a mixture in every layer."""
    return base(
        meta,
        vocab=vocab,
        more_weights=("attn_q_norm.weight", "attn_k_norm.weight"),
        feed_forward=meta.integer("expert_feed_forward_length"),
        experts=meta.integer("expert_count"),
        experts_used=meta.integer("expert_used_count"),
        experts_renormalized=True,
    )
