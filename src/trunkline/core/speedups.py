"""What a relayed request would spend its time on in the interpreter, done natively.

`native` is the module `_speedups`, which `trunkline.libnative.build` makes of native/speedups, or
None. Each of its types has a twin in Python, which says what both do, and is taken without it:

    if TYPE_CHECKING or native is None:
        Heads = PureHeads
    else:
        Heads = native.Heads

The environment variable TRUNKLINE_PURE_PYTHON=1 does without it; TRUNKLINE_SPEEDUPS names another
file, which has to be there and to fit (`scripts/sanitize`).
"""

from __future__ import annotations

import os
import sys
from importlib.machinery import ExtensionFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

# Of what Python sees of the module: native/speedups/module.cpp has the same number.
VERSION = 5

LIBRARY = Path(__file__).with_name("_speedups.abi3.so")

_NAME = "trunkline.core._speedups"


def load(path: str) -> ModuleType:
    """The module in the file `path`. Raises ImportError: there is none, or one of another time."""
    # The limited API is CPython's, and not that of its builds without a global lock.
    if sys.implementation.name != "cpython" or "t" in sys.abiflags:
        raise ImportError(f"{path} is for CPython with its global lock", path=path)
    spec = spec_from_file_location(_NAME, path, loader=ExtensionFileLoader(_NAME, path))
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no module", path=path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = getattr(module, "VERSION", None)
    if found != VERSION:
        raise ImportError(f"{path} has the version {found}, not {VERSION}", path=path)
    return module


def _choose() -> ModuleType | None:
    if os.environ.get("TRUNKLINE_PURE_PYTHON") == "1":
        return None
    told = os.environ.get("TRUNKLINE_SPEEDUPS")
    if told:
        return load(told)
    try:
        return load(str(LIBRARY))
    except ImportError:
        return None


native = _choose()
