"""What the rest of `text` and the engine's front ask of a tokenizer."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class FimTokens(NamedTuple):
    """Tokens that mark what is filled in ("fill in the middle"); None = the model has none."""

    # Before what comes before the gap, before what comes behind it, and before the answer.
    prefix: int | None = None
    suffix: int | None = None
    middle: int | None = None
    # Before the name of a project, and before that of each of its files.
    repository: int | None = None
    separator: int | None = None

    @property
    def complete(self) -> bool:
        """True: the model can fill in."""
        return None not in (self.prefix, self.suffix, self.middle)


class Tokenizer(Protocol):
    """Text to token ids and back. All methods may be called from several threads at once."""

    @property
    def vocab_size(self) -> int:
        """Number of token ids; valid ones are 0 .. vocab_size - 1."""

    @property
    def bos(self) -> int | None:
        """The token that begins a text, where the model has one."""

    @property
    def eog(self) -> frozenset[int]:
        """Tokens that end a text: end of sequence, of turn, of message."""

    @property
    def fim(self) -> FimTokens:
        """Tokens for filling in."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """Token ids of `text`.

        `add_special` adds BOS and EOS where the model wants them; `parse_special` reads the names
        of special tokens in the text as those tokens (rendered chat templates), else as plain text.

        Raises `InvalidRequest` where `text` holds a lone surrogate, which no tokenizer can encode.
        """

    def piece(self, token: int) -> bytes:
        """The bytes that `token` stands for, perhaps part of a UTF-8 sequence; special tokens
        give their name. Raises `IndexError` outside the vocabulary.
        """

    def is_special(self, token: int) -> bool:
        """True for control tokens, which are left out of shown text."""
