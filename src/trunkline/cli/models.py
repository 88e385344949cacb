"""From the MODEL argument and the engine's flags to the engine's configuration."""

from __future__ import annotations

import argparse
from collections.abc import Mapping

from trunkline.cli.options import read_options
from trunkline.engine.config import EngineConfig
from trunkline.store.resolve import ModelFile, resolve

# Fields of `EngineConfig` that MODEL decides; they have no flags.
FROM_MODEL = ("name", "model")


def engine_config(
    model: str, arguments: argparse.Namespace, environ: Mapping[str, str]
) -> tuple[EngineConfig, ModelFile]:
    """The engine that `model` and the flags ask for.

    Raises `UsageError` for a bad flag, `TrunklineError` for a model that cannot be found.
    """
    asked = read_options(EngineConfig, arguments, environ, name="", model="")
    found = resolve(model, "rules" if asked.executor == "scripted" else "gguf")
    config = read_options(EngineConfig, arguments, environ, name=found.name, model=str(found.path))
    return config, found
