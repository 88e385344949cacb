"""Gemma 2."""

from __future__ import annotations

import math

from trunkline.engine.executors.native.description import (
    Description,
    Metadata,
    base,
    local_layers,
)
from trunkline.libnative.structs import GELU_TANH

# Of the model whose queries are scaled by embedding / heads instead of by the head's size.
_LAYERS_OF_27B = 46


def describe(meta: Metadata, vocab: int) -> Description:
    """Norms behind each block too, soft caps, and a window in every other layer."""
    scaled_by = meta.embedding // meta.heads if meta.layers == _LAYERS_OF_27B else meta.head
    return base(
        meta,
        vocab=vocab,
        more_weights=("post_attention_norm.weight", "post_ffw_norm.weight"),
        activation=GELU_TANH,
        embedding_scale=math.sqrt(meta.embedding),
        attention_scale=1.0 / math.sqrt(scaled_by),
        attention_softcap=meta.number("attn_logit_softcapping", 50.0),
        logit_softcap=meta.number("final_logit_softcapping", 30.0),
        windows=local_layers(meta.layers, meta.integer("attention.sliding_window", 4096), 2),
    )
