"""Real servers, started once for all end-to-end tests that do not disturb them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server, serve, write_rules


@pytest.fixture(scope="session")
def caboose(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The bundled model with default options."""
    with serve(tmp_path_factory.mktemp("caboose")) as server:
        yield server


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Server]:
    """The scripted executor: pace, failures and texts by what the prompt says."""
    rules = write_rules(
        tmp_path / "rules.json",
        {"contains": "endless", "text": "abc ", "ms_per_token": 5, "action": "endless"},
        {"contains": "crash", "text": "so far so good", "action": "crash", "after": 8},
        {"contains": "hang", "text": "so far", "action": "hang", "after": 3},
        {"contains": "fail", "text": "so far", "action": "fail", "after": 3},
        {"contains": "slow", "text": "slow and steady " * 8, "ms_per_token": 20},
        {"contains": "unicode", "text": "naïve 東京 🚂🚃 e\u0301"},
        {"contains": "rows", "text": ["first", "second", "third"]},
        default={"text": "Hello from the rails."},
    )
    options = ("--executor", "scripted", "--max-num-seqs", "8", "--max-queue", "8")
    with serve(tmp_path, str(rules), *options) as server:
        yield server
