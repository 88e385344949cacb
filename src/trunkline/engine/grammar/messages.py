"""What the grammar compiler says to its worker."""

from __future__ import annotations

import msgspec

from trunkline.core.types import Grammar


class Outline(msgspec.Struct, frozen=True, array_like=True):
    """As much of a vocabulary as checking a grammar needs; ids are the model's own."""

    # Number of token ids.
    size: int
    # Special tokens, ends of text among them: id -> name.
    special: dict[int, bytes]
    # End-of-text tokens, rising; one at least.
    eog: tuple[int, ...]


class Configure(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """The first message; answered by an empty text."""

    outline: Outline


class Check(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """Translate and try a grammar; answered by its llguidance source."""

    grammar: Grammar
