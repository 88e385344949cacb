"""Phi 3, 3.5 and 4 (dense)."""

from __future__ import annotations

from trunkline.engine.executors.native.description import (
    Description,
    Metadata,
    base,
    frequencies,
)


def describe(meta: Metadata, vocab: int) -> Description:
    """Fused gate, and factors for long contexts. Its window is not used, as in llama.cpp."""
    size = meta.integer("rope.dimension_count", meta.head)
    original = meta.integer("rope.scaling.original_context_length", meta.context)
    kind = "long" if meta.context > original else "short"
    turns = frequencies(meta, size, factors=meta.floats(f"rope_factors_{kind}.weight"))
    return base(
        meta,
        vocab=vocab,
        fused_gate=True,
        frequencies=turns[None, :],
    )
