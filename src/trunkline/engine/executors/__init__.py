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
    if config.executor == "native" or (config.executor == "auto" and _native_can(config)):
        from trunkline.engine.executors import native

        return native.load(config, on_progress)
    from trunkline.engine.executors import ggml

    return ggml.load(config, on_progress)


def _native_can(config: EngineConfig) -> bool:
    """Whether the native engine runs this model; if not, the log says why, once."""
    from trunkline.engine.executors import native

    reason = native.why_not(config)
    if reason is not None:
        log.warning("%s runs on ggml, not on the native engine: %s", config.name, reason)
    return reason is None
