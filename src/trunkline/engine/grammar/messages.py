"""What the grammar compiler says to its worker."""

from __future__ import annotations

import msgspec

from trunkline.core.types import Grammar
from trunkline.text.tokenizer import Tokenizer


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """As much of a vocabulary as checking a grammar needs; ids are the model's own."""

    # Number of token ids.
    size: int
    # Special tokens, ends of text among them: id -> name.
    special: dict[int, bytes]
    # End-of-text tokens, rising; one at least.
    eog: tuple[int, ...]


def outline(tokenizer: Tokenizer) -> Outline:
    """What the worker must know of `tokenizer`. 150k tokens take 0.1 s."""
    ids = {token for token in range(tokenizer.vocab_size) if tokenizer.is_special(token)}
    special = {token: tokenizer.piece(token) for token in sorted(ids | tokenizer.eog)}
    return Outline(tokenizer.vocab_size, special, tuple(sorted(tokenizer.eog)))


class Configure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message; answered by an empty text."""

    outline: Outline


class Check(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Translate and try a grammar; answered by its llguidance source."""

    grammar: Grammar
