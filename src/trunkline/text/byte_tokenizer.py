"""A tokenizer whose tokens are bytes: tests of everything around a model, with no model.

Ids 0 to 255 are the bytes; above them stand ChatML's special tokens.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from trunkline.core.errors import InvalidRequest
from trunkline.text.tokenizer import FimTokens

# ChatML, as the published Qwen and caboose templates spell it; content is text only.
CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)

_SPECIALS = ("<|im_start|>", "<|im_end|>", "<|endoftext|>")


class ByteTokenizer:
    """Implements `text.tokenizer.Tokenizer`: one token per byte, three special tokens."""

    vocab_size = 256 + len(_SPECIALS)
    bos: int | None = None
    # <|im_end|> and <|endoftext|>.
    eog = frozenset({257, 258})
    fim = FimTokens()

    def __init__(self) -> None:
        self._ids = {text: 256 + index for index, text in enumerate(_SPECIALS)}
        self._specials = re.compile("(" + "|".join(map(re.escape, _SPECIALS)) + ")")

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """UTF-8 bytes of `text`; special tokens become one id where `parse_special` is set.

        There is no BOS, hence nothing that `add_special` would add. Raises `InvalidRequest`
        where `text` holds a lone surrogate.
        """
        del add_special
        try:
            if not parse_special:
                return list(text.encode())
            ids: list[int] = []
            for part in self._specials.split(text):
                special = self._ids.get(part)
                ids += [special] if special is not None else part.encode()
            return ids
        except UnicodeEncodeError as error:
            raise InvalidRequest(
                "the text is not valid Unicode: it has a lone surrogate"
            ) from error

    def piece(self, token: int) -> bytes:
        """Bytes of a token. Raises IndexError for an id outside the vocabulary."""
        if 0 <= token < 256:
            return bytes((token,))
        if token < 0:
            raise IndexError(token)
        return _SPECIALS[token - 256].encode()

    def is_special(self, token: int) -> bool:
        """True for the three ChatML tokens."""
        return token >= 256

    def decode(self, tokens: Iterable[int]) -> str:
        """All tokens as text, special ones included; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.piece, tokens)).decode(errors="replace")
