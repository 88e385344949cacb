"""The vocabulary of a file that was loaded before begins to load before anything else is done.

Such a file needs no check first, which needs NumPy and half of the file's head.
"""

from __future__ import annotations

from concurrent.futures import Future
from pathlib import Path

from trunkline.core.aside import aside
from trunkline.engine.config import EngineConfig
from trunkline.libllama.library import library
from trunkline.libllama.model import Model
from trunkline.libllama.remembered import recall


def begin(config: EngineConfig) -> Future[Model] | None:
    """It raises `LoadFailed` or `LibraryUnusable`. None: the file is not known as it is now.

    Nobody need wait for it: the thread ends with the process.
    """
    path = Path(config.model)
    try:
        known = config.executor != "scripted" and recall(path) is not None
    except OSError:
        known = False
    if not known:
        return None
    return aside(lambda: Model(library(), path, vocab_only=True), "vocabulary")
