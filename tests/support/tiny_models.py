"""GGUF files of small random models of every architecture and type that the native engine knows."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from tests.support.tiny_gguf import CHATML, MERGES, SPECIALS, tokens
from trunkline.libllama.library import library

# Type -> ggml_type.
TYPES: dict[str, int] = {
    "F32": 0,
    "F16": 1,
    "BF16": 30,
    "Q8_0": 8,
    "Q4_0": 2,
    "Q4_K": 12,
    "Q5_K": 13,
    "Q6_K": 14,
}
# Those that llama.cpp alone computes with.
OTHER_TYPES: dict[str, int] = {"Q4_1": 3, "Q5_0": 6, "Q5_1": 7, "IQ4_NL": 20, "Q3_K": 11}
Weights = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Sizes common to all: rows of 256, as K-quants want them.
EMBEDDING, FEED_FORWARD, HEADS, KV_HEADS, HEAD, LAYERS, CONTEXT = 256, 512, 8, 2, 32, 3, 1024
EXPERTS, EXPERTS_USED = 6, 2
VOCAB = len(tokens())

# What each model has besides Llama's: (suffixes of keys and their values, further weights).
_NORMS: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
_POST: Shapes = {"post_attention_norm.weight": (EMBEDDING,), "post_ffw_norm.weight": (EMBEDDING,)}
_BIASES: Shapes = {
    "attn_q.bias": (HEADS * HEAD,),
    "attn_k.bias": (KV_HEADS * HEAD,),
    "attn_v.bias": (KV_HEADS * HEAD,),
}
_EXPERTS: Shapes = {
    "ffn_gate_inp.weight": (EXPERTS, EMBEDDING),
    "ffn_gate_exps.weight": (EXPERTS, FEED_FORWARD, EMBEDDING),
    "ffn_up_exps.weight": (EXPERTS, FEED_FORWARD, EMBEDDING),
    "ffn_down_exps.weight": (EXPERTS, EMBEDDING, FEED_FORWARD),
}
_QKV_ROWS = (HEADS + 2 * KV_HEADS) * HEAD
_MIXTURE: dict[str, int | float] = {"expert_count": EXPERTS, "expert_used_count": EXPERTS_USED}
MODELS: Mapping[str, tuple[str, dict[str, int | float], Shapes]] = {
    "llama": ("llama", {}, {}),
    "mixtral": ("llama", _MIXTURE, _EXPERTS),
    "qwen2": ("qwen2", {"rope.freq_base": 1e6}, _BIASES),
    "qwen3": ("qwen3", {"rope.freq_base": 1e6}, _NORMS),
    "qwen3moe": (
        "qwen3moe",
        {**_MIXTURE, "expert_feed_forward_length": FEED_FORWARD},
        {**_NORMS, **_EXPERTS},
    ),
    "gemma2": (
        "gemma2",
        {
            "attention.sliding_window": 40,
            "attn_logit_softcapping": 50.0,
            "final_logit_softcapping": 30.0,
        },
        _POST,
    ),
    "gemma3": (
        "gemma3",
        {"attention.sliding_window": 40, "rope.freq_base": 1e6},
        {**_NORMS, **_POST},
    ),
    "phi3": (
        "phi3",
        {"rope.scaling.original_context_length": CONTEXT},
        {
            "attn_qkv.weight": (_QKV_ROWS, EMBEDDING),
            "ffn_up.weight": (2 * FEED_FORWARD, EMBEDDING),
        },
    ),
    "granite": (
        "granite",
        {
            "embedding_scale": 12.0,
            "residual_scale": 0.22,
            "attention.scale": 0.015625 * 4,
            "logit_scale": 8.0,
        },
        {},
    ),
}
# In which gemma3 has a global layer.
LAYERS_OF = {"gemma3": 7}
_REPLACED = {
    "mixtral": ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"),
    "qwen3moe": ("ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"),
    "phi3": ("attn_q.weight", "attn_k.weight", "attn_v.weight", "ffn_gate.weight"),
}
_TIED = frozenset({"gemma2", "gemma3", "qwen3"})


def random_weights(model: str, seed: int = 0) -> Weights:
    """All tensors of `model` as float32, under GGUF's names; shapes rows first."""
    rng = np.random.default_rng([seed, *model.encode()])
    layer: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (EMBEDDING,),
        "attn_q.weight": (HEADS * HEAD, EMBEDDING),
        "attn_k.weight": (KV_HEADS * HEAD, EMBEDDING),
        "attn_v.weight": (KV_HEADS * HEAD, EMBEDDING),
        "attn_output.weight": (EMBEDDING, HEADS * HEAD),
        "ffn_norm.weight": (EMBEDDING,),
        "ffn_gate.weight": (FEED_FORWARD, EMBEDDING),
        "ffn_up.weight": (FEED_FORWARD, EMBEDDING),
        "ffn_down.weight": (EMBEDDING, FEED_FORWARD),
        **MODELS[model][2],
    }
    for name in _REPLACED.get(model, ()):
        if name not in MODELS[model][2]:
            del layer[name]
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCAB, EMBEDDING)}
    for number in range(layers_of(model)):
        shapes.update({f"blk.{number}.{name}": shape for name, shape in layer.items()})
    shapes["output_norm.weight"] = (EMBEDDING,)
    if model not in _TIED:
        shapes["output.weight"] = (VOCAB, EMBEDDING)
    return {name: _random(rng, name, shape) for name, shape in shapes.items()}


def layers_of(model: str) -> int:
    """Layers of `model`."""
    return LAYERS_OF.get(model, LAYERS)


def _random(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> np.ndarray:
    if name.endswith("norm.weight"):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if name.endswith("bias"):
        return rng.normal(0, 0.3, shape).astype(np.float32)
    scale = 0.5 if name.startswith(("output.", "token_embd")) else 1.5 / math.sqrt(shape[-1])
    if "ffn_gate_inp" in name:
        scale = 0.2
    # Exact in bf16, so that every type of 16 bits or more but F16 holds the same numbers.
    found = rng.normal(0, scale, shape).astype(np.float32)
    found.view(np.uint32)[...] &= np.uint32(0xFFFF0000)
    return found


def write_model(
    path: Path,
    model: str,
    kind: str = "F32",
    *,
    seed: int = 0,
    types: Mapping[str, str] | None = None,
    keys: Mapping[str, int | float] | None = None,
    restore: bool = False,
    nan: bool = False,
    text: Mapping[str, str] | None = None,
    more: Mapping[str, tuple[int, ...]] | None = None,
    without: str = "",
) -> Path:
    """Write a model of `MODELS` and return `path`.

    `kind`: type of the matrices; `types`: others by the end of the tensor's name. `keys`: more
    hyperparameters. `restore`: all is written as F32, but holds what those types leave of it.
    `nan`: the embedding of token 5 is no number. `text`: more hyperparameters.
    `more`: tensors of ones besides; `without`: one that is left out.
    """
    arch, hyper, _ = MODELS[model]
    writer = gguf.GGUFWriter(path, arch)
    sizes = {
        "context_length": CONTEXT,
        "embedding_length": EMBEDDING,
        "block_count": layers_of(model),
        "feed_forward_length": FEED_FORWARD,
        "attention.head_count": HEADS,
        "attention.head_count_kv": KV_HEADS,
        "attention.key_length": HEAD,
        "attention.value_length": HEAD,
        "rope.dimension_count": HEAD,
        "vocab_size": VOCAB,
        "attention.layer_norm_rms_epsilon": 1e-5,
        **hyper,
        **(keys or {}),
    }
    for key, value in sizes.items():
        if isinstance(value, int):
            writer.add_uint32(f"{arch}.{key}", value)
        else:
            writer.add_float32(f"{arch}.{key}", value)
    for key, words in (text or {}).items():
        writer.add_string(f"{arch}.{key}", words)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens())
    writer.add_token_types([1] * (VOCAB - len(SPECIALS)) + [3] * len(SPECIALS))
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(VOCAB - 1)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)
    found = random_weights(model, seed)
    found.update({name: np.ones(shape, np.float32) for name, shape in (more or {}).items()})
    found.pop(without, None)
    for name, weight in found.items():
        if nan and name == "token_embd.weight":
            weight[5] = np.nan
        own = next((k for end, k in (types or {}).items() if name.endswith(end)), kind)
        if weight.ndim == 1 or "ffn_gate_inp" in name or own == "F32":
            writer.add_tensor(name, weight)
        elif restore:
            writer.add_tensor(name, restored(weight, own))
        else:
            type_ = gguf.GGMLQuantizationType((TYPES | OTHER_TYPES)[own])
            writer.add_tensor(name, quantized(weight, own), raw_dtype=type_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def restored(weight: np.ndarray, kind: str) -> np.ndarray:
    """What is left of `weight` in type `kind`."""
    data, type_ = quantized(weight, kind), gguf.GGMLQuantizationType((TYPES | OTHER_TYPES)[kind])
    found: np.ndarray = gguf.quants.dequantize(data, type_)
    return found.astype(np.float32)


def quantized(weight: np.ndarray, kind: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """`weight` as ggml stores it; shape (..., bytes of a row)."""
    if kind == "F16":
        return weight.astype(np.float16).view(np.uint8)
    if kind == "BF16":
        return (weight.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    cols = weight.shape[-1]
    rows = weight.size // cols
    call = library().call.ggml_quantize_chunk
    call.restype = ctypes.c_size_t
    block, size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType((TYPES | OTHER_TYPES)[kind])]
    out = np.zeros(weight.size // block * size, np.uint8)
    flat = np.ascontiguousarray(weight, np.float32)
    call(
        ctypes.c_int((TYPES | OTHER_TYPES)[kind]),
        flat.ctypes.data_as(ctypes.c_void_p),
        out.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(0),
        ctypes.c_int64(rows),
        ctypes.c_int64(cols),
        None,
    )
    return out.reshape(*weight.shape[:-1], cols // block * size)
