#!/usr/bin/env python3
"""Rebuilds the safetensors form of a GGUF written by this project's tools.

Writes config.json, tokenizer.json, tokenizer_config.json (with the chat template),
generation_config.json and model.safetensors, which `transformers` loads and which give the same
logits. Meant for dense Llama and Qwen3 files with a byte-level BPE of the `qwen2` or `llama-bpe`
kind; quantized matrices are expanded to float16.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np

from caboose.files import write_json, write_safetensors
from caboose.layout import Array, RopeScaling, Shape, TensorSpec, deinterleave, hf_config

_DIGITS = {"qwen2": r"\p{N}", "llama-bpe": r"\p{N}{1,3}"}


def split_pattern(pre: str) -> str:
    """The regex that libllama applies for this `tokenizer.ggml.pre`."""
    if pre not in _DIGITS:
        raise SystemExit(f"tokenizer.ggml.pre is {pre!r}; known are {', '.join(_DIGITS)}")
    return (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
        rf"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{_DIGITS[pre]}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


class Source:
    """An open GGUF: its keys as Python values, its tensors by name."""

    def __init__(self, path: Path) -> None:
        self._reader = gguf.GGUFReader(path)
        self._tensors = {tensor.name: tensor for tensor in self._reader.tensors}

    def key(self, name: str, default: Any = None) -> Any:
        """A metadata value, or the default where the file has none."""
        field = self._reader.fields.get(name)
        return default if field is None else field.contents()

    def has(self, name: str) -> bool:
        """Whether the file has this tensor."""
        return name in self._tensors

    def weight(self, spec: TensorSpec) -> Array:
        """A weight as float32 in transformers' row order."""
        tensor = self._tensors[spec.gguf_name]
        if tensor.tensor_type == gguf.GGMLQuantizationType.BF16:
            bits = np.asarray(tensor.data).view(np.uint16).astype(np.uint32) << 16
            values = bits.view(np.float32).reshape(spec.shape)
        else:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return deinterleave(np.asarray(values, np.float32).reshape(spec.shape), spec.permute_heads)


def read_shape(source: Source) -> Shape:
    """The model's sizes."""
    arch = source.key("general.architecture")
    if arch not in {"llama", "qwen3"} or source.has("output.weight"):
        raise SystemExit(f"only llama and qwen3 with tied embeddings are known, this is {arch!r}")
    scaling = None
    if source.has("rope_freqs.weight"):
        # Llama 3.2's published figures: GGUF keeps only the resulting factors.
        scaling = RopeScaling(32.0, 1.0, 4.0, 8192)
    heads, hidden = (
        source.key(f"{arch}.attention.head_count"),
        source.key(f"{arch}.embedding_length"),
    )
    return Shape(
        architecture=arch,
        vocab=len(source.key("tokenizer.ggml.tokens")),
        hidden=hidden,
        feed_forward=source.key(f"{arch}.feed_forward_length"),
        layers=source.key(f"{arch}.block_count"),
        heads=heads,
        kv_heads=source.key(f"{arch}.attention.head_count_kv", heads),
        head_dim=source.key(f"{arch}.attention.key_length", hidden // heads),
        context=source.key(f"{arch}.context_length"),
        rope_theta=source.key(f"{arch}.rope.freq_base", 10_000.0),
        norm_eps=float(str(np.float32(source.key(f"{arch}.attention.layer_norm_rms_epsilon")))),
        rope_scaling=scaling,
    )


def read_tokenizer(source: Source) -> dict[str, Any]:
    """The contents of `tokenizer.json`."""
    tokens: list[str] = source.key("tokenizer.ggml.tokens")
    types: list[int] = source.key("tokenizer.ggml.token_type")
    control, user = gguf.TokenType.CONTROL, gguf.TokenType.USER_DEFINED
    added = [
        {
            "id": i,
            "content": token,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": kind == control,
        }
        for i, (token, kind) in enumerate(zip(tokens, types, strict=True))
        if kind in {control, user}
    ]
    outside = {entry["id"] for entry in added}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True}
    pattern = split_pattern(source.key("tokenizer.ggml.pre"))
    split = {
        "type": "Split",
        "pattern": {"Regex": pattern},
        "behavior": "Isolated",
        "invert": False,
    }
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": added,
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [split, {**byte_level, "use_regex": False}],
        },
        "post_processor": None,
        "decoder": {**byte_level, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {token: i for i, token in enumerate(tokens) if i not in outside},
            "merges": [merge.split(" ") for merge in source.key("tokenizer.ggml.merges")],
        },
    }


def convert(path: Path, folder: Path) -> None:
    """Writes the safetensors form of `path` into `folder`."""
    source = Source(path)
    shape = read_shape(source)
    folder.mkdir(parents=True, exist_ok=True)
    tokens: list[str] = source.key("tokenizer.ggml.tokens")
    bos = source.key("tokenizer.ggml.bos_token_id")
    eos = source.key("tokenizer.ggml.eos_token_id")
    pad = source.key("tokenizer.ggml.padding_token_id", eos)
    config = hf_config(shape, bos=bos, eos=eos, pad=pad, dtype="float16")
    write_json(folder / "config.json", config)
    write_json(
        folder / "generation_config.json",
        {"bos_token_id": bos, "eos_token_id": eos, "pad_token_id": pad, "do_sample": False},
    )
    write_json(folder / "tokenizer.json", read_tokenizer(source))
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.context,
            "bos_token": None if bos is None else tokens[bos],
            "eos_token": tokens[eos],
            "pad_token": tokens[pad],
            "clean_up_tokenization_spaces": False,
            "chat_template": source.key("tokenizer.chat_template"),
        },
    )
    write_safetensors(folder / "model.safetensors", shape, source.weight, "F16")


def main(argv: list[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("gguf", type=Path, help="the GGUF file to read")
    parser.add_argument("out", type=Path, help="the folder to write to")
    arguments = parser.parse_args(argv)
    convert(arguments.gguf, arguments.out)
    size = sum(file.stat().st_size for file in arguments.out.iterdir())
    print(json.dumps({"folder": str(arguments.out), "bytes": size}))


if __name__ == "__main__":
    main()
