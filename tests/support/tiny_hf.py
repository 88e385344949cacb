"""The models of `tiny_models` as `transformers` has them: configurations, names, folders."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.support import tiny_models
from tests.support.tiny_gguf import CHATML, MERGES, SPECIALS, tokens
from tests.support.tiny_models import EXPERTS, HEAD, HEADS, KV_HEADS, MODELS

# model -> (name in transformers, fields of its configuration).
_MIXTURE = {"num_experts_per_tok": tiny_models.EXPERTS_USED}
CONFIGS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "llama": ("Llama", {}),
    # Mistral is Llama with a window, which GGUF files do not tell; wider than the prompt here.
    "mistral": ("Mistral", {"sliding_window": 4096}),
    "mixtral": ("Mixtral", {**_MIXTURE, "num_local_experts": EXPERTS}),
    "qwen2": ("Qwen2", {"rope_theta": 1e6}),
    "qwen3": ("Qwen3", {"rope_theta": 1e6}),
    "qwen3moe": (
        "Qwen3Moe",
        {
            **_MIXTURE,
            "num_experts": EXPERTS,
            "moe_intermediate_size": tiny_models.FEED_FORWARD,
            "norm_topk_prob": True,
        },
    ),
    "gemma2": ("Gemma2", {"query_pre_attn_scalar": HEAD, "sliding_window": 40}),
    "gemma3": (
        "Gemma3Text",
        {"query_pre_attn_scalar": HEAD, "sliding_window": 40, "rope_theta": 1e6},
    ),
    "phi3": ("Phi3", {}),
    "granite": (
        "Granite",
        {
            "embedding_multiplier": 12.0,
            "residual_multiplier": 0.22,
            "attention_multiplier": 0.0625,
            "logits_scaling": 8.0,
        },
    ),
}
# GGUF's names of a layer's tensors -> transformers'.
_LAYER = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_qkv": "self_attn.qkv_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "ffn_gate_inp": "mlp.gate",
}
_GEMMA = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_GLOBAL = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
Tensors = dict[str, np.ndarray]


def in_halves(weight: np.ndarray, heads: int) -> np.ndarray:
    """Rows of each head from llama.cpp's rotary pairs to transformers' halves."""
    half = len(weight) // heads // 2
    pairs = weight.reshape(heads, half, 2, *weight.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(weight.shape)


def state_dict(model: str, weights: Tensors) -> Tensors:
    """The weights under transformers' names."""
    return dict(_renamed(model, weights))


def _renamed(model: str, weights: Tensors) -> Iterator[tuple[str, np.ndarray]]:
    names = {**_LAYER, **(_GEMMA if model.startswith("gemma") else {})}
    if model == "phi3":
        names["ffn_up"] = "mlp.gate_up_proj"
    for name, weight in weights.items():
        if model.startswith("gemma") and name.endswith("norm.weight"):
            # Gemma's norms multiply by 1 + weight; GGUF files hold the sum.
            weight = weight - 1
        if name in _GLOBAL:
            yield _GLOBAL[name], weight
            continue
        _, layer, part, end = name.split(".")
        prefix = f"model.layers.{layer}."
        if part in ("ffn_gate_exps", "ffn_up_exps"):
            if part == "ffn_gate_exps":
                up = weights[f"blk.{layer}.ffn_up_exps.weight"]
                yield f"{prefix}mlp.experts.gate_up_proj", np.concatenate([weight, up], axis=1)
            continue
        if part == "ffn_down_exps":
            yield f"{prefix}mlp.experts.down_proj", weight
            continue
        if MODELS.get(model, ("llama",))[0] in ("llama", "granite") and part in (
            "attn_q",
            "attn_k",
        ):
            weight = in_halves(weight, HEADS if part == "attn_q" else KV_HEADS)
        yield f"{prefix}{names[part]}.{end}", weight


def config_json(model: str, tied: bool) -> dict[str, Any]:
    """What stands in config.json."""
    name, fields = CONFIGS[model]
    kinds = {"Gemma3Text": "gemma3_text", "Qwen3Moe": "qwen3_moe"}
    return {
        "model_type": kinds.get(name, name.lower()),
        "vocab_size": tiny_models.VOCAB,
        "hidden_size": tiny_models.EMBEDDING,
        "intermediate_size": tiny_models.FEED_FORWARD,
        "num_hidden_layers": tiny_models.layers_of(model),
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HEAD,
        "max_position_embeddings": tiny_models.CONTEXT,
        "rms_norm_eps": 1e-5,
        "rope_theta": 1e4,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
        "tie_word_embeddings": tied,
        "eos_token_id": tiny_models.VOCAB - 1,
        **fields,
    }


def write_folder(
    folder: Path, model: str, dtype: str = "F32", *, config: Mapping[str, Any] | None = None
) -> Path:
    """A folder as `save_pretrained` writes it. `config`: further fields of config.json."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = tiny_models.random_weights("llama" if model == "mistral" else model)
    tied = "output.weight" not in weights
    fields = {**config_json(model, tied), **(config or {})}
    (folder / "config.json").write_text(json.dumps(fields))
    write_safetensors(folder / "model.safetensors", state_dict(model, weights), dtype)
    words = tokens()
    first = len(words) - len(SPECIALS)
    pattern = r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s+"
    tokenizer = {
        "model": {
            "type": "BPE",
            "vocab": {word: number for number, word in enumerate(words[:first])},
            "merges": [merge.split(" ") for merge in MERGES],
        },
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": {"Regex": pattern}},
                {"type": "ByteLevel", "use_regex": False},
            ],
        },
        "added_tokens": [
            {"id": first + place, "content": text, "special": True}
            for place, text in enumerate(SPECIALS)
        ],
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings = {"eos_token": SPECIALS[-1], "chat_template": CHATML}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def write_safetensors(path: Path, tensors: Tensors, dtype: str) -> None:
    """One file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    body = b""
    for name, weight in tensors.items():
        data = np.ascontiguousarray(weight, np.float32)
        stored = {
            "F32": lambda data=data: data.tobytes(),
            "F16": lambda data=data: data.astype(np.float16).tobytes(),
            "BF16": lambda data=data: (data.view(np.uint32) >> 16).astype(np.uint16).tobytes(),
        }[dtype]()
        header[name] = {
            "dtype": dtype,
            "shape": list(weight.shape),
            "data_offsets": [len(body), len(body) + len(stored)],
        }
        body += stored
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)
