"""Token ids to text, token by token, without ever showing half a character."""

from __future__ import annotations

import codecs

from trunkline.text.tokenizer import Tokenizer


class Detokenizer:
    """Text of one row. The concatenation of all that it returns is the text decoded at once.

    Bytes that may be the beginning of a UTF-8 sequence (at most 3) are held back until the
    sequence is whole or turns out invalid; invalid bytes become U+FFFD, as many as Python's
    decoder makes of them (Unicode 15, section 3.9, "substitution of maximal subparts").
    """

    def __init__(self, tokenizer: Tokenizer, *, skip_special_tokens: bool = True) -> None:
        self._tokenizer = tokenizer
        self._skip_special = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def feed(self, token: int) -> str:
        """Text that `token` completes; "" for a special token that is to be skipped."""
        if self._skip_special and self._tokenizer.is_special(token):
            return ""
        return self._decoder.decode(self._tokenizer.piece(token))

    @property
    def pending(self) -> bool:
        """True while bytes are held back."""
        return bool(self._decoder.getstate()[0])

    def finish(self) -> str:
        """The end: what is held back was no whole character."""
        return self._decoder.decode(b"", True)
