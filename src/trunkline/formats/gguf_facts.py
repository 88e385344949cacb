"""What a GGUF file's metadata means: architecture, sizes, vocabulary, template.

The metadata keys are those of https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

import msgspec

from trunkline.formats.gguf import STRING, Gguf, GgufArray, MalformedGguf

# Bytes of one KV element (f16).
KV_ELEMENT = 2
# A model above these is a damaged file.
MAX_LAYERS, MAX_WIDTH = 4096, 1 << 20


# `llama_ftype` of llama.h; 0 is named for its type.
_FILE_TYPES = {
    0: "F32",
    1: "F16",
    2: "Q4_0",
    3: "Q4_1",
    7: "Q8_0",
    8: "Q5_0",
    9: "Q5_1",
    10: "Q2_K",
    11: "Q3_K_S",
    12: "Q3_K_M",
    13: "Q3_K_L",
    14: "Q4_K_S",
    15: "Q4_K_M",
    16: "Q5_K_S",
    17: "Q5_K_M",
    18: "Q6_K",
    25: "IQ4_NL",
    30: "IQ4_XS",
    32: "BF16",
    36: "TQ1_0",
    37: "TQ2_0",
    38: "MXFP4_MOE",
}


class ModelFacts(msgspec.Struct, frozen=True):
    """What is known of a model before it is loaded."""

    architecture: str
    name: str
    # Positions that it was trained for.
    context: int
    layers: int
    # Width of the residual stream, and of the widest layer inside.
    embedding: int
    feed_forward: int
    heads: int
    vocab_size: int
    # Bytes of all tensors, over all parts of a split file.
    weight_bytes: int
    # Bytes of keys and values of one token, f16, over all layers that have them.
    kv_bytes_per_token: int
    # Heads of keys, over all layers.
    kv_heads: int
    # Bytes of the state of one sequence in recurrent layers; 0 where there are none.
    state_bytes: int
    # Tokens that a sliding window sees; 0 = no window.
    window: int
    # False: made for embeddings or reranking (pooled output, or attention both ways).
    generates: bool
    chat_template: str | None
    # Text of the tokens that a template may name.
    bos: str | None
    eos: str | None
    # The file, or all parts of a split one.
    files: tuple[Path, ...]
    # Elements of all tensors.
    parameters: int = 0
    # Type of most weights as llama.cpp names it: "Q8_0"; "" = not told.
    quantization: str = ""


def read_facts(path: Path) -> ModelFacts:
    """Facts of the model in `path`, the first part of it where it is split.

    Raises `MalformedGguf` where the file is damaged or is no language model, `OSError` where it
    cannot be read.
    """
    with Gguf(path) as gguf:
        return facts_of(gguf)


def facts_of(gguf: Gguf) -> ModelFacts:
    """As `read_facts`, of an open file."""
    try:
        return _facts(gguf)
    except MalformedGguf as error:
        raise MalformedGguf(f"{gguf.path}: {error}") from None


def _facts(gguf: Gguf) -> ModelFacts:
    arch = gguf.string("general.architecture")
    if not arch:
        raise MalformedGguf("general.architecture is missing: this is no model")
    files, weight_bytes, parameters = _parts(gguf)
    layers = _bounded(gguf, f"{arch}.block_count", MAX_LAYERS)
    embedding = _bounded(gguf, f"{arch}.embedding_length", MAX_WIDTH)
    heads = gguf.per_layer(f"{arch}.attention.head_count", layers, 0)
    if max(heads) > MAX_WIDTH or min(heads) < 0:
        raise MalformedGguf(f"{arch}.attention.head_count is {max(heads)}")
    tokens = _vocabulary(gguf)
    kv_heads, kv_bytes = _kv_sizes(gguf, arch, layers, embedding, heads)
    feed_forward = gguf.per_layer(f"{arch}.feed_forward_length", layers, 0)
    return ModelFacts(
        architecture=arch,
        name=gguf.string("general.name"),
        context=_bounded(gguf, f"{arch}.context_length", 1 << 31),
        layers=layers,
        embedding=embedding,
        feed_forward=max(feed_forward),
        heads=max(heads),
        vocab_size=tokens.count,
        weight_bytes=weight_bytes,
        kv_bytes_per_token=kv_bytes,
        kv_heads=kv_heads,
        state_bytes=_state_bytes(gguf, arch, layers),
        window=_window(gguf, arch),
        generates=_generates(gguf, arch),
        chat_template=gguf.string("tokenizer.chat_template") or None,
        bos=_token_text(gguf, tokens, "tokenizer.ggml.bos_token_id"),
        eos=_token_text(gguf, tokens, "tokenizer.ggml.eos_token_id"),
        files=files,
        parameters=parameters,
        quantization=_FILE_TYPES.get(gguf.integer("general.file_type", -1), ""),
    )


def _bounded(gguf: Gguf, key: str, limit: int) -> int:
    value = gguf.integer(key)
    if not 1 <= value <= limit:
        raise MalformedGguf(f"{key} is {value or 'missing'}; expected 1 to {limit}")
    return value


def _vocabulary(gguf: Gguf) -> GgufArray:
    """The token array, after checking what libllama reads without looking."""
    tokens = gguf.array("tokenizer.ggml.tokens")
    if tokens is None or tokens.kind != STRING or tokens.count == 0:
        raise MalformedGguf("tokenizer.ggml.tokens is missing: the file has no vocabulary")
    for key in ("scores", "token_type"):
        other = gguf.array(f"tokenizer.ggml.{key}")
        if other is not None and other.count != tokens.count:
            raise MalformedGguf(
                f"tokenizer.ggml.{key} has {other.count} entries for {tokens.count} tokens"
            )
    return tokens


def _token_text(gguf: Gguf, tokens: GgufArray, key: str) -> str | None:
    if key not in gguf.metadata:
        return None
    token = gguf.integer(key)
    if not 0 <= token < tokens.count:
        raise MalformedGguf(f"{key} is {token}, outside a vocabulary of {tokens.count}")
    return tokens.string(token)


def _kv_sizes(
    gguf: Gguf, arch: str, layers: int, embedding: int, heads: list[int]
) -> tuple[int, int]:
    """Heads of keys over all layers, and bytes of keys and values of one token."""
    head_size = embedding // max(heads) if max(heads) else 0
    key = gguf.integer(f"{arch}.attention.key_length", head_size)
    value = gguf.integer(f"{arch}.attention.value_length", head_size)
    kv_heads = gguf.per_layer(f"{arch}.attention.head_count_kv", layers, max(heads))
    if min(kv_heads) < 0 or max(kv_heads) > MAX_WIDTH or not (0 <= key <= MAX_WIDTH >= value >= 0):
        raise MalformedGguf(f"impossible attention sizes: {max(kv_heads)} heads of {key}, {value}")
    return sum(kv_heads), sum(kv_heads) * (key + value) * KV_ELEMENT


def _state_bytes(gguf: Gguf, arch: str, layers: int) -> int:
    """Mamba-like layers keep a convolution tail and a state, f32 (llama-hparams.cpp)."""
    inner = gguf.integer(f"{arch}.ssm.inner_size")
    state = gguf.integer(f"{arch}.ssm.state_size")
    kernel = gguf.integer(f"{arch}.ssm.conv_kernel")
    groups = gguf.integer(f"{arch}.ssm.group_count")
    tail = max(0, kernel - 1) * (inner + 2 * groups * state)
    return layers * 4 * (tail + inner * state)


def _window(gguf: Gguf, arch: str) -> int:
    key = f"{arch}.attention.sliding_window"
    return 0 if isinstance(gguf.metadata.get(key), GgufArray) else gguf.integer(key)


def _generates(gguf: Gguf, arch: str) -> bool:
    pooled = gguf.integer(f"{arch}.pooling_type", 0) != 0
    return gguf.metadata.get(f"{arch}.attention.causal", True) is True and not pooled


def _parts(gguf: Gguf) -> tuple[tuple[Path, ...], int, int]:
    """All files of the model, and the bytes and elements of their tensors."""
    count = gguf.integer("split.count", 1)
    own, elements = _sizes(gguf)
    if count <= 1:
        return (gguf.path,), own, elements
    match = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", gguf.path.name)
    if not match or int(match[2]) != count:
        raise MalformedGguf(
            f"this is one of {count} parts; give the first, named ...-00001-of-{count:05}.gguf"
        )
    files = [gguf.path]
    for number in range(2, count + 1):
        path = gguf.path.with_name(f"{match[1]}-{number:05}-of-{match[2]}.gguf")
        if not path.is_file():
            raise MalformedGguf(f"part {number} of {count} is missing: {path}")
        with Gguf(path) as part:
            more = _sizes(part)
            if part.integer("split.no", number - 1) != number - 1:
                raise MalformedGguf(f"{path} says that it is part {part.integer('split.no') + 1}")
        own, elements = own + more[0], elements + more[1]
        files.append(path)
    return tuple(files), own, elements


def _sizes(gguf: Gguf) -> tuple[int, int]:
    tensors = gguf.tensors
    return sum(one.nbytes for one in tensors), sum(math.prod(one.shape) for one in tensors)
