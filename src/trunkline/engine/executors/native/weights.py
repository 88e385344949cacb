"""From the tensors of GGUF files to the weights of a native model.

Nothing is copied here: the engine gets the addresses of mapped file contents, with their sizes,
which it checks once more.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.engine.executors.native.description import Description, Unsupported
from trunkline.formats.gguf import TENSOR_TYPES, Gguf, TensorInfo
from trunkline.libnative.structs import Kind

Bytes = npt.NDArray[np.uint8]
F32 = 0

# Names in GGUF files -> kinds; all models have these.
_GLOBAL: Mapping[str, Kind] = MappingProxyType(
    {"token_embd.weight": Kind.TOKEN_EMBEDDING, "output_norm.weight": Kind.OUTPUT_NORM}
)
_LAYER: Mapping[str, Kind] = MappingProxyType(
    {
        "attn_norm.weight": Kind.ATTENTION_NORM,
        "attn_q.weight": Kind.Q,
        "attn_k.weight": Kind.K,
        "attn_v.weight": Kind.V,
        "attn_output.weight": Kind.O,
        "ffn_norm.weight": Kind.FFN_NORM,
    }
)
_DENSE: Mapping[str, Kind] = MappingProxyType(
    {"ffn_gate.weight": Kind.GATE, "ffn_up.weight": Kind.UP, "ffn_down.weight": Kind.DOWN}
)
# One tensor holds the matrices of all experts.
_EXPERTS: Mapping[str, Kind] = MappingProxyType(
    {
        "ffn_gate_exps.weight": Kind.GATE,
        "ffn_up_exps.weight": Kind.UP,
        "ffn_down_exps.weight": Kind.DOWN,
    }
)
_MORE: Mapping[str, Kind] = MappingProxyType(
    {
        "attn_q.bias": Kind.Q_BIAS,
        "attn_k.bias": Kind.K_BIAS,
        "attn_v.bias": Kind.V_BIAS,
        "attn_q_norm.weight": Kind.Q_NORM,
        "attn_k_norm.weight": Kind.K_NORM,
        "post_attention_norm.weight": Kind.POST_ATTENTION_NORM,
        "post_ffw_norm.weight": Kind.POST_FFN_NORM,
    }
)
# Found in some files of any architecture.
_OPTIONAL: Mapping[str, Kind] = MappingProxyType(
    {
        "attn_q.bias": Kind.Q_BIAS,
        "attn_k.bias": Kind.K_BIAS,
        "attn_v.bias": Kind.V_BIAS,
        "attn_output.bias": Kind.O_BIAS,
    }
)
# Read elsewhere, or only told for llama.cpp's sake.
_KNOWN = frozenset({"rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight"})


class Weight(NamedTuple):
    """One weight of the model."""

    kind: Kind
    layer: int
    expert: int
    # ggml_type, rows and elements of a row, and the bytes.
    type: int
    rows: int
    cols: int
    data: Bytes


class _Tensors:
    """All tensors of a model, by name; remembers which have been taken."""

    def __init__(self, files: Sequence[Gguf]) -> None:
        self._found: dict[str, tuple[Gguf, TensorInfo]] = {}
        for file in files:
            for one in file.tensors:
                if one.name in self._found:
                    raise Unsupported(f"the tensor {one.name} is in two of its files")
                self._found[one.name] = (file, one)
        self._left = set(self._found)

    def has(self, name: str) -> bool:
        return name in self._found

    def take(self, name: str) -> tuple[TensorInfo, Bytes]:
        if name not in self._found:
            raise Unsupported(f"the tensor {name} is missing")
        file, tensor = self._found[name]
        self._left.discard(name)
        return tensor, file.data(tensor)

    def check_all_taken(self) -> None:
        left = sorted(self._left - _KNOWN)
        if left:
            raise Unsupported(f"it has the unknown tensor {left[0]}")


def weights(files: Sequence[Gguf], description: Description) -> Iterator[Weight]:
    """All weights. Raises `Unsupported` for tensors that are missing, or that nobody asked for."""
    tensors = _Tensors(files)
    for name, kind in _GLOBAL.items():
        yield from _split(tensors, name, (kind,), 0, 1)
    if tensors.has("output.weight"):
        yield from _split(tensors, "output.weight", (Kind.OUTPUT,), 0, 1)
    for layer in range(description.layers):
        yield from _layer(tensors, description, layer)
    tensors.check_all_taken()


def _layer(tensors: _Tensors, description: Description, layer: int) -> Iterator[Weight]:
    prefix = f"blk.{layer}."
    wanted = {**_LAYER, **{name: _MORE[name] for name in description.more_weights}}
    wanted.update({name: kind for name, kind in _OPTIONAL.items() if tensors.has(prefix + name)})
    if description.experts:
        wanted["ffn_gate_inp.weight"] = Kind.ROUTER
        for name, kind in _EXPERTS.items():
            yield from _split(tensors, prefix + name, (kind,), layer, description.experts)
    elif description.fused_gate:
        yield from _fused(tensors, f"{prefix}ffn_up.weight", _GATE_UP, layer, description)
        wanted["ffn_down.weight"] = Kind.DOWN
    else:
        wanted.update(_DENSE)
    for end, kinds in (("weight", _QKV), ("bias", _QKV_BIAS)):
        if tensors.has(f"{prefix}attn_qkv.{end}"):
            yield from _fused(tensors, f"{prefix}attn_qkv.{end}", kinds, layer, description)
            for name in ("attn_q", "attn_k", "attn_v"):
                wanted.pop(f"{name}.{end}", None)
    for name, kind in wanted.items():
        yield from _split(tensors, prefix + name, (kind,), layer, 1)


_QKV = (Kind.Q, Kind.K, Kind.V)
_QKV_BIAS = (Kind.Q_BIAS, Kind.K_BIAS, Kind.V_BIAS)
_GATE_UP = (Kind.GATE, Kind.UP)


def _fused(
    tensors: _Tensors, name: str, kinds: tuple[Kind, ...], layer: int, description: Description
) -> Iterator[Weight]:
    """Matrices that lie one after the other in a tensor; or their biases."""
    tensor, data = tensors.take(name)
    each = {
        _GATE_UP: (description.feed_forward,) * 2,
        _QKV: (description.heads, description.kv_heads, description.kv_heads),
        _QKV_BIAS: (description.heads, description.kv_heads, description.kv_heads),
    }[kinds]
    size = 1 if kinds == _GATE_UP else description.head
    bias = len(tensor.shape) == 1
    rows = tensor.shape[0] if bias else tensor.shape[1]
    if rows != sum(each) * size or len(tensor.shape) > 2:
        raise Unsupported(f"{name} has {rows} rows, expected {sum(each) * size}")
    row_bytes, at = tensor.nbytes // rows, 0
    for kind, count in zip(kinds, each, strict=True):
        own = data[at * row_bytes : (at + count * size) * row_bytes]
        at += count * size
        shape = (1, count * size) if bias else (count * size, tensor.shape[0])
        yield _weight(kind, layer, 0, tensor, shape, own)


def _split(
    tensors: _Tensors, name: str, kinds: tuple[Kind], layer: int, experts: int
) -> Iterator[Weight]:
    """A tensor, or the matrices of all experts in it."""
    tensor, data = tensors.take(name)
    cols, rows, count = (*tensor.shape, 1, 1)[:3]
    if count != experts or len(tensor.shape) > 3:
        raise Unsupported(f"{name} has the shape {tensor.shape}")
    size = tensor.nbytes // count
    for expert in range(count):
        own = data[expert * size : (expert + 1) * size]
        yield _weight(kinds[0], layer, expert, tensor, (rows, cols), own)


def _weight(
    kind: Kind, layer: int, expert: int, tensor: TensorInfo, shape: tuple[int, int], data: Bytes
) -> Weight:
    vector = shape[0] == 1
    if vector and tensor.kind != F32:
        floats = {"F16": np.float16}.get(TENSOR_TYPES[tensor.kind][0])
        if floats is None:
            raise Unsupported(f"{tensor.name} is a vector of {TENSOR_TYPES[tensor.kind][0]}")
        data = data.view(floats).astype(np.float32).view(np.uint8)
    return Weight(kind, layer, expert, F32 if vector else tensor.kind, *shape, data)
