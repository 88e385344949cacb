"""Clients that live outside the environment of the tests: where they are, and running them."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]
CALLS = ROOT / "tests" / "clients"
# As scripts/setup_clients leaves them.
PYTHON = ROOT / ".venv-clients"
NODE = ROOT / ".node-clients"
MADE = ".trunkline-made"


def run_python_client(script: str, *arguments: str) -> Any:
    """What a script of tests/clients prints, run with its own packages.

    Where they are missing, the test is skipped, or fails where CI counts on them.
    """
    if not (PYTHON / MADE).exists():
        reason = "litellm and text-generation are not installed: scripts/setup_clients says why"
        if os.environ.get("REQUIRE_CLIENTS"):
            pytest.fail(reason)
        pytest.skip(reason)
    # litellm takes its table of prices from the network unless told not to.
    settings = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    return _run([str(PYTHON / "bin/python"), "-W", "ignore", script, *arguments], settings)


def run_node_client(script: str, *arguments: str) -> Any:
    """The same of node, which gets the folder of its modules first. Skips where it is missing."""
    node = shutil.which("node")
    if node is None or not (NODE / MADE).exists():
        pytest.skip("node's openai is not installed: scripts/setup_clients says why")
    return _run([node, script, str(NODE), *arguments], {})


def _run(command: list[str], settings: dict[str, str]) -> Any:
    # What they import is compiled once and kept, whatever the tests do.
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    done = subprocess.run(
        command,
        cwd=CALLS,
        env=inherited | settings,
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)
