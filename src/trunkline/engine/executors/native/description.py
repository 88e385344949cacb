"""What a model is made of, as the native engine is told: sizes, switches, and names of weights.

A description of an architecture (`architectures`) says how it differs from `base`, which is Llama
with rotary pairs in halves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from trunkline.formats.gguf import Gguf, GgufArray
from trunkline.libnative.structs import ROPE_HALVES, SILU

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Unsupported(Exception):
    """The native engine cannot run this; the message says why, as the end of "because"."""


class Metadata:
    """The hyperparameters of one GGUF file, and the small tensors that belong to them."""

    def __init__(self, gguf: Gguf, context: int) -> None:
        """`context`: longest prompt plus output that will be asked for."""
        self._gguf = gguf
        self.arch = gguf.string("general.architecture")
        self.context = context
        self.layers = self.integer("block_count")
        self.embedding = self.integer("embedding_length")
        self.heads = self.uniform("attention.head_count")
        self.head = self.integer("attention.key_length", self.embedding // max(1, self.heads))
        if self.heads < 1 or self.head < 1:
            raise Unsupported(f"{self.heads} heads of {self.head} elements")
        if self.integer("attention.value_length", self.head) != self.head:
            raise Unsupported("its keys and values have different sizes")

    def integer(self, key: str, default: int | None = None) -> int:
        """`<arch>.<key>`."""
        name = f"{self.arch}.{key}"
        if default is None and name not in self._gguf.metadata:
            raise Unsupported(f"{name} is missing")
        return self._gguf.integer(name, default or 0)

    def number(self, key: str, default: float) -> float:
        """`<arch>.<key>`, whatever its type."""
        value = self._gguf.metadata.get(f"{self.arch}.{key}", default)
        if isinstance(value, str | GgufArray) or not math.isfinite(value):
            raise Unsupported(f"{self.arch}.{key} is no number")
        return float(value)

    def text(self, key: str, default: str) -> str:
        """`<arch>.<key>`, a string."""
        return self._gguf.string(f"{self.arch}.{key}", default)

    def has(self, key: str) -> bool:
        """Whether `<arch>.<key>` is there."""
        return f"{self.arch}.{key}" in self._gguf.metadata

    def uniform(self, key: str, default: int | None = None) -> int:
        """An integer that is the same in all layers."""
        if default is None and not self.has(key):
            raise Unsupported(f"{self.arch}.{key} is missing")
        found = set(self._gguf.per_layer(f"{self.arch}.{key}", self.layers, default or 0))
        if len(found) != 1:
            raise Unsupported(f"its layers differ in {key}")
        return found.pop()

    def floats(self, name: str) -> Floats | None:
        """The tensor `name`, a vector of floats."""
        return self._gguf.floats(name)


class Description(msgspec.Struct, frozen=True, kw_only=True):
    """A model. The fields up to `experts_renormalized` are those of `tln_shape`."""

    layers: int
    vocab: int
    embedding: int
    feed_forward: int
    heads: int
    kv_heads: int
    head: int
    rope_size: int
    rope_style: int
    activation: int
    norm_eps: float
    embedding_scale: float
    residual_scale: float
    attention_scale: float
    logit_scale: float
    attention_softcap: float
    logit_softcap: float
    # Of cosines and sines.
    rope_scale: float
    # 0: no mixture of experts.
    experts: int
    experts_used: int
    experts_renormalized: bool
    # Radians per position, a row for each kind of layer; shape (kinds, rope_size / 2).
    frequencies: Floats
    # Which row of `frequencies` each layer takes, and the positions that it sees (0: all).
    rope: tuple[int, ...]
    windows: tuple[int, ...]
    # Weights of a layer beyond those that all models have, as GGUF names them.
    more_weights: tuple[str, ...]
    # gate and up are one matrix (`ffn_up`), one after the other.
    fused_gate: bool


def base(meta: Metadata, *, vocab: int, **differences: Any) -> Description:
    """Llama's description, but for `differences`."""
    rope_size = meta.integer("rope.dimension_count", meta.head)
    fields: dict[str, Any] = {
        "layers": meta.layers,
        "vocab": vocab,
        "embedding": meta.embedding,
        "feed_forward": meta.uniform("feed_forward_length"),
        "heads": meta.heads,
        "kv_heads": meta.uniform("attention.head_count_kv", meta.heads),
        "head": meta.head,
        "rope_size": rope_size,
        "rope_style": ROPE_HALVES,
        "activation": SILU,
        "norm_eps": meta.number("attention.layer_norm_rms_epsilon", 0.0),
        "embedding_scale": 1.0,
        "residual_scale": 1.0,
        "attention_scale": 1.0 / math.sqrt(meta.head),
        "logit_scale": 1.0,
        "attention_softcap": 0.0,
        "logit_softcap": 0.0,
        "rope_scale": _rope_scale(meta),
        "experts": 0,
        "experts_used": 0,
        "experts_renormalized": False,
        "rope": (0,) * meta.layers,
        "windows": (0,) * meta.layers,
        "more_weights": (),
        "fused_gate": False,
    }
    fields.update(differences)
    if "frequencies" not in fields:
        fields["frequencies"] = frequencies(meta, rope_size)[None, :]
    return Description(**fields)


def frequencies(
    meta: Metadata,
    rope_size: int,
    *,
    freq_base: float | None = None,
    factors: Floats | None = None,
    scaled: bool = True,
) -> Floats:
    """Radians per position of each rotary pair; shape (rope_size / 2,).

    `factors`: by which they are divided; without them, those of the file's `rope_freqs.weight`.
    `scaled`: whether the file's scaling applies. Raises `Unsupported`.
    """
    if not 2 <= rope_size <= meta.head or rope_size % 2:
        raise Unsupported(f"{rope_size} of {meta.head} elements of a head turn")
    freq_base = meta.number("rope.freq_base", 10_000.0) if freq_base is None else freq_base
    if freq_base <= 0.0:
        raise Unsupported(f"a rotary base of {freq_base}")
    turns = freq_base ** -(np.arange(0, rope_size, 2, dtype=np.float64) / rope_size)
    kind = meta.text("rope.scaling.type", "linear")
    if kind not in ("none", "linear", "longrope", "yarn") or (kind == "yarn" and not scaled):
        raise Unsupported(f"rotary scaling of type {kind!r}")
    if scaled and kind == "linear":
        turns /= _factor(meta)
    if kind == "yarn":
        turns *= _yarn(meta, rope_size, freq_base)
    if factors is None:
        factors = meta.floats("rope_freqs.weight")
    if factors is not None:
        if len(factors) != rope_size // 2:
            raise Unsupported(f"{len(factors)} rotary factors for {rope_size} elements")
        with np.errstate(all="ignore"):
            turns = turns / factors
    if not np.isfinite(turns).all():
        raise Unsupported("its rotary frequencies are no numbers")
    return turns.astype(np.float32)


def _factor(meta: Metadata) -> float:
    """How many times as long a context gets, or so. Raises `Unsupported`."""
    factor = meta.number("rope.scaling.factor", meta.number("rope.scale_linear", 1.0)) or 1.0
    if factor < 0.0:
        raise Unsupported(f"rotary scaling by {factor}")
    return factor


def _yarn(meta: Metadata, rope_size: int, freq_base: float) -> Doubles:
    """By what each pair's turns are multiplied: fast ones by 1, slow ones by 1 / factor.

    YaRN, https://arxiv.org/abs/2309.00071, section 3.2; the bounds as `ggml_rope_yarn_corr_dims`
    and transformers have them.
    """
    for key in ("yarn_ext_factor", "yarn_attn_factor", "yarn_log_multiplier"):
        if meta.number(f"rope.scaling.{key}", 1.0) != 1.0:
            raise Unsupported(f"rotary scaling with {key}")
    original = meta.integer("rope.scaling.original_context_length", 0)
    original = original or meta.integer("context_length")
    fast = meta.number("rope.scaling.yarn_beta_fast", 32.0)
    late = meta.number("rope.scaling.yarn_beta_slow", 1.0)
    if original <= 0 or freq_base <= 1.0 or fast <= 0.0 or late <= 0.0:
        raise Unsupported(f"YaRN with {original} positions, base {freq_base}, {fast}, {late}")

    def pair(turns: float) -> float:
        """Which one makes that many turns in the original context."""
        ratio = original / (turns * 2 * math.pi)
        return rope_size * math.log(ratio) / (2 * math.log(freq_base))

    low = max(0.0, math.floor(pair(fast)))
    high = min(rope_size - 1.0, math.ceil(pair(late)))
    pairs = np.arange(rope_size // 2, dtype=np.float64)
    slow: Doubles = np.clip((pairs - low) / max(0.001, high - low), 0.0, 1.0)
    found: Doubles = 1.0 - slow + slow / _factor(meta)
    return found


def _rope_scale(meta: Metadata) -> float:
    """Of cosines and sines."""
    scale = meta.number("rope.scaling.attn_factor", 1.0)
    if meta.text("rope.scaling.type", "linear") == "yarn":
        scale *= 1.0 + 0.1 * math.log(max(1.0, _factor(meta)))
    return scale


def local_layers(layers: int, window: int, period: int) -> tuple[int, ...]:
    """Windows where every `period`-th layer sees everything, the others `window` positions."""
    return tuple(0 if (layer + 1) % period == 0 else window for layer in range(layers))


def check_lengths(description: Description) -> None:
    """What must agree. Raises `Unsupported`."""
    per_layer: Sequence[tuple[int, ...]] = (description.rope, description.windows)
    if any(len(values) != description.layers for values in per_layer):
        raise Unsupported("its layers are not all described")
