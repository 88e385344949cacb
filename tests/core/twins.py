"""What is there twice, in Python and natively: a test takes both."""

from __future__ import annotations

from typing import Any

import pytest

from trunkline.core.speedups import native


def twins(*pure: type) -> list[Any]:
    """Parameters: the classes in Python and, where they were built, the native ones.

    `pure` are one class or several that go together; the names of their twins lack "Pure".
    """
    found = [pytest.param(*pure, id="python")]
    if native is not None:
        others = [getattr(native, one.__name__.removeprefix("Pure")) for one in pure]
        found.append(pytest.param(*others, id="native"))
    return found
