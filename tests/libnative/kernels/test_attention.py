"""Attention over a cache in blocks against float64, and the promise of equal bits."""

from __future__ import annotations

import ctypes as c
from typing import NamedTuple

import numpy as np
import pytest

from tests.libnative.kernels.kernels import (
    KV_BF16,
    KV_F16,
    KV_INT8,
    Attention,
    AttnRow,
    Bytes,
    Floats,
    Kernels,
    KvLayout,
    aligned,
)

# What storing a key or a value may change, relative to its head's largest.
STORED = {KV_F16: 2.0**-11, KV_BF16: 2.0**-8, KV_INT8: 1 / 254}
NAMES = {KV_F16: "f16", KV_BF16: "bf16", KV_INT8: "int8"}


class Shape(NamedTuple):
    """Of one attention."""

    kind: int = KV_F16
    block: int = 16
    kv_heads: int = 2
    sharers: int = 2
    dim: int = 64
    softcap: float = 0.0
    window: int = 0

    @property
    def heads(self) -> int:
        """Query heads."""
        return self.kv_heads * self.sharers

    @property
    def scale(self) -> float:
        """What scores are multiplied with."""
        return float(np.float32(self.dim**-0.5))


class Cache:
    """Blocks handed out in random order; stale memory holds NaNs."""

    def __init__(
        self, kernels: Kernels, shape: Shape, rng: np.random.Generator, blocks: int
    ) -> None:
        self.kernels, self.shape, self.rng = kernels, shape, rng
        self.layout = KvLayout(shape.kind, shape.block, shape.kv_heads, shape.dim)
        self.size = kernels.lib.tlk_kv_block_bytes(c.byref(self.layout))
        assert self.size > 0
        assert self.size % 64 == 0
        self.memory: Bytes = aligned(self.size * blocks)
        self.memory[:] = 0xFF
        self.free = list(rng.permutation(blocks))

    def extend(self, table: list[int], start: int, keys: Floats, values: Floats) -> None:
        """Writes positions from `start`: keys and values [n, kv_heads, dim]."""
        for i, (key, value) in enumerate(zip(keys, values, strict=True)):
            pos = start + i
            if pos // self.shape.block == len(table):
                table.append(int(self.free.pop()))
            block = self.memory.ctypes.data + table[pos // self.shape.block] * self.size
            self.kernels.lib.tlk_kv_store(
                self.kernels.table,
                c.byref(self.layout),
                block,
                pos % self.shape.block,
                np.ascontiguousarray(key).ctypes.data,
                np.ascontiguousarray(value).ctypes.data,
            )

    def attend(
        self,
        q: Floats,
        tables: list[list[int]],
        positions: list[int],
        heads: tuple[int, ...] = (),
    ) -> Floats:
        """q [n, heads, dim] -> [n, heads, dim]; kv heads in ranges that end at `heads`."""
        s = self.shape
        arrays = [np.array(table, np.int32) for table in tables]
        out = np.full_like(q, np.nan)
        rows = (AttnRow * len(q))(
            *(
                AttnRow(q[i].ctypes.data, out[i].ctypes.data, arrays[i].ctypes.data, positions[i])
                for i in range(len(q))
            )
        )
        a = Attention(
            self.layout,
            self.memory.ctypes.data,
            self.size,
            self.memory.nbytes // self.size,
            s.heads,
            s.scale,
            s.softcap,
            s.window,
        )
        lib = self.kernels.lib
        scratch = aligned(lib.tlk_attend_scratch(c.byref(a)))
        begin = 0
        for end in (*heads, s.kv_heads):
            status = lib.tlk_attend(
                self.kernels.table, c.byref(a), rows, len(q), begin, end, scratch.ctypes.data
            )
            assert status == 0, status
            begin = end
        return out


def expected(shape: Shape, q: Floats, keys: Floats, values: Floats, pos: int) -> np.ndarray:
    """One row in float64: q [heads, dim], keys and values [positions, kv_heads, dim]."""
    first = max(0, pos - shape.window + 1) if shape.window else 0
    k = np.repeat(keys[first : pos + 1].astype(np.float64), shape.sharers, axis=1)
    v = np.repeat(values[first : pos + 1].astype(np.float64), shape.sharers, axis=1)
    s = np.einsum("hd,phd->hp", q.astype(np.float64), k) * shape.scale
    if shape.softcap:
        s = shape.softcap * np.tanh(s / shape.softcap)
    p = np.exp(s - s.max(axis=1, keepdims=True))
    return np.asarray(np.einsum("hp,phd->hd", p / p.sum(axis=1, keepdims=True), v))


def rounded(kind: int, x: Floats) -> Floats:
    """Numbers that the cache can hold exactly, so that only arithmetic is measured."""
    if kind == KV_F16:
        return x.astype(np.float16).astype(np.float32)
    if kind == KV_BF16:
        return (x.view(np.uint32) & 0xFFFF0000).view(np.float32)
    whole = np.rint(x * 40).clip(-127, 127)
    whole[..., 0] = 127  # the scale is then 1/127 of it
    return (whole / 64).astype(np.float32)


def randoms(rng: np.random.Generator, shape: Shape, n: int) -> tuple[Floats, Floats]:
    """Keys and values of n positions."""
    size = (n, shape.kv_heads, shape.dim)
    keys, values = (rng.standard_normal(size, np.float32) for _ in range(2))
    return rounded(shape.kind, keys), rounded(shape.kind, values)


SHAPES = [
    Shape(),
    Shape(block=32, sharers=1, dim=128),
    Shape(block=48, sharers=3, dim=80),
    Shape(block=128, kv_heads=1, sharers=7, dim=96),
    Shape(softcap=30.0, dim=256, kv_heads=1, sharers=4),
    Shape(window=70),
    Shape(window=16, softcap=20.0, sharers=1, dim=16),
    Shape(kind=KV_BF16),
    Shape(kind=KV_INT8),
    Shape(kind=KV_INT8, block=32, window=50, dim=128),
    Shape(kv_heads=1, sharers=80, dim=32),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_a_ragged_batch_is_that_of_float64(
    kernels: Kernels, rng: np.random.Generator, shape: Shape
) -> None:
    cache = Cache(kernels, shape, rng, 200)
    tables, positions, queries, wanted = [], [], [], []
    for _ in range(5):
        n = int(rng.integers(1, 300))
        keys, values = randoms(rng, shape, n)
        table: list[int] = []
        cache.extend(table, 0, keys, values)
        # A decode row, or the last rows of a chunk.
        for pos in range(max(0, n - int(rng.integers(1, 40))), n):
            tables.append(table)
            positions.append(pos)
            queries.append(rng.standard_normal((shape.heads, shape.dim), np.float32))
            wanted.append(expected(shape, queries[-1], keys, values, pos))
    out = cache.attend(np.array(queries), tables, positions)
    assert np.abs(out - np.array(wanted)).max() < 2e-5


@pytest.mark.parametrize("kind", STORED, ids=NAMES.get)
def test_stored_numbers_lose_what_their_format_says(
    kernels: Kernels, rng: np.random.Generator, kind: int
) -> None:
    shape = Shape(kind=kind, sharers=1)
    cache = Cache(kernels, shape, rng, 1)
    value = rng.standard_normal((1, 2, 64), np.float32)
    cache.extend([], 0, value, value)
    out = cache.attend(np.ones((1, 2, 64), np.float32), [[0]], [0])
    error = np.abs(out - value) / np.abs(value).max()
    assert 0 < error.max() <= STORED[kind] * 1.01


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: "-".join(map(str, s)))
def test_a_row_is_the_same_bits_in_any_batch(
    kernels: Kernels, rng: np.random.Generator, shape: Shape
) -> None:
    """Sequences that share a prefix, prefill rows among decode rows, other heads per thread."""
    cache = Cache(kernels, shape, rng, 300)
    common = int(rng.integers(1, 8)) * shape.block
    keys, values = randoms(rng, shape, common)
    prefix: list[int] = []
    cache.extend(prefix, 0, keys, values)
    tables, positions = [], []
    for _ in range(6):
        table = list(prefix)
        more = int(rng.integers(1, 90))
        cache.extend(table, common, *randoms(rng, shape, more))
        for pos in range(common + max(0, more - 3), common + more):
            tables.append(table)
            positions.append(pos)
    q = rng.standard_normal((len(tables), shape.heads, shape.dim), np.float32)
    whole = cache.attend(q, tables, positions)
    assert np.isfinite(whole).all()
    for i in range(len(q)):
        alone = cache.attend(q[i : i + 1], tables[i : i + 1], positions[i : i + 1])
        assert np.array_equal(alone[0], whole[i])
    order = rng.permutation(len(q))
    shuffled = cache.attend(
        np.ascontiguousarray(q[order]), [tables[i] for i in order], [positions[i] for i in order]
    )
    assert np.array_equal(shuffled, whole[order])
    if shape.kv_heads > 1:
        assert np.array_equal(cache.attend(q, tables, positions, heads=(1,)), whole)
    generic = Kernels(kernels.lib, "generic")
    cache.kernels = generic
    assert np.array_equal(cache.attend(q, tables, positions), whole)


def test_tables_that_point_outside_are_refused(kernels: Kernels, rng: np.random.Generator) -> None:
    cache = Cache(kernels, Shape(), rng, 2)
    cache.extend([], 0, *randoms(rng, cache.shape, 1))
    q = rng.standard_normal((1, 4, 64), np.float32)
    for number in (-1, 2, 1 << 30):
        with pytest.raises(AssertionError):
            cache.attend(q, [[number]], [0])
    with pytest.raises(AssertionError):
        cache.attend(q, [[0]], [-1])


@pytest.mark.parametrize(
    "bad", [Shape(block=20), Shape(dim=24), Shape(dim=528), Shape(kind=9), Shape(kv_heads=0)]
)
def test_impossible_layouts_are_refused(kernels: Kernels, bad: Shape) -> None:
    layout = KvLayout(bad.kind, bad.block, bad.kv_heads, bad.dim)
    assert kernels.lib.tlk_kv_block_bytes(c.byref(layout)) == 0
