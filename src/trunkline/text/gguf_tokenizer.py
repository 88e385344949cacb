"""The tokenizer inside a GGUF file, through libllama.

libllama's tokenizer functions are thread-safe (include/llama.h) and release the GIL. They take
about 1 s per MB. For many models they split text with std::regex, which recurses once per character
of a match and overflows the stack, ending the process: 8 MiB hold 23,000 letters in a row. Longer
texts are therefore tokenized on a thread with a large stack, and runs that not even that holds are
refused.
"""

from __future__ import annotations

import ctypes as c
import functools
import re
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trunkline.core.aside import aside
from trunkline.core.errors import InternalError, InvalidRequest
from trunkline.libllama.library import library
from trunkline.libllama.model import Model
from trunkline.libllama.structs import (
    ATTR_CONTROL,
    ATTR_LSTRIP,
    ATTR_UNKNOWN,
    ATTR_USER_DEFINED,
)
from trunkline.text.special_cuts import SpecialCuts
from trunkline.text.tokenizer import FimTokens

# Characters that any thread's stack holds.
SHORT = 8_192
# Bytes of stack for longer texts, taken as they are used; std::regex wants 356 per character.
DEEP_STACK = 512 * 1024 * 1024
# Most characters in a row without white space, or of white space. A match spans two runs at most.
LONGEST_RUN = 500_000
# Long texts that are tokenized at once: each may fill its stack.
LONG_TEXTS = 2


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
        # libllama finds them by the file's metadata, older keys included, and by their names.
        found = [
            int(getattr(self._call, f"llama_vocab_fim_{name}")(self._vocab))
            for name in ("pre", "suf", "mid", "rep", "sep")
        ]
        self._fim = FimTokens(*(token if token >= 0 else None for token in found))
        self._long_texts = threading.BoundedSemaphore(LONG_TEXTS)
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

    @property
    def fim(self) -> FimTokens:
        return self._fim

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        try:
            data = text.encode()
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                f"The text is not valid Unicode: a lone surrogate at character {error.start}."
            ) from error
        if len(text) <= SHORT:
            return self._encode(data, add_special, parse_special)
        with self._long_texts:
            return _in_deep_thread(lambda: self._encode_parts(text, add_special, parse_special))

    def _encode_parts(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        begin, end = self._frame if add_special else ([], [])
        tokens = begin.copy()
        for part in self._cuts(parse_special).parts(text):
            _refuse_long_runs(part)
            tokens += self._encode(part.encode(), False, parse_special)
        return tokens + end

    @functools.cached_property
    def _frame(self) -> tuple[list[int], list[int]]:
        """What `add_special` puts before and after a text."""
        both = self._encode(b"", True, False)
        begin = 1 if self._call.llama_vocab_get_add_bos(self._vocab) else 0
        return both[:begin], both[begin:]

    @functools.cached_property
    def _specials(self) -> list[tuple[str, int]]:
        """(text, attributes) of the tokens that libllama looks for in a text."""
        kinds = ATTR_CONTROL | ATTR_UNKNOWN | ATTR_USER_DEFINED
        attr, vocab = self._call.llama_vocab_get_attr, self._vocab
        found = ((token, attr(vocab, token)) for token in range(self._vocab_size))
        named = ((self.piece(token), bits) for token, bits in found if bits & kinds)
        return [(name.decode(errors="replace"), bits) for name, bits in named if name]

    def _cuts(self, parse_special: bool) -> SpecialCuts:
        """User-defined tokens are recognized in any text, others where that is asked for."""
        kinds = ATTR_USER_DEFINED
        if parse_special:
            kinds |= ATTR_CONTROL | ATTR_UNKNOWN
        known = [(name, bits) for name, bits in self._specials if bits & kinds]
        return SpecialCuts(
            [name for name, _ in known], [name for name, bits in known if bits & ATTR_LSTRIP]
        )

    def _encode(self, data: bytes, add_special: bool, parse_special: bool) -> list[int]:
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


def _refuse_long_runs(text: str) -> None:
    if len(text) <= LONGEST_RUN:
        return
    spaces = re.findall(r"\s{2,}", text)
    longest = max(max(map(len, text.split()), default=0), max(map(len, spaces), default=0))
    if longest > LONGEST_RUN:
        raise InvalidRequest(
            f"The text has {longest} characters in a row without a break between words; at most "
            f"{LONGEST_RUN} can be tokenized."
        )


def _in_deep_thread(work: Callable[[], list[int]]) -> list[int]:
    """Result of `work`, done on a thread with a stack of `DEEP_STACK`."""
    before = threading.stack_size(DEEP_STACK)
    try:
        result = aside(work, "tokenizer")
    finally:
        threading.stack_size(before)
    return result.result()


def load_tokenizer(path: Path) -> GgufTokenizer:
    """The tokenizer of the GGUF file `path`, without its weights.

    Check the file with `formats.gguf_facts.read_facts` first. Raises `LibraryUnusable`,
    `LoadFailed`.
    """
    return GgufTokenizer(Model(library(), path, vocab_only=True))
