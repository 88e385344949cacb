"""Every architecture against `transformers`, in float32 with the same random weights.

`torch` and `transformers` are no test dependencies: where they are missing this file is skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.engine.executors.native.test_architectures import PROMPT, all_logits
from tests.engine.executors.real import load_real
from tests.support import tiny_models
from tests.support.tiny_models import EXPERTS, HEAD, HEADS, KV_HEADS, MODELS, write_model

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

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
_CLASSES = {"Gemma3Text": "Gemma3"}
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


def reference(model: str, weights: Tensors) -> np.ndarray:
    """transformers' logits behind every token of `PROMPT`, centred."""
    name, fields = CONFIGS[model]
    config = getattr(transformers, f"{name}Config")(
        vocab_size=tiny_models.VOCAB,
        hidden_size=tiny_models.EMBEDDING,
        intermediate_size=tiny_models.FEED_FORWARD,
        num_hidden_layers=tiny_models.layers_of(model),
        num_attention_heads=HEADS,
        num_key_value_heads=KV_HEADS,
        head_dim=HEAD,
        max_position_embeddings=tiny_models.CONTEXT,
        rms_norm_eps=1e-5,
        tie_word_embeddings="output.weight" not in weights,
        attn_implementation="eager",
        **{"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "rope_theta": 1e4, **fields},
    )
    made = getattr(transformers, f"{_CLASSES.get(name, name)}ForCausalLM")(config).eval().float()
    tensors = {
        key: torch.from_numpy(value.copy()) for key, value in state_dict(model, weights).items()
    }
    missing, unexpected = made.load_state_dict(tensors, strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    made.tie_weights()
    with torch.no_grad():
        logits = made(torch.tensor([PROMPT])).logits[0].double().numpy()
    centred: np.ndarray = logits - logits.mean(axis=1, keepdims=True)
    return centred


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("model", CONFIGS)
def test_logits(tmp_path: Path, model: str) -> None:
    """All that differs is that keys and values are kept as f16."""
    like = "llama" if model == "mistral" else model
    right = reference(model, tiny_models.random_weights(like))
    executor = load_real("native", write_model(tmp_path / "model.gguf", like))
    ours = all_logits(executor, PROMPT, 12)
    executor.close()
    error = np.sqrt(((ours - right) ** 2).mean(axis=1)) / right.std()
    # Of two experts that are nearly as good, either may be chosen.
    limit = 0.02 if "num_experts_per_tok" in CONFIGS[model][1] else 0.005
    assert error.max() < limit, f"{error.max():.5f} at {error.argmax()}"
