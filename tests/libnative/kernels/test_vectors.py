"""Norms, rotations and activations against float64."""

from __future__ import annotations

import numpy as np
import pytest

from tests.libnative.kernels.kernels import Floats, Kernels

SIZES = [1, 15, 16, 17, 64, 1000]
# tl::kDrawBlock
DRAW_BLOCK = 512


def normal(rng: np.random.Generator, *size: int) -> Floats:
    """Numbers of every magnitude that activations have."""
    return (rng.standard_normal(size) * rng.uniform(0.01, 20)).astype(np.float32)


@pytest.mark.parametrize("n", SIZES)
def test_rms_norm(kernels: Kernels, rng: np.random.Generator, n: int) -> None:
    x, w, out = normal(rng, n), normal(rng, n), np.empty(n, np.float32)
    exact = x.astype(np.float64) / np.sqrt((x.astype(np.float64) ** 2).mean() + 1e-6)
    kernels.lib.tlk_rms_norm(kernels.table, x.ctypes.data, None, 1e-6, n, out.ctypes.data)
    np.testing.assert_allclose(out, exact, rtol=2e-6)
    kernels.lib.tlk_rms_norm(kernels.table, x.ctypes.data, w.ctypes.data, 1e-6, n, out.ctypes.data)
    np.testing.assert_allclose(out, exact * w, rtol=2e-6)


@pytest.mark.parametrize("style", [0, 1])
@pytest.mark.parametrize(("dim", "rot"), [(64, 64), (128, 128), (80, 32), (16, 16), (96, 96)])
def test_rope(kernels: Kernels, rng: np.random.Generator, style: int, dim: int, rot: int) -> None:
    x = normal(rng, 3, dim)
    angle = rng.uniform(0, 1000, rot // 2)
    cos, sin = np.cos(angle).astype(np.float32), np.sin(angle).astype(np.float32)
    pairs = x[:, :rot].astype(np.float64)
    a, b = (pairs[:, ::2], pairs[:, 1::2]) if style == 0 else np.split(pairs, 2, axis=1)
    turned = (a * cos - b * sin, a * sin + b * cos)
    head = np.stack(turned, axis=2).reshape(3, rot) if style == 0 else np.concatenate(turned, 1)
    expected = np.concatenate([head, x[:, rot:]], axis=1)
    kernels.lib.tlk_rope(
        kernels.table, style, x.ctypes.data, 3, dim, rot, cos.ctypes.data, sin.ctypes.data
    )
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6 * np.abs(expected).max())


@pytest.mark.parametrize("name", ["swiglu", "geglu"])
@pytest.mark.parametrize("n", SIZES)
def test_gates(kernels: Kernels, rng: np.random.Generator, name: str, n: int) -> None:
    gate, up, out = normal(rng, n), normal(rng, n), np.empty(n, np.float32)
    gate[0] = rng.choice([-500.0, 500.0, 0.0])
    g = gate.astype(np.float64)
    if name == "swiglu":
        exact = g / (1 + np.exp(-np.maximum(g, -700)))
    else:
        exact = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3)))
    function = getattr(kernels.lib, f"tlk_{name}")
    function(kernels.table, gate.ctypes.data, up.ctypes.data, n, out.ctypes.data)
    room = 1e-6 * np.abs(exact * up) + 1e-6 * np.abs(up)
    assert (np.abs(out - exact * up) <= room).all()


@pytest.mark.parametrize("n", SIZES)
def test_softmax(kernels: Kernels, rng: np.random.Generator, n: int) -> None:
    x = normal(rng, n)
    top = x.max()
    e = np.exp(x.astype(np.float64) - top)
    log = kernels.lib.tlk_softmax(kernels.table, x.ctypes.data, n)
    np.testing.assert_allclose(x, e / e.sum(), rtol=3e-6, atol=1e-30)
    np.testing.assert_allclose(log, np.log(e.sum()) + top, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("n", SIZES)
def test_sums_scales_and_caps(kernels: Kernels, rng: np.random.Generator, n: int) -> None:
    a, b, out = normal(rng, n), normal(rng, n), np.empty(n, np.float32)
    lib, table = kernels.lib, kernels.table
    lib.tlk_add(table, a.ctypes.data, b.ctypes.data, n, out.ctypes.data)
    assert np.array_equal(out, a + b)
    lib.tlk_add_scaled(table, a.ctypes.data, 0.25, n, out.ctypes.data)
    np.testing.assert_allclose(out, 1.25 * a.astype(np.float64) + b, rtol=1e-6, atol=1e-5)
    scaled = b.copy()
    lib.tlk_scale(table, scaled.ctypes.data, 1.7, n)
    assert np.array_equal(scaled, b * np.float32(1.7))
    capped = a.copy()
    lib.tlk_softcap(table, capped.ctypes.data, 30.0, n)
    np.testing.assert_allclose(capped, 30 * np.tanh(a.astype(np.float64) / 30), atol=1e-5)


@pytest.mark.parametrize("n", [*SIZES, 511, 512, 513, 5000])
def test_draws(kernels: Kernels, rng: np.random.Generator, n: int) -> None:
    """What drawing a token is made of: the best one, weights with running sums, a tail's mass."""
    lib, table = kernels.lib, kernels.table
    x, p = normal(rng, n), np.empty(n, np.float32)
    blocks = -(-n // DRAW_BLOCK)
    tops, sums = np.empty(blocks, np.float32), np.empty(blocks)
    # Of equals the first.
    x[rng.integers(0, n, 3)] = x.max()
    best = lib.tlk_best(table, x.ctypes.data, n, tops.ctypes.data)
    assert best == x.argmax()
    starts = range(0, n, DRAW_BLOCK)
    assert tops.tolist() == [x[at : at + DRAW_BLOCK].max() for at in starts]
    factor = float(np.float32(rng.uniform(0.2, 2)))
    lib.tlk_weights(table, x.ctypes.data, x[best], factor, n, p.ctypes.data, sums.ctypes.data)
    exact = np.exp((x.astype(np.float64) - x[best]) * factor)
    np.testing.assert_allclose(p, exact, rtol=2e-5, atol=1e-30)
    assert p[best] == 1.0
    running = np.cumsum([p[at : at + DRAW_BLOCK].sum(dtype=np.float64) for at in starts])
    np.testing.assert_allclose(sums, running, rtol=5e-6)
    for bound in (0.0, float(p[rng.integers(0, n)]), 1.0):
        mass = lib.tlk_mass_above(table, p.ctypes.data, bound, n)
        np.testing.assert_allclose(mass, p[p > bound].sum(dtype=np.float64), rtol=5e-6)
    for wrong in (np.nan, np.inf, -np.inf):
        bad = x.copy()
        bad[rng.integers(0, n)] = wrong
        assert lib.tlk_best(table, bad.ctypes.data, n, tops.ctypes.data) == -1


def test_not_a_number_goes_through(kernels: Kernels) -> None:
    x, up = np.array([np.nan, 1.0], np.float32), np.ones(2, np.float32)
    for name in ("swiglu", "geglu"):
        out = np.ones(2, np.float32)
        function = getattr(kernels.lib, f"tlk_{name}")
        function(kernels.table, x.ctypes.data, up.ctypes.data, 2, out.ctypes.data)
        assert np.isnan(out[0])
        assert np.isfinite(out[1])
    kernels.lib.tlk_softcap(kernels.table, x.ctypes.data, 30.0, 2)
    assert np.isnan(x[0])
