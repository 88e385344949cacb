"""Llama 1 to 3; Mistral; Mixtral, which has experts."""

from __future__ import annotations

from trunkline.engine.executors.native.description import Description, Metadata, base
from trunkline.libnative.structs import ROPE_PAIRS


def describe(meta: Metadata, vocab: int) -> Description:
    """llama.cpp stores queries and keys with rotary pairs side by side."""
    return base(
        meta,
        vocab=vocab,
        rope_style=ROPE_PAIRS,
        experts=meta.integer("expert_count", 0),
        experts_used=meta.integer("expert_used_count", 0),
        experts_renormalized=True,
    )
