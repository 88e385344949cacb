"""A model in libllama, whole or vocabulary only."""

from __future__ import annotations

import ctypes as c
from collections.abc import Callable
from pathlib import Path

from trunkline.libllama.library import Library
from trunkline.libllama.remembered import recall, remember
from trunkline.libllama.structs import ProgressCallback


class LoadFailed(Exception):
    """libllama refused a file or a context; the message holds its reason."""


class Model:
    """A loaded model; owns its memory until `close`.

    Check the file with `formats.gguf` first: libllama asserts, which ends the process, on some
    malformed ones.
    """

    def __init__(
        self,
        lib: Library,
        path: Path,
        *,
        vocab_only: bool = False,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self.lib = lib
        self.path = path
        params = lib.call.llama_model_default_params()
        params.vocab_only = vocab_only

        def report(done: float, _data: object) -> bool:
            if on_progress is not None:
                on_progress(done)
            return True

        # libllama prints dots to the log where there is no callback.
        params.progress_callback = callback = ProgressCallback(report)
        lib.take_errors()
        self.pointer: int | None = lib.call.llama_model_load_from_file(bytes(path), params)
        del callback
        if not self.pointer:
            raise LoadFailed(f"{path}: {lib.take_errors() or 'libllama gave no reason'}")
        self.vocab: int = lib.call.llama_model_get_vocab(self.pointer)
        self.vocab_size: int = lib.call.llama_vocab_n_tokens(self.vocab)

    def eog(self) -> frozenset[int]:
        """Ids of the tokens that end a text (end of sequence, of turn, of message).

        Raises OSError where the file is gone.
        """
        known = recall(self.path)
        if known is None or known.words != self.vocab_size:
            is_eog, vocab = self.lib.call.llama_vocab_is_eog, self.vocab
            found = [token for token in range(self.vocab_size) if is_eog(vocab, token)]
            known = remember(self.path, self.vocab_size, found)
        return frozenset(known.eog)

    def piece(self, token: int) -> bytes:
        """The text of a token; b"" for a special one."""
        call, size = self.lib.call.llama_token_to_piece, 128
        while True:
            buffer = c.create_string_buffer(size)
            length: int = call(self.vocab, token, buffer, size, 0, False)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def close(self) -> None:
        """Free it; harmless when done before. No context of it may live."""
        if self.pointer:
            self.lib.call.llama_model_free(self.pointer)
            self.pointer = None
