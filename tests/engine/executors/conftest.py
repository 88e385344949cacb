"""Executors keep what they learned of files in the folder of all state: not in the user's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def _home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TRUNKLINE_HOME", str(tmp_path_factory.mktemp("home")))
        yield
