"""The vocabulary of a model's file, read by libllama when somebody needs it.

What every start needs of it, the tokens that end a text, is mostly known already.
"""

from __future__ import annotations

import threading
from pathlib import Path

from trunkline.libllama.library import library
from trunkline.libllama.model import Model
from trunkline.libllama.remembered import recall


class Vocabulary:
    """`words` and `eog` at once where they are known; the rest on demand, from any thread."""

    def __init__(self, path: Path) -> None:
        """Raises `LoadFailed`, `LibraryUnusable`, OSError."""
        self._path = path
        self._lock = threading.Lock()
        self._model: Model | None = None
        known = recall(path)
        if known is not None:
            self.words, self.eog = known.words, frozenset(known.eog)
        else:
            model = self.model()
            self.words, self.eog = model.vocab_size, model.eog()

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
