"""Error of each quantization against ggml's on the same weights and activations."""

from __future__ import annotations

import ctypes as c
from typing import NamedTuple

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from tests.libnative.kernels.kernels import (
    NAMES,
    Q4_0,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_0,
    Bytes,
    Floats,
    Kernels,
)
from trunkline.libllama.library import LibraryUnusable, locate, verify


class _CpuTraits(c.Structure):
    """struct ggml_type_traits_cpu"""

    _fields_ = (
        ("from_float", c.CFUNCTYPE(None, c.c_void_p, c.c_void_p, c.c_int64)),
        (
            "vec_dot",
            c.CFUNCTYPE(
                None,
                *(c.c_int, c.c_void_p, c.c_size_t, c.c_void_p, c.c_size_t),
                *(c.c_void_p, c.c_size_t, c.c_int),
            ),
        ),
        ("vec_dot_type", c.c_int),
        ("nrows", c.c_int64),
    )


class Ggml(NamedTuple):
    """ggml's own quantization and dot products."""

    lib: c.CDLL

    def quantize(self, kind: int, x: Floats) -> Bytes:
        """[rows, cols] as stored."""
        rows, cols = x.shape
        out = np.zeros((rows, self.lib.ggml_row_size(kind, cols)), np.uint8)
        self.lib.ggml_quantize_chunk(kind, x.ctypes.data, out.ctypes.data, 0, rows, cols, None)
        return out

    def matmul(self, kind: int, source: Bytes, x: Floats) -> Floats:
        """x [n, cols] by source [rows, ...]: [n, rows]."""
        traits = self.lib.ggml_get_type_traits_cpu(kind).contents
        other = self.lib.ggml_get_type_traits_cpu(traits.vec_dot_type).contents
        out = np.empty((len(x), len(source)), np.float32)
        for i, row in enumerate(x):
            size = self.lib.ggml_row_size(traits.vec_dot_type, x.shape[1])
            act = np.zeros(size, np.uint8)
            other.from_float(row.ctypes.data, act.ctypes.data, x.shape[1])
            for j, w in enumerate(source):
                to = out[i : i + 1, j : j + 1]
                args = (to.ctypes.data, 0, w.ctypes.data, 0, act.ctypes.data, 0, 1)
                traits.vec_dot(x.shape[1], *args)
        return out


@pytest.fixture(scope="module")
def ggml() -> Ggml:
    """Skipped where the library is not one that was tested."""
    try:
        path = locate()
        verify(path)
    except LibraryUnusable as error:
        pytest.skip(str(error))
    lib = c.CDLL(str(path))
    lib.ggml_get_type_traits_cpu.restype = c.POINTER(_CpuTraits)
    lib.ggml_row_size.restype = c.c_size_t
    lib.ggml_row_size.argtypes = (c.c_int, c.c_int64)
    lib.ggml_quantize_chunk.argtypes = (
        *(c.c_int, c.c_void_p, c.c_void_p),
        *(c.c_int64, c.c_int64, c.c_int64, c.c_void_p),
    )
    lib.ggml_cpu_init()
    return Ggml(lib)


@pytest.mark.parametrize("outliers", [False, True], ids=["plain", "outliers"])
@pytest.mark.parametrize("kind", [Q8_0, Q4_0, Q4_K, Q5_K, Q6_K], ids=NAMES.get)
def test_error_is_no_worse_than_ggmls(
    kernels: Kernels, ggml: Ggml, rng: np.random.Generator, kind: int, outliers: bool
) -> None:
    rows, cols, n = 64, 2048, 12
    weights = (rng.standard_normal((rows, cols)) * 0.02).astype(np.float32)
    x = rng.standard_normal((n, cols), np.float32)
    if outliers:  # a few inputs far above the rest, as transformers have them
        x[:, rng.integers(0, cols, 8)] *= 40
    source = ggml.quantize(kind, weights)
    exact = x.astype(np.float64) @ quants.dequantize(source, GGMLQuantizationType(kind)).T
    ours = kernels.matmul(kernels.pack(kind, source, rows, cols), x)
    theirs = ggml.matmul(kind, source, x)
    norm = np.sqrt((exact**2).mean())
    our_error = float(np.sqrt(((ours - exact) ** 2).mean()) / norm)
    their_error = float(np.sqrt(((theirs - exact) ** 2).mean()) / norm)
    print(f"{NAMES[kind]}: {our_error:.3e}, ggml {their_error:.3e}")
    # Both are random; with 768 outputs they differ by chance by a few percent.
    assert our_error <= their_error * 1.1
