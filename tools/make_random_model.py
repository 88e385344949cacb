#!/usr/bin/env python3
"""Random weights in the real shapes of published models, for benchmarks.

The result loads everywhere the real model loads and costs the same time and memory; what it says
is noise. Its vocabulary has the real size: a byte-level BPE trained on the Python standard
library's sources, filled up with entries that never occur in text. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import json
import sys
import sysconfig
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from tqdm import tqdm

from caboose.files import (
    GGUF_TYPES,
    Weights,
    gguf_writer,
    vocabulary_from_json,
    write_gguf,
    write_json,
    write_safetensors,
)
from caboose.layout import (
    Array,
    RopeScaling,
    Shape,
    TensorSpec,
    hf_config,
    parameter_count,
    tensor_specs,
)

_CHATML = (
    "{%- for m in messages %}"
    "{{- '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
_LLAMA3 = (
    "{{- '<|begin_of_text|>' }}"
    "{%- for m in messages %}"
    "{{- '<|start_header_id|>' + m.role + '<|end_header_id|>\\n\\n' + m.content + '<|eot_id|>' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}"
    "{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"
)


@dataclass(frozen=True)
class Published:
    """A published model's shape and how its tokenizer behaves."""

    shape: Shape
    # tokenizer.ggml.pre, and the longest run of digits that it keeps in one piece.
    pre: str
    digits: int
    specials: tuple[str, ...]
    # None where the model's tokenizer adds no first token.
    bos: str | None
    eos: str
    pad: str
    chat_template: str


MODELS = {
    "qwen3-0.6b": Published(
        shape=Shape(
            architecture="qwen3",
            vocab=151_936,
            hidden=1024,
            feed_forward=3072,
            layers=28,
            heads=16,
            kv_heads=8,
            head_dim=128,
            context=40_960,
            rope_theta=1_000_000.0,
            norm_eps=1e-6,
        ),
        pre="qwen2",
        digits=1,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        bos=None,
        eos="<|im_end|>",
        pad="<|endoftext|>",
        chat_template=_CHATML,
    ),
    "llama-3.2-1b": Published(
        shape=Shape(
            architecture="llama",
            vocab=128_256,
            hidden=2048,
            feed_forward=8192,
            layers=16,
            heads=32,
            kv_heads=8,
            head_dim=64,
            context=131_072,
            rope_theta=500_000.0,
            norm_eps=1e-5,
            rope_scaling=RopeScaling(32.0, 1.0, 4.0, 8192),
        ),
        pre="llama-bpe",
        digits=3,
        specials=(
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|start_header_id|>",
            "<|end_header_id|>",
            "<|eot_id|>",
        ),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|end_of_text|>",
        chat_template=_LLAMA3,
    ),
}


def split_pattern(digits: int) -> str:
    """libllama's regex for `qwen2` (digits=1) and `llama-bpe` (digits=3)."""
    numbers = r"\p{N}" if digits == 1 else rf"\p{{N}}{{1,{digits}}}"
    return (
        r"(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])"
        rf"|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


def _stdlib_sources() -> Iterator[str]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = sorted([*root.glob("*.py"), *root.glob("*/*.py")])
    usable = [p for p in found if p.parent.name != "site-packages" and p.stat().st_size < 400_000]
    for path in usable[:900]:
        yield path.read_text(encoding="utf-8", errors="replace")


def train_tokenizer(published: Published, learnt: int = 30_000) -> dict[str, Any]:
    """A byte-level BPE with exactly `shape.vocab` entries, as the contents of `tokenizer.json`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(split_pattern(published.digits)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=learnt,
        min_frequency=2,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=sys.stderr.isatty(),
    )
    tokenizer.train_from_iterator(_stdlib_sources(), trainer)
    data: dict[str, Any] = json.loads(tokenizer.to_str())
    vocab: dict[str, int] = data["model"]["vocab"]
    for filler in range(published.shape.vocab - len(published.specials) - len(vocab)):
        vocab[f"Ġpad{filler}"] = len(vocab)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens(
        [AddedToken(text, special=True, normalized=False) for text in published.specials]
    )
    if tokenizer.get_vocab_size() != published.shape.vocab:
        raise AssertionError(f"vocabulary has {tokenizer.get_vocab_size()} entries")
    result: dict[str, Any] = json.loads(tokenizer.to_str())
    return result


def random_weights(shape: Shape, seed: int) -> Weights:
    """Norms are ones, matrices normal with deviation 0.02 and exact in bfloat16.

    Each tensor has its own generator, so every file form holds the same numbers.
    """
    bar = tqdm(total=sum(1 for _ in tensor_specs(shape)), unit="tensor", leave=False, disable=None)

    def weight(spec: TensorSpec) -> Array:
        bar.set_postfix_str(spec.gguf_name)
        bar.update(1)
        if bar.n == bar.total:
            bar.close()
        if len(spec.shape) == 1:
            return np.ones(spec.shape, dtype=np.float32)
        generator = np.random.default_rng([seed, zlib.crc32(spec.hf_name.encode())])
        values = generator.standard_normal(spec.shape, dtype=np.float32)
        values *= 0.02
        values.view(np.uint32)[...] &= np.uint32(0xFFFF0000)
        return values

    return weight


def write_hf(folder: Path, published: Published, tokenizer: dict[str, Any], seed: int) -> None:
    """config.json, tokenizer.json, tokenizer_config.json and model.safetensors (bfloat16)."""
    shape = published.shape
    ids = {added["content"]: added["id"] for added in tokenizer["added_tokens"]}
    first = ids[published.bos] if published.bos else None
    config = hf_config(
        shape, bos=first, eos=ids[published.eos], pad=ids[published.pad], dtype="bfloat16"
    )
    write_json(folder / "config.json", config)
    write_json(folder / "tokenizer.json", tokenizer)
    write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": shape.context,
            "bos_token": published.bos,
            "eos_token": published.eos,
            "pad_token": published.pad,
            "clean_up_tokenization_spaces": False,
            "chat_template": published.chat_template,
        },
    )
    write_safetensors(folder / "model.safetensors", shape, random_weights(shape, seed), "BF16")


def write_random_gguf(
    path: Path, published: Published, tokenizer: dict[str, Any], seed: int, weight_type: str
) -> None:
    """One GGUF file with the tokenizer inside."""
    vocabulary = vocabulary_from_json(
        tokenizer,
        pre=published.pre,
        bos=published.bos,
        eos=published.eos,
        pad=published.pad,
        chat_template=published.chat_template,
    )
    writer = gguf_writer(path, published.shape, vocabulary, weight_type)
    writer.add_name(f"{path.stem} (random weights)")
    writer.add_description("Random weights in a published shape, for benchmarks.")
    write_gguf(writer, published.shape, random_weights(published.shape, seed), weight_type)


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  make_random_model.py qwen3-0.6b /tmp/models --format gguf --gguf-type Q8_0\n"
            "      writes /tmp/models/qwen3-0.6b-q8_0.gguf\n"
            "  make_random_model.py llama-3.2-1b /tmp/models\n"
            "      writes /tmp/models/llama-3.2-1b/ (safetensors) and llama-3.2-1b-f16.gguf"
        ),
    )
    parser.add_argument("model", choices=sorted(MODELS), help="whose shape to copy")
    parser.add_argument("out", type=Path, help="folder to write to")
    parser.add_argument(
        "--format",
        default="safetensors,gguf",
        help="what to write: safetensors, gguf, or both with a comma (default)",
    )
    parser.add_argument(
        "--gguf-type",
        action="append",
        choices=[name for name in GGUF_TYPES if name != "F32"],
        help="how the matrices are stored; may be given several times (default F16)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights (default 0)")
    arguments = parser.parse_args(argv)
    unknown = set(arguments.format.split(",")) - {"safetensors", "gguf"}
    if unknown:
        parser.error(f"--format: unknown {', '.join(sorted(unknown))}; use safetensors or gguf")
    return arguments


def main(argv: list[str] | None = None) -> None:
    """Writes what the command line asks for."""
    arguments = parse_arguments(argv)
    published = MODELS[arguments.model]
    formats = arguments.format.split(",")
    arguments.out.mkdir(parents=True, exist_ok=True)
    print(f"{arguments.model}: {parameter_count(published.shape) / 1e6:.1f} M parameters")
    print("training the tokenizer on the standard library's sources ...")
    tokenizer = train_tokenizer(published)
    if "safetensors" in formats:
        folder = arguments.out / arguments.model
        folder.mkdir(exist_ok=True)
        write_hf(folder, published, tokenizer, arguments.seed)
        print(folder)
    if "gguf" in formats:
        for weight_type in arguments.gguf_type or ["F16"]:
            path = arguments.out / f"{arguments.model}-{weight_type.lower()}.gguf"
            write_random_gguf(path, published, tokenizer, arguments.seed, weight_type)
            print(path)


if __name__ == "__main__":
    main()
