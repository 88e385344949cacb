"""From config.json to the hyperparameters of a GGUF file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from trunkline.core.errors import InvalidRequest
from trunkline.formats.gguf_writer import Value

Config = Mapping[str, Any]

# transformers' model_type -> GGUF's architecture.
ARCHITECTURES: Mapping[str, str] = MappingProxyType(
    {
        "llama": "llama",
        "mistral": "llama",
        "mixtral": "llama",
        "qwen2": "qwen2",
        "qwen3": "qwen3",
        "qwen3_moe": "qwen3moe",
        "gemma2": "gemma2",
        "gemma3_text": "gemma3",
        "phi3": "phi3",
        "granite": "granite",
    }
)
# config.json's keys -> GGUF's, where they are there and not null.
_KEYS: Mapping[str, str] = MappingProxyType(
    {
        "max_position_embeddings": "context_length",
        "hidden_size": "embedding_length",
        "num_hidden_layers": "block_count",
        "intermediate_size": "feed_forward_length",
        "num_attention_heads": "attention.head_count",
        "num_key_value_heads": "attention.head_count_kv",
        "rms_norm_eps": "attention.layer_norm_rms_epsilon",
        "rope_theta": "rope.freq_base",
        "vocab_size": "vocab_size",
    }
)
_MORE: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "mixtral": {
            "num_local_experts": "expert_count",
            "num_experts_per_tok": "expert_used_count",
        },
        "qwen3_moe": {
            "num_experts": "expert_count",
            "num_experts_per_tok": "expert_used_count",
            "moe_intermediate_size": "expert_feed_forward_length",
        },
        "gemma2": {
            "sliding_window": "attention.sliding_window",
            "attn_logit_softcapping": "attn_logit_softcapping",
            "final_logit_softcapping": "final_logit_softcapping",
        },
        "gemma3_text": {
            "sliding_window": "attention.sliding_window",
            "rope_local_base_freq": "rope.freq_base_swa",
        },
        "phi3": {"original_max_position_embeddings": "rope.scaling.original_context_length"},
        "granite": {
            "embedding_multiplier": "embedding_scale",
            "residual_multiplier": "residual_scale",
            "attention_multiplier": "attention.scale",
            "logits_scaling": "logit_scale",
        },
    }
)
_FLOATS = frozenset(
    {
        *("attention.layer_norm_rms_epsilon", "rope.freq_base", "rope.freq_base_swa"),
        *("attn_logit_softcapping", "final_logit_softcapping"),
        *("embedding_scale", "residual_scale", "attention.scale", "logit_scale"),
    }
)


def text_config(config: Config) -> Config:
    """The part about text, of a model that also sees."""
    inner = config.get("text_config")
    if not isinstance(inner, Mapping):
        return config
    return {**inner, "architectures": config.get("architectures")}


def hyperparameters(config: Config) -> tuple[str, dict[str, Value]]:
    """GGUF's architecture, and the values under its keys. Raises `InvalidRequest`."""
    kind = str(config.get("model_type"))
    arch = ARCHITECTURES.get(kind)
    if arch is None:
        raise InvalidRequest(
            f"safetensors of type {kind!r} cannot be converted; these can: "
            f"{', '.join(sorted(ARCHITECTURES))}. A GGUF file of the model may work."
        )
    _refuse_odd(kind, config)
    found: dict[str, Value] = {}
    for key, name in {**_KEYS, **_MORE.get(kind, {})}.items():
        value = _of(config, key)
        if isinstance(value, int | float):
            found[name] = float(value) if name in _FLOATS else int(value)
    for name in ("embedding_length", "block_count", "attention.head_count", "context_length"):
        if not isinstance(found.get(name), int) or int(str(found[name])) < 1:
            raise InvalidRequest(f"config.json does not say {name}")
    head = config.get("head_dim") or int(config["hidden_size"]) // int(
        config["num_attention_heads"]
    )
    found["attention.key_length"] = found["attention.value_length"] = int(head)
    share = float(_of(config, "partial_rotary_factor") or 1.0)
    found["rope.dimension_count"] = int(head * share)
    found.update(_scaling(config))
    return arch, {f"{arch}.{name}": value for name, value in found.items()}


def rope(config: Config) -> Mapping[str, Any]:
    """What config.json says of rotary positions, in the words of either version."""
    parameters = config.get("rope_parameters")
    if isinstance(parameters, Mapping):
        whole = parameters.get("full_attention", parameters)
        local = parameters.get("sliding_attention")
        base = {"rope_local_base_freq": local["rope_theta"]} if isinstance(local, Mapping) else {}
        return {**whole, **base}
    scaling = config.get("rope_scaling")
    return scaling if isinstance(scaling, Mapping) else {}


def rope_type(config: Config) -> str:
    """ "default", "linear", "llama3", "longrope", ..."""
    found = rope(config)
    return str(found.get("rope_type") or found.get("type") or "default")


def _of(config: Config, key: str) -> Any:
    value = config.get(key)
    return rope(config).get(key) if value is None else value


def _scaling(config: Config) -> dict[str, Value]:
    kind, found = rope_type(config), rope(config)
    match kind:
        case "default" | "llama3":
            return {}
        case "linear":
            return {"rope.scaling.type": "linear", "rope.scaling.factor": float(found["factor"])}
        case "longrope" | "su":
            longest = int(config["max_position_embeddings"])
            original = int(_of(config, "original_max_position_embeddings") or longest)
            factor = longest / original
            scale = math.sqrt(1 + math.log(factor) / math.log(original)) if factor > 1 else 1.0
            return {"rope.scaling.attn_factor": scale}
        case "yarn":
            return _yarn(config, found)
    raise InvalidRequest(f"rotary scaling of type {kind!r} cannot be converted")


def _yarn(config: Config, found: Mapping[str, Any]) -> dict[str, Value]:
    odd = [key for key in ("mscale", "mscale_all_dim", "attention_factor") if found.get(key)]
    if odd or found.get("truncate") is False:
        raise InvalidRequest(f"rotary scaling with {(*odd, 'truncate')[0]} cannot be converted")
    longest = int(config["max_position_embeddings"])
    original = int(_of(config, "original_max_position_embeddings") or longest)
    scaling: dict[str, Value] = {
        "rope.scaling.type": "yarn",
        "rope.scaling.factor": float(found.get("factor") or longest / original),
        "rope.scaling.original_context_length": original,
    }
    for key in ("beta_fast", "beta_slow"):
        if found.get(key):
            scaling[f"rope.scaling.yarn_{key}"] = float(found[key])
    return scaling


def _refuse_odd(kind: str, config: Config) -> None:
    if kind == "qwen3_moe" and (config.get("mlp_only_layers") or not config.get("norm_topk_prob")):
        raise InvalidRequest("this mixture of experts is of a kind that cannot be converted")
    if config.get("quantization_config"):
        raise InvalidRequest("safetensors that are quantized already cannot be converted")
