"""The structs of native/include/trunkline_native.h."""

from __future__ import annotations

import ctypes as c
from enum import IntEnum

ABI = 3

OK, INVALID, MEMORY, FAILED, ABORTED = 0, -1, -2, -3, 2

ROPE_PAIRS, ROPE_HALVES = 0, 1
SILU, GELU_TANH = 0, 1
KV_F16, KV_BF16, KV_INT8 = 0, 1, 2


class Kind(IntEnum):
    """`enum tln_kind`."""

    TOKEN_EMBEDDING = 0
    OUTPUT = 1
    OUTPUT_NORM = 2
    ATTENTION_NORM = 3
    Q = 4
    K = 5
    V = 6
    O = 7  # noqa: E741
    Q_BIAS = 8
    K_BIAS = 9
    V_BIAS = 10
    O_BIAS = 11
    Q_NORM = 12
    K_NORM = 13
    POST_ATTENTION_NORM = 14
    FFN_NORM = 15
    GATE = 16
    UP = 17
    DOWN = 18
    POST_FFN_NORM = 19
    ROUTER = 20


_I, _F = c.c_int32, c.c_float
INTS = c.POINTER(_I)


class Shape(c.Structure):
    """`tln_shape`."""

    _fields_ = (
        ("size", c.c_uint32),
        ("layers", _I),
        ("vocab", _I),
        ("embedding", _I),
        ("feed_forward", _I),
        ("heads", _I),
        ("kv_heads", _I),
        ("head", _I),
        ("rope_size", _I),
        ("rope_style", _I),
        ("rope_tables", _I),
        ("activation", _I),
        ("experts", _I),
        ("experts_used", _I),
        ("experts_renormalized", _I),
        ("norm_eps", _F),
        ("embedding_scale", _F),
        ("residual_scale", _F),
        ("attention_scale", _F),
        ("logit_scale", _F),
        ("attention_softcap", _F),
        ("logit_softcap", _F),
        ("rope_scale", _F),
        ("kv_type", _I),
    )


class Layer(c.Structure):
    """`tln_layer`."""

    _fields_ = (("window", _I), ("rope", _I))


class Tensor(c.Structure):
    """`tln_tensor`."""

    _fields_ = (
        ("type", _I),
        ("unused", _I),
        ("rows", c.c_int64),
        ("cols", c.c_int64),
        ("data", c.c_void_p),
        ("bytes", c.c_uint64),
    )


class Draw(c.Structure):
    """`tln_draw`."""

    _fields_ = (
        ("logits", c.c_void_p),
        ("inverse_temperature", _F),
        ("top_p", _F),
        ("min_p", _F),
        ("token", _I),
        ("first", c.c_double),
        ("second", c.c_double),
        ("normalizer", c.c_double),
        ("told_tokens", INTS),
        ("told", _I),
        ("unused", _I),
    )


class Step(c.Structure):
    """`tln_step`."""

    _fields_ = (
        ("size", c.c_uint32),
        ("chunks", _I),
        ("tokens", _I),
        ("outputs", _I),
        ("copies", _I),
        ("table_size", _I),
        ("ids", INTS),
        ("chunk_tokens", INTS),
        ("chunk_start", INTS),
        ("chunk_table", INTS),
        ("tables", INTS),
        ("output_tokens", INTS),
        ("copy_from", INTS),
        ("copy_to", INTS),
        ("logits", c.POINTER(_F)),
    )
