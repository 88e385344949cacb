"""Where things are on disk."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def state_folder(environ: Mapping[str, str]) -> Path:
    """The folder of all state: ``TRUNKLINE_HOME``, by default ``~/.trunkline``. May not exist."""
    return Path(environ.get("TRUNKLINE_HOME") or "~/.trunkline").expanduser()
