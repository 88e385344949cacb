"""Writes GGUF files of tiny random models, for tests that need a real one in milliseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gguf
import numpy as np

EMBEDDING, HEADS, KV_HEADS, HEAD, FEED_FORWARD, LAYERS = 64, 4, 2, 16, 128, 2
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
MERGES = ("h e", "l l", "he ll", "hell o", "Ġ w", "Ġ Ġ")
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

Weights = np.ndarray[Any, np.dtype[np.float32]]


def byte_letters() -> list[str]:
    """GPT-2's printable stand-ins for the 256 bytes, in byte order."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(b) if b in plain else chr(next(other)) for b in range(256)]


def tokens() -> list[str]:
    """The vocabulary: bytes, merges, special tokens."""
    return [*byte_letters(), *(m.replace(" ", "") for m in MERGES), *SPECIALS]


def write_tiny_gguf(
    path: Path,
    arch: str = "llama",
    *,
    metadata: Mapping[str, int | float | bool | str] | None = None,
    specials: Sequence[str] = (),
    seed: int = 0,
    poison: bool = False,
) -> Path:
    """Write a model of architecture "llama", "gemma3" or "mamba" and return `path`.

    `metadata`: further keys, without the "<arch>." in front where they begin with a dot.
    `specials`: special tokens behind `SPECIALS`; libllama knows some by their names.
    `poison`: weights that give NaN logits.
    """
    writer = gguf.GGUFWriter(path, arch)
    vocabulary = [*tokens(), *specials]
    writer.add_context_length(512)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(LAYERS)
    writer.add_vocab_size(len(vocabulary))
    writer.add_layer_norm_rms_eps(1e-5)
    if arch == "mamba":
        _mamba_keys(writer)
    else:
        _attention_keys(writer)
    if arch == "gemma3":
        writer.add_sliding_window(32)
    _add_tokenizer(writer, vocabulary, len(specials))
    for key, value in (metadata or {}).items():
        _add(writer, arch + key if key.startswith(".") else key, value)
    rng = np.random.default_rng(seed)
    for name, shape in _shapes(arch, len(vocabulary)).items():
        writer.add_tensor(name, _weights(rng, name, shape, poison))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _attention_keys(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_key_length(HEAD)
    writer.add_value_length(HEAD)
    writer.add_rope_dimension_count(HEAD)


def _mamba_keys(writer: gguf.GGUFWriter) -> None:
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(2 * EMBEDDING)
    writer.add_ssm_state_size(16)
    writer.add_ssm_time_step_rank(4)


def _add_tokenizer(writer: gguf.GGUFWriter, vocabulary: list[str], more: int) -> None:
    first = len(vocabulary) - len(SPECIALS) - more
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(vocabulary)
    writer.add_token_types([1] * first + [3] * (len(SPECIALS) + more))
    writer.add_token_merges(list(MERGES))
    writer.add_eos_token_id(first + 2)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHATML)


def _add(writer: gguf.GGUFWriter, key: str, value: int | float | bool | str) -> None:
    # Replaces what may be there already: a test wants its own value.
    writer.kv_data[0].pop(key, None)
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)


def _shapes(arch: str, vocab: int) -> dict[str, tuple[int, ...]]:
    """numpy shapes (rows first) of all tensors."""
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocab, EMBEDDING),
        "output_norm.weight": (EMBEDDING,),
    }
    if arch != "gemma3":
        shapes["output.weight"] = (vocab, EMBEDDING)
    layer = _mamba_layer() if arch == "mamba" else _attention_layer(arch)
    for number in range(LAYERS):
        shapes.update({f"blk.{number}.{name}": shape for name, shape in layer.items()})
    return shapes


def _attention_layer(arch: str) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {
        "attn_norm.weight": (EMBEDDING,),
        "attn_q.weight": (HEADS * HEAD, EMBEDDING),
        "attn_k.weight": (KV_HEADS * HEAD, EMBEDDING),
        "attn_v.weight": (KV_HEADS * HEAD, EMBEDDING),
        "attn_output.weight": (EMBEDDING, HEADS * HEAD),
        "ffn_norm.weight": (EMBEDDING,),
        "ffn_gate.weight": (FEED_FORWARD, EMBEDDING),
        "ffn_up.weight": (FEED_FORWARD, EMBEDDING),
        "ffn_down.weight": (EMBEDDING, FEED_FORWARD),
    }
    if arch == "gemma3":
        shapes |= {
            "attn_q_norm.weight": (HEAD,),
            "attn_k_norm.weight": (HEAD,),
            "post_attention_norm.weight": (EMBEDDING,),
            "post_ffw_norm.weight": (EMBEDDING,),
        }
    return shapes


def _mamba_layer() -> dict[str, tuple[int, ...]]:
    inner, state, rank = 2 * EMBEDDING, 16, 4
    return {
        "attn_norm.weight": (EMBEDDING,),
        "ssm_in.weight": (2 * inner, EMBEDDING),
        "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * state, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, state),
        "ssm_d": (inner,),
        "ssm_out.weight": (EMBEDDING, inner),
    }


def _weights(rng: np.random.Generator, name: str, shape: tuple[int, ...], poison: bool) -> Weights:
    if name.endswith("norm.weight"):
        return np.ones(shape, dtype=np.float32)
    if poison and name == "output.weight":
        return np.full(shape, np.nan, dtype=np.float32)
    if name.endswith("ssm_a"):
        return -np.abs(rng.normal(size=shape)).astype(np.float32)
    # Wide enough that logits differ by whole numbers: greedy text has few ties.
    scale = 1.0 if name.startswith(("output.", "token_embd")) else 2.0 / np.sqrt(shape[-1])
    return (rng.normal(size=shape) * scale).astype(np.float32)
