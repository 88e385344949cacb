"""What computes. One module each; only the one that is chosen is imported."""

from __future__ import annotations

from trunkline.engine.config import EngineConfig
from trunkline.engine.seam import Executor


def load_executor(config: EngineConfig) -> Executor:
    """Load the executor that `config` names. Raises `TrunklineError` with what is wrong."""
    if config.executor == "scripted":
        from trunkline.engine.executors import scripted

        return scripted.load(config)
    from trunkline.engine.executors import ggml

    return ggml.load(config)
