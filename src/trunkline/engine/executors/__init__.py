"""What computes. One module each; only the one that is chosen is imported."""

from __future__ import annotations

from collections.abc import Callable

from trunkline.engine.config import EngineConfig
from trunkline.engine.seam import Executor


def load_executor(config: EngineConfig, on_progress: Callable[[float], None]) -> Executor:
    """Load the executor that `config` names. Raises `TrunklineError` with what is wrong.

    `on_progress` is called with how much of the model is loaded, from 0 to 1.
    """
    if config.executor == "scripted":
        from trunkline.engine.executors import scripted

        return scripted.load(config)
    if config.executor == "native":
        from trunkline.engine.executors import native

        return native.load(config, on_progress)
    from trunkline.engine.executors import ggml

    return ggml.load(config, on_progress)
