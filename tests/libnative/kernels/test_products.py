"""Matrix products against float64, and the promise of equal bits."""

from __future__ import annotations

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from tests.libnative.kernels.kernels import (
    BF16,
    BLOCKS,
    F16,
    F32,
    NAMES,
    Q4_0,
    Q4_K,
    Q5_K,
    Q6_K,
    Q8_0,
    Bytes,
    Floats,
    Kernels,
    random_source,
)

ALL = tuple(NAMES)
INTEGER = (Q8_0, Q4_0, Q4_K, Q5_K, Q6_K)


def dequantized(kind: int, source: Bytes) -> Floats:
    """What the file means, by the gguf package."""
    return quants.dequantize(source, GGMLQuantizationType(kind))


def rounds_activations(kernels: Kernels, kind: int) -> bool:
    """The one product whose bits depend on the CPU (native/kernels/variant_avx512bf16.cpp)."""
    return kind == BF16 and kernels.name in ("avx512bf16", "amx")


def shape(rng: np.random.Generator, kind: int) -> tuple[int, int]:
    """Rows that leave a panel ragged, cols that cross a chunk of 1024 now and then."""
    block = max(BLOCKS[kind][0], 1)
    return int(rng.integers(1, 120)), int(rng.integers(1, 2600 // block + 1)) * block


def exact_activations(kernels: Kernels, x: Floats) -> np.ndarray:
    """What the quantized activations mean, in float64 [n, cols]."""
    blocks = kernels.quantize(x)
    scales = blocks[:, :, 32:36].copy().view(np.float32).astype(np.float64)
    values = blocks[:, :, :32].view(np.int8).astype(np.float64)
    return (values * scales).reshape(len(x), -1)[:, : x.shape[1]]


@pytest.mark.parametrize("kind", ALL, ids=NAMES.get)
def test_packing_keeps_every_weight(kernels: Kernels, rng: np.random.Generator, kind: int) -> None:
    rows, cols = shape(rng, kind)
    source = random_source(rng, kind, rows, cols)
    cuts = [16 * i for i in range(1, (rows + 15) // 16)]
    w = kernels.pack(kind, source, rows, cols, cuts)
    np.testing.assert_allclose(kernels.unpack(w), dequantized(kind, source), rtol=3e-7, atol=1e-7)


@pytest.mark.parametrize("kind", ALL, ids=NAMES.get)
@pytest.mark.parametrize("n", [1, 2, 3, 5, 7, 13, 70])
def test_products_are_those_of_float64(
    kernels: Kernels, rng: np.random.Generator, kind: int, n: int
) -> None:
    rows, cols = shape(rng, kind)
    source = random_source(rng, kind, rows, cols)
    x = rng.standard_normal((n, cols), np.float32)
    w = kernels.pack(kind, source, rows, cols)
    bias = rng.standard_normal(rows, np.float32)
    old = rng.standard_normal((n, rows), np.float32)
    exact = exact_activations(kernels, x) if kind in INTEGER else x.astype(np.float64)
    weights = dequantized(kind, source).astype(np.float64)
    expected = exact @ weights.T + bias + old
    # f32 sums of cols terms: what rounding may add, against the sum of magnitudes.
    room = 4e-7 * (np.abs(exact) @ np.abs(weights).T) + 1e-6 * np.abs(expected) + 1e-6
    if kind in (Q4_K, Q5_K):
        room *= 4  # the two parts, scale and minimum, partly cancel
    if rounds_activations(kernels, kind):
        room += 2.0**-8 * (np.abs(exact) @ np.abs(weights).T)
    error = np.abs(kernels.matmul(w, x, bias=bias, add=old) - expected)
    assert (error <= room).all(), float((error / room).max())


@pytest.mark.parametrize("kind", ALL, ids=NAMES.get)
def test_a_row_is_the_same_bits_in_any_batch(
    kernels: Kernels, rng: np.random.Generator, kind: int
) -> None:
    rows, cols = shape(rng, kind)
    w = kernels.pack(kind, random_source(rng, kind, rows, cols), rows, cols)
    x = rng.standard_normal((67, cols), np.float32)
    whole = kernels.matmul(w, x)
    for size in (1, 2, 4, 6, 9, 17, 33):
        first = int(rng.integers(0, len(x) - size + 1))
        part = kernels.matmul(w, x[first : first + size])
        assert np.array_equal(part, whole[first : first + size])


@pytest.mark.parametrize("kind", ALL, ids=NAMES.get)
def test_threads_do_not_change_bits(kernels: Kernels, rng: np.random.Generator, kind: int) -> None:
    cols = 6 * BLOCKS[kind][0] if BLOCKS[kind][0] > 1 else 77
    w = kernels.pack(kind, random_source(rng, kind, 100, cols), 100, cols)
    for n in (1, 8, 66):
        x = rng.standard_normal((n, cols), np.float32)
        whole = kernels.matmul(w, x)
        assert np.array_equal(kernels.matmul(w, x, cuts=(16, 48, 96)), whole)


@pytest.mark.parametrize("kind", ALL, ids=NAMES.get)
def test_variants_agree_bit_for_bit(kernels: Kernels, rng: np.random.Generator, kind: int) -> None:
    rows, cols = shape(rng, kind)
    w = kernels.pack(kind, random_source(rng, kind, rows, cols), rows, cols)
    x = rng.standard_normal((9, cols), np.float32)
    if rounds_activations(kernels, kind):
        pytest.skip("rounds activations to bf16")
    assert np.array_equal(kernels.matmul(w, x), Kernels(kernels.lib, "generic").matmul(w, x))


def test_activations_are_rounded_to_nearest(kernels: Kernels, rng: np.random.Generator) -> None:
    x = rng.standard_normal((3, 200), np.float32) * rng.uniform(1e-6, 1e6, (3, 1)).astype(
        np.float32
    )
    padded = np.zeros((3, 224), np.float32)
    padded[:, :200] = x
    steps = np.abs(padded.reshape(3, 7, 32)).max(axis=2) / 127
    error = np.abs(exact_activations(kernels, x) - x)
    room = np.repeat(steps, 32, axis=1)[:, :200] * 0.5001
    assert (error <= room).all()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_seen_in_every_output(
    kernels: Kernels, rng: np.random.Generator, bad: float
) -> None:
    w = kernels.pack(Q8_0, random_source(rng, Q8_0, 40, 96), 40, 96)
    x = rng.standard_normal((2, 96), np.float32)
    x[1, 50] = bad
    out = kernels.matmul(w, x)
    assert np.isfinite(out[0]).all()
    assert np.isnan(out[1]).all()


def test_zero_rows_give_zeros(kernels: Kernels, rng: np.random.Generator) -> None:
    for kind in INTEGER:
        w = kernels.pack(kind, random_source(rng, kind, 20, 256), 20, 256)
        assert not kernels.matmul(w, np.zeros((1, 256), np.float32)).any()


@pytest.mark.parametrize("kind", [Q8_0, Q4_0, F16, BF16], ids=NAMES.get)
def test_weights_are_quantized_as_gguf_does(
    kernels: Kernels, rng: np.random.Generator, kind: int
) -> None:
    x = rng.standard_normal((5, 96), np.float32)
    out = np.empty(kernels.lib.tlk_source_bytes(kind, 5, 96), np.uint8)
    args = (kind, x.ctypes.data, 5, 96, out.ctypes.data, out.nbytes)
    assert kernels.lib.tlk_quantize_weights(*args) == 0
    theirs = quants.quantize(x, GGMLQuantizationType(kind))
    ours = dequantized(kind, out.reshape(5, -1))
    np.testing.assert_allclose(ours, dequantized(kind, theirs), rtol=1e-6, atol=1e-7)


def test_sizes_are_refused(kernels: Kernels) -> None:
    lib = kernels.lib
    assert lib.tlk_packed_bytes(Q8_0, 16, 33) == 0
    assert lib.tlk_packed_bytes(Q4_K, 16, 128) == 0
    assert lib.tlk_packed_bytes(99, 16, 256) == 0
    assert lib.tlk_packed_bytes(F32, 0, 256) == 0
    assert lib.tlk_packed_bytes(F32, 1 << 40, 1 << 40) == 0
    source, data = np.zeros(34 * 16, np.uint8), np.zeros(64, np.uint8)
    args = (source.ctypes.data, source.nbytes, 16, 32, data.ctypes.data, data.nbytes, 0, 16)
    assert lib.tlk_pack(Q8_0, *args) < 0
