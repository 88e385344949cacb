"""The tokenizer inside a GGUF file, through libllama.

libllama's tokenizer functions are thread-safe (include/llama.h) and release the GIL.
"""

from __future__ import annotations

import ctypes as c
from pathlib import Path

import numpy as np

from trunkline.core.errors import InternalError, InvalidRequest
from trunkline.libllama.library import library
from trunkline.libllama.model import Model
from trunkline.libllama.structs import ATTR_CONTROL, ATTR_UNKNOWN


class GgufTokenizer:
    """`text.tokenizer.Tokenizer` over a model of libllama, usually one loaded `vocab_only`."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._call = model.lib.call
        self._vocab = model.vocab
        self._vocab_size = model.vocab_size
        bos = int(self._call.llama_vocab_bos(self._vocab))
        self._bos = bos if bos >= 0 else None
        self._eog = model.eog()
        # Filled as tokens appear; two threads may fill an entry at once, with equal values.
        self._pieces: list[bytes | None] = [None] * self._vocab_size

    @property
    def vocab_size(self) -> int:
        return self._vocab_size

    @property
    def bos(self) -> int | None:
        return self._bos

    @property
    def eog(self) -> frozenset[int]:
        return self._eog

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"The text is not valid Unicode: a lone surrogate at character {error.start}."
            ) from error
        # A token stands for a byte at least; BOS, EOS and a leading space come on top.
        tokens = np.empty(len(data) + 16, dtype=np.int32)
        count = self._tokenize(data, tokens, add_special, parse_special)
        if count < 0:
            # Normalization made the text longer; libllama says how much room it wants.
            tokens = np.empty(-count, dtype=np.int32)
            count = self._tokenize(data, tokens, add_special, parse_special)
        if count < 0:
            raise InternalError(f"libllama could not tokenize a text of {len(data)} bytes")
        found: list[int] = tokens[:count].tolist()
        return found

    def _tokenize(
        self,
        data: bytes,
        out: np.ndarray[tuple[int], np.dtype[np.int32]],
        special: bool,
        parse: bool,
    ) -> int:
        return int(
            self._call.llama_tokenize(
                self._vocab, data, len(data), out.ctypes.data, len(out), special, parse
            )
        )

    def piece(self, token: int) -> bytes:
        if not 0 <= token < self._vocab_size:
            raise IndexError(f"token {token} is outside a vocabulary of {self._vocab_size}")
        known = self._pieces[token]
        if known is None:
            known = self._pieces[token] = self._ask_piece(token)
        return known

    def _ask_piece(self, token: int) -> bytes:
        buffer = c.create_string_buffer(128)
        size = self._call.llama_token_to_piece(self._vocab, token, buffer, 128, 0, True)
        if size < 0:
            buffer = c.create_string_buffer(-size)
            size = self._call.llama_token_to_piece(self._vocab, token, buffer, -size, 0, True)
        return buffer.raw[:size]

    def is_special(self, token: int) -> bool:
        if not 0 <= token < self._vocab_size:
            raise IndexError(f"token {token} is outside a vocabulary of {self._vocab_size}")
        attr: int = self._call.llama_vocab_get_attr(self._vocab, token)
        return bool(attr & (ATTR_CONTROL | ATTR_UNKNOWN))

    def close(self) -> None:
        """Free the model. No other call may be under way or follow."""
        self._model.close()


def load_tokenizer(path: Path) -> GgufTokenizer:
    """The tokenizer of the GGUF file `path`, without its weights.

    Check the file with `formats.gguf_facts.read_facts` first. Raises `LibraryUnusable`,
    `LoadFailed`.
    """
    return GgufTokenizer(Model(library(), path, vocab_only=True))
