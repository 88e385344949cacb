"""The vocabulary of a model's file, read by libllama when somebody needs it.

What every start needs of it, the tokens that end a text, is kept beside all other state: reading a
vocabulary of 151,936 words takes 0.7 CPU seconds, half of the time until a small model is ready.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

import msgspec

from trunkline.core.paths import state_folder
from trunkline.libllama.library import library
from trunkline.libllama.model import Model

log = logging.getLogger(__name__)

# Files whose facts are kept.
_MOST = 256


class _Facts(msgspec.Struct, frozen=True):
    """What is kept of one file."""

    size: int
    modified: int
    words: int
    eog: tuple[int, ...]


class Vocabulary:
    """`facts` at once where they are known; the rest is read on demand, from any thread."""

    def __init__(self, path: Path, store: Path | None = None) -> None:
        """`store`: the file that keeps facts. Raises `LoadFailed`, `LibraryUnusable`, OSError."""
        self._path = path
        self._lock = threading.Lock()
        self._model: Model | None = None
        store = default_store() if store is None else store
        info = path.stat()
        known = _read(store)
        facts = known.get(str(path))
        if facts is None or (facts.size, facts.modified) != (info.st_size, info.st_mtime_ns):
            model = self.model()
            eog = tuple(sorted(model.eog()))
            facts = _Facts(info.st_size, info.st_mtime_ns, model.vocab_size, eog)
            known[str(path)] = facts
            _write(store, known)
        self.words = facts.words
        self.eog = frozenset(facts.eog)

    def model(self) -> Model:
        """The file in libllama, vocabulary only. Raises `LoadFailed`, `LibraryUnusable`."""
        with self._lock:
            if self._model is None:
                self._model = Model(library(), self._path, vocab_only=True)
            return self._model

    def piece(self, token: int) -> bytes:
        """The text of a token; b"" for a special one."""
        return self.model().piece(token)

    def close(self) -> None:
        """Free it."""
        with self._lock:
            if self._model is not None:
                self._model.close()


def default_store() -> Path:
    """In the folder of all state."""
    return state_folder(os.environ) / "vocabularies.json"


def _read(store: Path) -> dict[str, _Facts]:
    try:
        return msgspec.json.decode(store.read_bytes(), type=dict[str, _Facts])
    except (OSError, msgspec.DecodeError):
        return {}


def _write(store: Path, known: dict[str, _Facts]) -> None:
    """Whole or not at all; what cannot be kept is read again the next time."""
    kept = dict(list(known.items())[-_MOST:])
    try:
        store.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = store.with_name(f"{store.name}.{os.getpid()}")
        partial.write_bytes(msgspec.json.encode(kept))
        partial.replace(store)
    except OSError as error:
        log.debug("vocabularies are not kept: %s", error)
