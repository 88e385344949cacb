"""Gemma 3, its text part."""

from __future__ import annotations

import math

import numpy as np

from trunkline.engine.executors.native.description import (
    Description,
    Metadata,
    base,
    frequencies,
    local_layers,
)
from trunkline.libnative.structs import GELU_TANH

# Of the model whose queries are scaled by embedding / heads instead of by the head's size.
_LAYERS_OF_27B = 62


def describe(meta: Metadata, vocab: int) -> Description:
    """Norms behind each block and of queries and keys; five local layers to a global one, which
    turn faster.
    """
    windows = local_layers(meta.layers, meta.integer("attention.sliding_window", 0), 6)
    size = meta.integer("rope.dimension_count", meta.head)
    local = meta.number("rope.freq_base_swa", 10_000.0)
    turns = [frequencies(meta, size), frequencies(meta, size, freq_base=local, scaled=False)]
    scaled_by = meta.embedding // meta.heads if meta.layers == _LAYERS_OF_27B else meta.head
    return base(
        meta,
        vocab=vocab,
        more_weights=(
            *("attn_q_norm.weight", "attn_k_norm.weight"),
            *("post_attention_norm.weight", "post_ffw_norm.weight"),
        ),
        activation=GELU_TANH,
        embedding_scale=math.sqrt(meta.embedding),
        attention_scale=1.0 / math.sqrt(scaled_by),
        logit_softcap=meta.number("final_logit_softcapping", 0.0),
        windows=windows,
        rope=tuple(int((layer + 1) % 6 != 0) for layer in range(meta.layers)),
        frequencies=np.stack(turns),
    )
