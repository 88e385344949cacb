"""Qwen 3, dense."""

from __future__ import annotations

from trunkline.engine.executors.native.description import Description, Metadata, base


def describe(meta: Metadata, vocab: int) -> Description:
    """Each head's queries and keys are normalized."""
    return base(meta, vocab=vocab, more_weights=("attn_q_norm.weight", "attn_k_norm.weight"))
