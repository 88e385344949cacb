"""How a Llama-like checkpoint is laid out: its tensors in Hugging Face and in GGUF terms.

One `Shape` says everything that both file forms need. The names on the left of a `TensorSpec` are
those of `transformers`, the names on the right those of llama.cpp (its `gguf-py/constants.py`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True)
class RopeScaling:
    """Llama 3's stretching of the slow rotary frequencies."""

    # How much the slowest frequencies are slowed down.
    factor: float
    # Wavelengths above original_context / low_freq_factor are stretched fully.
    low_freq_factor: float
    # Wavelengths below original_context / high_freq_factor are left alone.
    high_freq_factor: float
    # Context length in tokens that the model was first trained with.
    original_context: int


@dataclass(frozen=True)
class Shape:
    """The sizes of one dense decoder, tied embeddings, no biases."""

    # GGUF's general.architecture and transformers' model_type: "llama" or "qwen3".
    architecture: str
    vocab: int
    hidden: int
    feed_forward: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    rope_theta: float
    norm_eps: float
    rope_scaling: RopeScaling | None = None

    @property
    def qk_norm(self) -> bool:
        """Whether each head's query and key are normalized (Qwen3)."""
        return self.architecture == "qwen3"


@dataclass(frozen=True)
class TensorSpec:
    """One weight: its two names, its shape (rows = outputs) and how GGUF wants its rows."""

    hf_name: str
    gguf_name: str
    shape: tuple[int, ...]
    # Number of heads whose rows llama.cpp interleaves; 0 where rows stay in place.
    permute_heads: int = 0


def tensor_specs(shape: Shape) -> Iterator[TensorSpec]:
    """Every weight of the model, in the order in which files hold them."""
    hidden, q_rows = shape.hidden, shape.heads * shape.head_dim
    kv_rows = shape.kv_heads * shape.head_dim
    q_heads, k_heads = (shape.heads, shape.kv_heads) if shape.architecture == "llama" else (0, 0)
    yield TensorSpec("model.embed_tokens.weight", "token_embd.weight", (shape.vocab, hidden))
    for i in range(shape.layers):
        hf, blk = f"model.layers.{i}", f"blk.{i}"
        ff = shape.feed_forward
        rows: list[tuple[str, str, tuple[int, ...], int]] = [
            ("input_layernorm", "attn_norm", (hidden,), 0),
            ("self_attn.q_proj", "attn_q", (q_rows, hidden), q_heads),
            ("self_attn.k_proj", "attn_k", (kv_rows, hidden), k_heads),
            ("self_attn.v_proj", "attn_v", (kv_rows, hidden), 0),
            ("self_attn.o_proj", "attn_output", (hidden, q_rows), 0),
            ("post_attention_layernorm", "ffn_norm", (hidden,), 0),
            ("mlp.gate_proj", "ffn_gate", (ff, hidden), 0),
            ("mlp.up_proj", "ffn_up", (ff, hidden), 0),
            ("mlp.down_proj", "ffn_down", (hidden, ff), 0),
        ]
        if shape.qk_norm:
            rows += [
                ("self_attn.q_norm", "attn_q_norm", (shape.head_dim,), 0),
                ("self_attn.k_norm", "attn_k_norm", (shape.head_dim,), 0),
            ]
        for hf_part, gguf_part, dims, heads in rows:
            yield TensorSpec(f"{hf}.{hf_part}.weight", f"{blk}.{gguf_part}.weight", dims, heads)
    yield TensorSpec("model.norm.weight", "output_norm.weight", (hidden,))


def parameter_count(shape: Shape) -> int:
    """Parameters of the model; the tied embedding counts once."""
    return sum(math.prod(spec.shape) for spec in tensor_specs(shape))


def interleave(weight: Array, heads: int) -> Array:
    """Rows of each head from transformers' halves to llama.cpp's pairs (llama architecture)."""
    if not heads:
        return weight
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, 2, half, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def deinterleave(weight: Array, heads: int) -> Array:
    """The inverse of `interleave`."""
    if not heads:
        return weight
    half = weight.shape[0] // heads // 2
    return weight.reshape(heads, half, 2, *weight.shape[1:]).swapaxes(1, 2).reshape(weight.shape)


def rope_factors(shape: Shape) -> Array | None:
    """Llama 3's per-frequency divisors, float32 [head_dim / 2]; None without scaling."""
    scaling = shape.rope_scaling
    if scaling is None:
        return None
    factors = []
    for i in range(0, shape.head_dim, 2):
        wavelength = 2 * math.pi * shape.rope_theta ** (i / shape.head_dim)
        if wavelength < scaling.original_context / scaling.high_freq_factor:
            factors.append(1.0)
        elif wavelength > scaling.original_context / scaling.low_freq_factor:
            factors.append(scaling.factor)
        else:
            low, high = scaling.low_freq_factor, scaling.high_freq_factor
            smooth = (scaling.original_context / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(factors, dtype=np.float32)


def hf_config(shape: Shape, *, bos: int | None, eos: int, pad: int, dtype: str) -> dict[str, Any]:
    """The contents of `config.json`."""
    config: dict[str, Any] = {
        "architectures": ["Qwen3ForCausalLM" if shape.qk_norm else "LlamaForCausalLM"],
        "model_type": shape.architecture,
        "vocab_size": shape.vocab,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.feed_forward,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": shape.context,
        "rms_norm_eps": shape.norm_eps,
        "rope_theta": shape.rope_theta,
        "tie_word_embeddings": True,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "initializer_range": 0.02,
        "use_cache": True,
        "bos_token_id": bos,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "torch_dtype": dtype,
    }
    if shape.rope_scaling is not None:
        config["rope_scaling"] = {
            "rope_type": "llama3",
            "factor": shape.rope_scaling.factor,
            "low_freq_factor": shape.rope_scaling.low_freq_factor,
            "high_freq_factor": shape.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": shape.rope_scaling.original_context,
        }
    return config
