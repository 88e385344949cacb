"""Writing weights one tensor at a time, so that a model never has to fit in memory.

safetensors: an 8-byte little-endian header length, a JSON header, then the tensors' bytes
(https://github.com/huggingface/safetensors, "Format"). GGUF goes through the `gguf` package.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from caboose.layout import Array, Shape, TensorSpec, interleave, rope_factors, tensor_specs

# Gives a weight as float32, shaped as its TensorSpec says.
Weights = Callable[[TensorSpec], Array]

_SAFETENSORS_BYTES = {"F32": 4, "F16": 2, "BF16": 2}
_FILE_TYPES = {
    "F32": gguf.LlamaFileType.ALL_F32,
    "F16": gguf.LlamaFileType.MOSTLY_F16,
    "BF16": gguf.LlamaFileType.MOSTLY_BF16,
    "Q8_0": gguf.LlamaFileType.MOSTLY_Q8_0,
    "Q4_0": gguf.LlamaFileType.MOSTLY_Q4_0,
}
GGUF_TYPES = tuple(_FILE_TYPES)


@dataclass(frozen=True)
class Vocabulary:
    """A byte-level BPE in the terms that GGUF stores."""

    # tokenizer.ggml.pre: which pre-tokenizing regex libllama applies.
    pre: str
    tokens: Sequence[str]
    types: Sequence[gguf.TokenType]
    # "left right" pairs, in order of preference.
    merges: Sequence[str]
    bos: int | None
    eos: int
    pad: int
    chat_template: str


def vocabulary_from_json(
    tokenizer: dict[str, Any], *, pre: str, bos: str | None, eos: str, pad: str, chat_template: str
) -> Vocabulary:
    """Reads a `tokenizer.json`; added tokens marked special become CONTROL, others USER_DEFINED."""
    ids: dict[str, int] = dict(tokenizer["model"]["vocab"])
    types = dict.fromkeys(ids.values(), gguf.TokenType.NORMAL)
    for added in tokenizer["added_tokens"]:
        ids[added["content"]] = added["id"]
        control = added["special"]
        types[added["id"]] = gguf.TokenType.CONTROL if control else gguf.TokenType.USER_DEFINED
    names = {i: name for name, i in ids.items()}
    merges = [m if isinstance(m, str) else " ".join(m) for m in tokenizer["model"]["merges"]]
    order = range(len(names))
    return Vocabulary(
        pre=pre,
        tokens=[names[i] for i in order],
        types=[types[i] for i in order],
        merges=merges,
        bos=ids[bos] if bos is not None else None,
        eos=ids[eos],
        pad=ids[pad],
        chat_template=chat_template,
    )


def to_bf16(weight: Array) -> Array:
    """float32 to bfloat16 bits (uint16), rounding to nearest even; the weights are finite."""
    bits = np.ascontiguousarray(weight, dtype=np.float32).view(np.uint32)
    return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def write_safetensors(path: Path, shape: Shape, weights: Weights, dtype: str) -> None:
    """Streams every weight of the model to one safetensors file."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for spec in tensor_specs(shape):
        end = offset + math.prod(spec.shape) * _SAFETENSORS_BYTES[dtype]
        header[spec.hf_name] = {
            "dtype": dtype,
            "shape": list(spec.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as out:
        out.write(len(text).to_bytes(8, "little") + text)
        for spec in tensor_specs(shape):
            weight = weights(spec)
            if dtype == "BF16":
                to_bf16(weight).tofile(out)
            else:
                weight.astype(np.float16 if dtype == "F16" else np.float32).tofile(out)


def gguf_writer(path: Path, shape: Shape, vocabulary: Vocabulary, file_type: str) -> Any:
    """A GGUF writer that already holds everything about shape and tokenizer.

    The caller may add keys of its own before `write_gguf` ends the file.
    """
    writer = gguf.GGUFWriter(str(path), shape.architecture)
    writer.add_file_type(_FILE_TYPES[file_type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_vocab_size(shape.vocab)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(vocabulary.pre)
    writer.add_token_list(list(vocabulary.tokens))
    writer.add_token_types(list(vocabulary.types))
    writer.add_token_merges(list(vocabulary.merges))
    if vocabulary.bos is not None:
        writer.add_bos_token_id(vocabulary.bos)
    writer.add_eos_token_id(vocabulary.eos)
    writer.add_pad_token_id(vocabulary.pad)
    writer.add_add_bos_token(vocabulary.bos is not None)
    writer.add_chat_template(vocabulary.chat_template)
    return writer


def write_gguf(writer: Any, shape: Shape, weights: Weights, weight_type: str) -> None:
    """Streams every weight through `writer` and closes it.

    Vectors stay F32, as llama.cpp wants them. In a Q4_0 file the embedding, which is the output
    layer too, is Q8_0: llama.cpp spends more bits there as well.
    """
    plan: list[tuple[TensorSpec, gguf.GGMLQuantizationType]] = []
    for spec in tensor_specs(shape):
        name = weight_type if len(spec.shape) > 1 else "F32"
        if name == "Q4_0" and spec.gguf_name == "token_embd.weight":
            name = "Q8_0"
        plan.append((spec, gguf.GGMLQuantizationType[name]))
    factors = rope_factors(shape)
    if factors is not None:
        f32 = gguf.GGMLQuantizationType.F32
        writer.add_tensor_info(
            "rope_freqs.weight", factors.shape, factors.dtype, factors.nbytes, f32
        )
    for spec, kind in plan:
        _declare(writer, spec, kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    if factors is not None:
        writer.write_tensor_data(factors)
    for spec, kind in plan:
        weight = np.ascontiguousarray(interleave(weights(spec), spec.permute_heads))
        writer.write_tensor_data(_encode(weight, kind))
    writer.close()


def _declare(writer: Any, spec: TensorSpec, kind: gguf.GGMLQuantizationType) -> None:
    block, size = gguf.GGML_QUANT_SIZES[kind]
    nbytes = math.prod(spec.shape) // block * size
    byte_shape = (*spec.shape[:-1], spec.shape[-1] // block * size)
    writer.add_tensor_info(spec.gguf_name, byte_shape, np.dtype(np.uint8), nbytes, kind)


def _encode(weight: Array, kind: gguf.GGMLQuantizationType) -> Array:
    if kind == gguf.GGMLQuantizationType.BF16:
        return to_bf16(weight)
    return np.asarray(gguf.quants.quantize(weight.astype(np.float32, copy=False), kind))


def write_json(path: Path, value: object) -> None:
    """One JSON file, indented, UTF-8, ending in a newline."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def total_bytes(paths: Iterable[Path]) -> int:
    """The size of the files together."""
    return sum(path.stat().st_size for path in paths)
