"""From transformers' tensors to GGUF's: names, order of rows, types."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from trunkline.core.errors import InvalidRequest
from trunkline.formats.gguf import TENSOR_TYPES
from trunkline.formats.gguf_writer import NewTensor
from trunkline.formats.safetensors import Stored
from trunkline.store.convert.hyper import Config, rope, rope_type
from trunkline.store.convert.quantize import quantize

Floats = npt.NDArray[np.float32]

F32, F16, Q8_0, Q4_K, Q6_K, BF16 = 0, 1, 8, 12, 14, 30
_STORED = MappingProxyType({"F32": F32, "F16": F16, "BF16": BF16})

_GLOBAL: Mapping[str, str] = MappingProxyType(
    {"embed_tokens.weight": "token_embd.weight", "norm.weight": "output_norm.weight"}
)
_LAYER: Mapping[str, str] = MappingProxyType(
    {
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.qkv_proj": "attn_qkv",
        "self_attn.o_proj": "attn_output",
        "self_attn.q_norm": "attn_q_norm",
        "self_attn.k_norm": "attn_k_norm",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.gate_up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
        "mlp.gate": "ffn_gate_inp",
        "block_sparse_moe.gate": "ffn_gate_inp",
    }
)
_GEMMA: Mapping[str, str] = MappingProxyType(
    {
        "post_attention_layernorm": "post_attention_norm",
        "pre_feedforward_layernorm": "ffn_norm",
        "post_feedforward_layernorm": "post_ffw_norm",
    }
)
# The matrices of one expert, in both spellings.
_EXPERT: Mapping[str, str] = MappingProxyType(
    {
        "gate_proj": "ffn_gate_exps",
        "up_proj": "ffn_up_exps",
        "down_proj": "ffn_down_exps",
        "w1": "ffn_gate_exps",
        "w3": "ffn_up_exps",
        "w2": "ffn_down_exps",
    }
)
_EXPERT_NAME = re.compile(r"(?:mlp|block_sparse_moe)\.experts\.(\d+)\.(\w+)\.weight")
_LAYER_NAME = re.compile(r"layers\.(\d+)\.(.+)")
# Not weights: computed, or of no use for text.
_IGNORED = re.compile(r"rotary_emb\.inv_freq$|vision_tower\.|multi_modal_projector\.|visual\.")


def new_tensors(
    stored: Mapping[str, Stored], config: Config, arch: str, kind: str
) -> list[NewTensor]:
    """All tensors of the GGUF file, matrices in type `kind` ("keep": as stored).

    Raises `InvalidRequest` for tensors that nobody knows.
    """
    found: list[NewTensor] = []
    experts: dict[tuple[int, str], dict[int, Stored]] = {}
    for full, one in stored.items():
        if _IGNORED.search(full):
            continue
        name = re.sub(r"^(?:language_model\.)?(?:model\.)?(?:language_model\.)?", "", full)
        expert = _expert(name)
        if expert is not None:
            layer, part, number = expert
            experts.setdefault((layer, part), {})[number] = one
            continue
        if name == "lm_head.weight" and config.get("tie_word_embeddings", arch.startswith("gemma")):
            continue
        found += _converted(name, one, config, arch, kind)
    for (layer, part), members in experts.items():
        found.append(_stacked(f"blk.{layer}.{part}.weight", members, kind))
    found += _rope_factors(config)
    return sorted(found, key=_order)


def _order(tensor: NewTensor) -> tuple[int, str]:
    match = re.match(r"blk\.(\d+)\.", tensor.name)
    return (int(match[1]) if match else -1, tensor.name)


def _expert(name: str) -> tuple[int, str, int] | None:
    layer = _LAYER_NAME.fullmatch(name)
    match = _EXPERT_NAME.fullmatch(layer[2]) if layer else None
    if layer is None or match is None or match[2] not in _EXPERT:
        return None
    return int(layer[1]), _EXPERT[match[2]], int(match[1])


def _converted(name: str, one: Stored, config: Config, arch: str, kind: str) -> Iterator[NewTensor]:
    if name == "lm_head.weight":
        yield _tensor("output.weight", one, kind)
        return
    if name in _GLOBAL:
        yield _tensor(_GLOBAL[name], one, kind, _plus_one(name, arch))
        return
    layer = _LAYER_NAME.fullmatch(name)
    if layer is not None and layer[2] in ("mlp.experts.gate_up_proj", "mlp.experts.down_proj"):
        yield from _fused_experts(int(layer[1]), layer[2], one, kind)
        return
    if layer is not None:
        part, _, end = layer[2].rpartition(".")
        known = {**_LAYER, **(_GEMMA if arch.startswith("gemma") else {})}.get(part)
        if known is not None and end in ("weight", "bias"):
            change = _plus_one(part, arch) or _pairs(known, config, arch)
            yield _tensor(f"blk.{layer[1]}.{known}.{end}", one, kind, change)
            return
    raise InvalidRequest(f"the tensor {name} cannot be converted: nobody knows it")


def _plus_one(name: str, arch: str) -> Callable[[Floats], Floats] | None:
    """Gemma's norms multiply by 1 + weight; GGUF files hold the sum."""
    if arch.startswith("gemma") and "norm" in name:
        return lambda weight: weight + np.float32(1.0)
    return None


def _pairs(part: str, config: Config, arch: str) -> Callable[[Floats], Floats] | None:
    """llama.cpp's llama and granite have rotary pairs side by side, transformers in halves."""
    if arch not in ("llama", "granite") or part not in ("attn_q", "attn_k"):
        return None
    key = "num_attention_heads" if part == "attn_q" else "num_key_value_heads"
    heads = int(config.get(key) or config["num_attention_heads"])

    def change(weight: Floats) -> Floats:
        half = len(weight) // heads // 2
        rows = weight.reshape(heads, 2, half, *weight.shape[1:])
        return np.ascontiguousarray(rows.swapaxes(1, 2)).reshape(weight.shape)

    return change


def _tensor(
    name: str, one: Stored, kind: str, change: Callable[[Floats], Floats] | None = None
) -> NewTensor:
    if len(one.shape) == 1 or name.endswith("ffn_gate_inp.weight"):
        return NewTensor(name, one.shape, F32, lambda: _changed(one.floats(), change))
    type_ = _type(name, one, kind)
    if type_ == _STORED[one.dtype] and change is None:
        return NewTensor(name, one.shape, type_, one.bits)

    def data() -> npt.NDArray[np.generic]:
        return quantize(_changed(one.floats(), change), type_)

    return NewTensor(name, one.shape, type_, data)


def _changed(weight: Floats, change: Callable[[Floats], Floats] | None) -> Floats:
    return weight if change is None else change(weight)


def _stacked(name: str, members: Mapping[int, Stored], kind: str) -> NewTensor:
    """All experts' matrices in one tensor."""
    parts = [members[number] for number in range(len(members)) if number in members]
    if len(parts) != len(members) or len({part.shape for part in parts}) != 1:
        raise InvalidRequest(f"{name}: experts are missing, or differ in shape")
    type_ = _type(name, parts[0], kind)
    shape = (len(parts), *parts[0].shape)
    return NewTensor(
        name, shape, type_, lambda: np.concatenate([_quantized(part, type_) for part in parts])
    )


def _fused_experts(layer: int, part: str, one: Stored, kind: str) -> Iterator[NewTensor]:
    """Tensors that hold all experts already, gate above up."""
    if len(one.shape) != 3 or one.shape[1] % 2:
        raise InvalidRequest(f"{part} of layer {layer} has the shape {one.shape}")
    names = ("gate", "up") if part.endswith("gate_up_proj") else ("down",)
    count, rows, cols = one.shape
    each = rows // len(names)
    for place, label in enumerate(names):
        name = f"blk.{layer}.ffn_{label}_exps.weight"
        type_ = _type(name, one, kind)
        begin = place * each

        def data(begin: int = begin, type_: int = type_) -> npt.NDArray[np.generic]:
            return quantize(np.ascontiguousarray(one.floats()[:, begin : begin + each]), type_)

        yield NewTensor(name, (count, each, cols), type_, data)


def _quantized(part: Stored, type_: int) -> npt.NDArray[np.generic]:
    return quantize(part.floats(), type_).reshape(-1)


def _type(name: str, one: Stored, kind: str) -> int:
    """The type of a matrix; where its rows do not fit blocks, the next larger one."""
    wished = {"keep": _STORED[one.dtype], "q8_0": Q8_0, "q4_k": Q4_K}[kind]
    if wished == Q4_K and name.split(".")[-2] in ("output", "token_embd", "attn_v", "ffn_down"):
        # As llama.cpp's Q4_K_M: where errors cost most.
        wished = Q6_K
    for type_ in (wished, Q8_0, F16):
        if one.shape[-1] % TENSOR_TYPES[type_][1] == 0:
            return type_
    raise AssertionError("F16 fits everything")


def _rope_factors(config: Config) -> Iterator[NewTensor]:
    """By which rotary frequencies are divided."""
    kind, found = rope_type(config), rope(config)
    if kind == "llama3":
        yield _vector("rope_freqs.weight", _llama3(config, found))
    elif kind in ("longrope", "su"):
        for name in ("long", "short"):
            yield _vector(f"rope_factors_{name}.weight", found[f"{name}_factor"])


def _vector(name: str, values: Sequence[float]) -> NewTensor:
    array = np.array(values, np.float32)
    return NewTensor(name, array.shape, F32, lambda: array)


def _llama3(config: Config, found: Mapping[str, Any]) -> list[float]:
    """Slow frequencies are stretched, fast ones left alone (transformers, modeling_rope_utils)."""
    head = config.get("head_dim") or int(config["hidden_size"]) // int(
        config["num_attention_heads"]
    )
    base = float(config.get("rope_theta") or found.get("rope_theta") or 1e4)
    low, high = float(found["low_freq_factor"]), float(found["high_freq_factor"])
    factor, original = float(found["factor"]), float(found["original_max_position_embeddings"])
    factors = []
    for i in range(0, int(head), 2):
        wavelength = 2 * math.pi * base ** (i / int(head))
        if wavelength < original / high:
            factors.append(1.0)
        elif wavelength > original / low:
            factors.append(factor)
        else:
            smooth = (original / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors
