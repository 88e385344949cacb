"""What computes. One module each; only the one that is chosen is imported."""

from __future__ import annotations

import logging
from collections.abc import Callable

from trunkline.engine.config import EngineConfig
from trunkline.engine.seam import Executor

log = logging.getLogger(__name__)


def load_executor(config: EngineConfig, on_progress: Callable[[float], None]) -> Executor:
    """Load the executor that `config` names. Raises `TrunklineError` with what is wrong.

    `on_progress` is called with how much of the model is loaded, from 0 to 1.
    """
    if config.executor == "scripted":
        from trunkline.engine.executors import scripted

        return scripted.load(config)
    if config.executor in ("native", "auto"):
        from trunkline.engine.executors import native

        if config.executor == "native":
            return native.load(config, on_progress)
        loaded = native.load_if_able(config, on_progress)
        if not isinstance(loaded, str):
            return loaded
        log.warning("%s runs on ggml, not on the native engine: %s", config.name, loaded)
    from trunkline.engine.executors import ggml

    return ggml.load(config, on_progress)
