"""The kernels through their test entry points (native/kernels/test_abi.cpp), with numpy arrays."""

from __future__ import annotations

import ctypes as c
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.libnative.build import LIBRARY

Floats = npt.NDArray[np.float32]
Bytes = npt.NDArray[np.uint8]

F32, F16, Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, BF16 = 0, 1, 2, 8, 12, 13, 14, 30
NAMES = {F32: "f32", F16: "f16", Q4_0: "q4_0", Q8_0: "q8_0", Q4_K: "q4_k", Q5_K: "q5_k"}
NAMES |= {Q6_K: "q6_k", BF16: "bf16"}
# Inputs per block, which cols is a multiple of; bytes of a block as stored.
BLOCKS = {F32: (1, 4), F16: (1, 2), BF16: (1, 2), Q4_0: (32, 18), Q8_0: (32, 34)}
BLOCKS |= {Q4_K: (256, 144), Q5_K: (256, 176), Q6_K: (256, 210)}
PANEL = 16
KV_F16, KV_BF16, KV_INT8, KV_INT16 = 0, 1, 2, 3

_P, _I32, _I64, _SIZE, _F = c.c_void_p, c.c_int32, c.c_int64, c.c_size_t, c.c_float


class Packed(c.Structure):
    """tl::Packed"""

    _fields_ = (("type", _I32), ("rows", _I64), ("cols", _I64), ("data", _P), ("bytes", _SIZE))


class Matmul(c.Structure):
    """tl::Matmul"""

    _fields_ = (
        ("w", c.POINTER(Packed)),
        ("n", _I64),
        ("xq", _P),
        ("x", _P),
        ("ld_x", _I64),
        ("out", _P),
        ("ld_out", _I64),
        ("bias", _P),
        ("add", c.c_bool),
    )


class KvLayout(c.Structure):
    """tl::KvLayout"""

    _fields_ = (("type", _I32), ("block", _I32), ("kv_heads", _I32), ("head_dim", _I32))


class AttnRow(c.Structure):
    """tl::AttnRow"""

    _fields_ = (("q", _P), ("out", _P), ("table", _P), ("pos", _I64))


class Attention(c.Structure):
    """tl::Attention"""

    _fields_ = (
        ("kv", KvLayout),
        ("cache", _P),
        ("stride", _SIZE),
        ("n_blocks", _I32),
        ("heads", _I32),
        ("scale", _F),
        ("softcap", _F),
        ("window", _I64),
    )


_SIGNATURES: dict[str, tuple[object, tuple[object, ...]]] = {
    "tlk_variant": (c.c_char_p, (_I32,)),
    "tlk_select": (_P, (c.c_char_p,)),
    "tlk_source_bytes": (_SIZE, (_I32, _I64, _I64)),
    "tlk_packed_bytes": (_SIZE, (_I32, _I64, _I64)),
    "tlk_pack": (c.c_int, (_I32, _P, _SIZE, _I64, _I64, _P, _SIZE, _I64, _I64)),
    "tlk_unpack_row": (c.c_int, (_P, _I64, _P)),
    "tlk_quantize_weights": (c.c_int, (_I32, _P, _I64, _I64, _P, _SIZE)),
    "tlk_act_blocks": (_I64, (_I64,)),
    "tlk_matmul_scratch": (_SIZE, ()),
    "tlk_quantize": (None, (_P, _P, _I64, _I64, _I64, _P)),
    "tlk_matmul": (c.c_int, (_P, _P, _I64, _I64, _P)),
    "tlk_rms_norm": (None, (_P, _P, _P, _F, _I64, _P)),
    "tlk_rope": (None, (_P, _I32, _P, _I64, _I64, _I64, _P, _P)),
    "tlk_swiglu": (None, (_P, _P, _P, _I64, _P)),
    "tlk_geglu": (None, (_P, _P, _P, _I64, _P)),
    "tlk_add": (None, (_P, _P, _P, _I64, _P)),
    "tlk_scale": (None, (_P, _P, _F, _I64)),
    "tlk_add_scaled": (None, (_P, _P, _F, _I64, _P)),
    "tlk_softcap": (None, (_P, _P, _F, _I64)),
    "tlk_softmax": (_F, (_P, _P, _I64)),
    "tlk_best": (_I64, (_P, _P, _I64, _P)),
    "tlk_weights": (None, (_P, _P, _F, _F, _I64, _P, _P)),
    "tlk_mass_above": (c.c_double, (_P, _P, _F, _I64)),
    "tlk_kv_block_bytes": (_SIZE, (_P,)),
    "tlk_kv_store": (None, (_P, _P, _P, _I32, _P, _P)),
    "tlk_attend_scratch": (_SIZE, (_P,)),
    "tlk_attend": (c.c_int, (_P, _P, _P, _I64, _I32, _I32, _P)),
}


def library() -> c.CDLL:
    """The shared object, its test functions bound. Raises OSError where it is not built."""
    found = c.CDLL(str(LIBRARY))
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(found, name)
        function.restype, function.argtypes = result, arguments
    return found


def aligned(size: int) -> Bytes:
    """`size` bytes, 64-aligned, filled with what no kernel should read (0xA5)."""
    whole = np.full(size + 64, 0xA5, np.uint8)
    start = -whole.ctypes.data % 64
    return whole[start : start + size]


class Matrix(NamedTuple):
    """A packed matrix."""

    type: int
    rows: int
    cols: int
    data: Bytes

    def struct(self) -> Packed:
        """For the library; `self` must outlive it."""
        return Packed(self.type, self.rows, self.cols, self.data.ctypes.data, self.data.nbytes)


class Kernels:
    """The kernels of one CPU variant."""

    def __init__(self, lib: c.CDLL, name: str) -> None:
        self.lib, self.name = lib, name
        self.table = lib.tlk_select(name.encode())
        assert self.table, f"{name} cannot run here"
        self.scratch = aligned(lib.tlk_matmul_scratch())

    def pack(
        self, kind: int, source: Bytes, rows: int, cols: int, cuts: Sequence[int] = ()
    ) -> Matrix:
        """Packs what a GGUF file stores, in ranges that end at `cuts`."""
        data = aligned(self.lib.tlk_packed_bytes(kind, rows, cols))
        begin = 0
        for end in (*cuts, rows):
            status = self.lib.tlk_pack(
                *(kind, source.ctypes.data, source.nbytes, rows, cols),
                *(data.ctypes.data, data.nbytes, begin, end),
            )
            assert status == 0, status
            begin = end
        return Matrix(kind, rows, cols, data)

    def unpack(self, w: Matrix) -> Floats:
        """All rows as floats."""
        out = np.empty((w.rows, w.cols), np.float32)
        for row in range(w.rows):
            assert self.lib.tlk_unpack_row(c.byref(w.struct()), row, out[row].ctypes.data) == 0
        return out

    def quantize(self, x: Floats) -> Bytes:
        """Activations [n, cols] to blocks [n, blocks, 64]."""
        n, cols = x.shape
        blocks = self.lib.tlk_act_blocks(cols)
        out = aligned(n * blocks * 64).reshape(n, blocks, 64)
        self.lib.tlk_quantize(self.table, x.ctypes.data, cols, n, cols, out.ctypes.data)
        return out

    def matmul(
        self,
        w: Matrix,
        x: Floats,
        *,
        cuts: Sequence[int] = (),
        bias: Floats | None = None,
        add: Floats | None = None,
    ) -> Floats:
        """x [n, cols] by w: [n, rows]; output rows in ranges that end at `cuts`."""
        n = len(x)
        out = np.full((n, w.rows), np.nan, np.float32) if add is None else add.copy()
        packed = w.struct()
        floats = w.type in (F32, F16, BF16)
        blocks = None if floats else self.quantize(x)
        m = Matmul(
            c.pointer(packed),
            n,
            None if blocks is None else blocks.ctypes.data,
            x.ctypes.data if floats else None,
            x.shape[1],
            out.ctypes.data,
            w.rows,
            None if bias is None else bias.ctypes.data,
            add is not None,
        )
        begin = 0
        for end in (*cuts, w.rows):
            status = self.lib.tlk_matmul(
                self.table, c.byref(m), begin, end, self.scratch.ctypes.data
            )
            assert status == 0, status
            begin = end
        return out


def random_source(rng: np.random.Generator, kind: int, rows: int, cols: int) -> Bytes:
    """A random matrix as stored: [rows, bytes of a row]. Every pattern of quants occurs."""
    block, size = BLOCKS[kind]
    if kind == F32:
        return rng.standard_normal((rows, cols), np.float32).view(np.uint8)
    if kind == F16:
        return rng.standard_normal((rows, cols), np.float32).astype(np.float16).view(np.uint8)
    if kind == BF16:
        bits = rng.standard_normal((rows, cols), np.float32).view(np.uint32) >> 16
        return bits.astype(np.uint16).view(np.uint8)
    blocks = rng.integers(0, 256, (rows, cols // block, size), np.uint8)
    scales = rng.uniform(-0.01, 0.01, (rows, cols // block, 2)).astype(np.float16)
    at = {Q8_0: (0,), Q4_0: (0,), Q4_K: (0, 2), Q5_K: (0, 2), Q6_K: (208,)}[kind]
    for i, offset in enumerate(at):
        blocks[:, :, offset : offset + 2] = scales[:, :, i : i + 1].copy().view(np.uint8)
    return np.ascontiguousarray(blocks.reshape(rows, -1))
