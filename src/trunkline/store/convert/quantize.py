"""Weights to the types of GGUF files, by llama.cpp's own functions, on all CPUs."""

from __future__ import annotations

import ctypes as c
import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt

from trunkline.formats.gguf import TENSOR_TYPES
from trunkline.libllama.library import library

_F32, _F16, _BF16 = 0, 1, 30
# Elements that one call takes.
_PIECE = 1 << 22


def quantize(weight: npt.NDArray[np.float32], kind: int) -> npt.NDArray[np.generic]:
    """`weight` in ggml_type `kind`: its bytes, rows in order. Raises `LibraryUnusable`."""
    if kind == _F32:
        return weight
    if kind == _F16:
        return weight.astype(np.float16)
    if kind == _BF16:
        bits = weight.view(np.uint32)
        return ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    cols = weight.shape[-1]
    flat = np.ascontiguousarray(weight).reshape(-1, cols)
    _, block, size = TENSOR_TYPES[kind]
    out = np.empty((len(flat), cols // block * size), np.uint8)
    call = library().call.ggml_quantize_chunk
    call.restype = c.c_size_t
    call.argtypes = (c.c_int, c.c_void_p, c.c_void_p, c.c_int64, c.c_int64, c.c_int64, c.c_void_p)
    step = max(1, _PIECE // cols)

    def work(begin: int) -> None:
        rows = min(step, len(flat) - begin)
        # A part of an array of its own: the function counts from the first row it is given.
        call(kind, flat[begin:].ctypes.data, out[begin:].ctypes.data, 0, rows, cols, None)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        list(pool.map(work, range(0, len(flat), step)))
    return out.reshape(-1)
