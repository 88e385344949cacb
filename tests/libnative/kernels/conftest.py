"""Fixtures of the kernels: each variant that this CPU runs; fresh random numbers, seed printed."""

from __future__ import annotations

import ctypes
import secrets

import numpy as np
import pytest

from tests.libnative.kernels.kernels import Kernels, library


@pytest.fixture(scope="session")
def lib() -> ctypes.CDLL:
    """The library; the tests are skipped where it has not been built."""
    try:
        return library()
    except OSError as error:
        pytest.skip(f"the native library is not built (scripts/setup builds it): {error}")


@pytest.fixture(params=["generic", "avx2", "avx512vnni"])
def kernels(request: pytest.FixtureRequest, lib: ctypes.CDLL) -> Kernels:
    """One variant; skipped where the CPU lacks it."""
    names: list[str] = []
    while (name := lib.tlk_variant(len(names))) is not None:
        names.append(name.decode())
    if request.param not in names:
        pytest.skip(f"this CPU runs {', '.join(names)}, not {request.param}")
    return Kernels(lib, request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Another seed each run; pytest shows it when a test fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)
