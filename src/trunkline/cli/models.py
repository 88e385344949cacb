"""From the MODEL argument and the engine's flags to the engine's configuration."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Literal

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
    kind: Literal["rules", "gguf"] = "rules" if asked.executor == "scripted" else "gguf"
    found = resolve(model, kind, quantize=asked.quantize, on_progress=_show)
    config = read_options(EngineConfig, arguments, environ, name=found.name, model=str(found.path))
    return config, found


def _show(progress: float) -> None:
    """A line that says how far converting is, where somebody looks."""
    if sys.stderr.isatty():
        end = "\n" if progress >= 1.0 else ""
        sys.stderr.write(f"\rconverting {progress:4.0%}{end}")
        sys.stderr.flush()
