"""Where state lives: ``TRUNKLINE_HOME``, by default ``~/.trunkline``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trunkline.core.errors import InvalidRequest
from trunkline.core.paths import state_folder


def home(environ: Mapping[str, str]) -> Path:
    """The folder of all state, made on demand, for its owner alone.

    Raises `InvalidRequest` when it cannot be made, or is not a folder.
    """
    path = state_folder(environ)
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"cannot keep state in {path}: {error.strerror}; name another folder in TRUNKLINE_HOME"
        ) from error
    return path.resolve()
