"""The small engine of `engine.py` as a backend that is launched."""

from __future__ import annotations

import sys
from pathlib import Path

from trunkline.backends.config import BackendConfig, LaunchConfig, Probe

ENGINE = str(Path(__file__).with_name("engine.py"))


def config(*arguments: str, name: str = "tiny", **launch: object) -> BackendConfig:
    command = (sys.executable, ENGINE, "{port}", *arguments)
    return BackendConfig(
        name=name,
        kind="vllm",
        probe=False,
        health=Probe(interval=0.05, timeout=2.0),
        launch=LaunchConfig(command=command, **launch),  # type: ignore[arg-type]
    )
