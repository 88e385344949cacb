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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each variant that this CPU runs; tests/libnative/test_variants.py has others."""
    if "kernels" not in metafunc.fixturenames:
        return
    names: list[str] = []
    try:
        lib = library()
        while (name := lib.tlk_variant(len(names))) is not None:
            names.append(name.decode())
    except OSError:
        names = ["generic"]  # which skips, see `lib`
    metafunc.parametrize("kernels", names, indirect=True)


@pytest.fixture
def kernels(request: pytest.FixtureRequest, lib: ctypes.CDLL) -> Kernels:
    """One variant."""
    return Kernels(lib, request.param)


@pytest.fixture
def rng() -> np.random.Generator:
    """Another seed each run; pytest shows it when a test fails."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return np.random.default_rng(seed)
