"""Granite 3 and 4 (dense)."""

from __future__ import annotations

import math

from trunkline.engine.executors.native.description import (
    Description,
    Metadata,
    Unsupported,
    base,
)
from trunkline.libnative.structs import ROPE_PAIRS


def describe(meta: Metadata, vocab: int) -> Description:
    """Llama with four scales."""
    if not meta.number("rope.scaling.finetuned", 1.0):
        raise Unsupported("it has no rotary positions")
    return base(
        meta,
        vocab=vocab,
        rope_style=ROPE_PAIRS,
        embedding_scale=meta.number("embedding_scale", 1.0) or 1.0,
        residual_scale=meta.number("residual_scale", 1.0) or 1.0,
        attention_scale=meta.number("attention.scale", 0.0) or 1.0 / math.sqrt(meta.head),
        logit_scale=1.0 / (meta.number("logit_scale", 1.0) or 1.0),
    )
