"""Qwen 2 and 2.5."""

from __future__ import annotations

from trunkline.engine.executors.native.description import Description, Metadata, base


def describe(meta: Metadata, vocab: int) -> Description:
    """Queries, keys and values have biases."""
    return base(meta, vocab=vocab, more_weights=("attn_q.bias", "attn_k.bias", "attn_v.bias"))
