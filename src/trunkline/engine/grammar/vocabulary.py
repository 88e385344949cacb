"""Our tokenizers as llguidance wants them, and the bounds on its work."""

from __future__ import annotations

from collections.abc import Sequence

import llguidance
from llguidance import LLParserLimits, LLTokenizer

from trunkline.engine.grammar.messages import Outline
from trunkline.text.tokenizer import Tokenizer


def limits() -> LLParserLimits:
    """The same for worker and core, so that what one accepts the other can run.

    Measured with 152k tokens on one core: a mask takes 0.01 to 0.2 ms; grammars made to be slow
    give up at `step_max_items` after 10 to 150 ms, and their row fails. Default values would let
    them go on for 400 ms, and let one lexer grow to half a gigabyte.
    """
    return LLParserLimits(
        step_max_items=20_000,
        max_lexer_states=50_000,
        # Its time depends on the vocabulary, so the worker would not see it.
        precompute_large_lexemes=False,
        # Else messages hold the parser's state.
        verbose_errors=False,
    )


class _Vocabulary:
    """The attributes that `llguidance.TokenizerWrapper` reads."""

    def __init__(self, tokens: list[bytes], special: Sequence[int], eog: Sequence[int]) -> None:
        self.tokens = tokens
        self.special_token_ids = list(special)
        self.eos_token_id = eog[0]
        self.bos_token_id = None

    def __call__(self, text: bytes) -> list[int]:
        """Tokenize; grammars with `no_forcing` never ask, but the wrapper tries it once."""
        return []


def _ll_tokenizer(tokens: list[bytes], special: Sequence[int], eog: Sequence[int]) -> LLTokenizer:
    wrapper = llguidance.TokenizerWrapper(_Vocabulary(tokens, special, eog))
    return LLTokenizer(wrapper, n_vocab=len(tokens), eos_token=list(eog))


def outline_tokenizer(known: Outline) -> LLTokenizer:
    """A vocabulary of bytes and special tokens; other ids exist but stand for nothing."""
    size = max(known.size, 256 + len(known.special))
    tokens = [known.special.get(token, b"") for token in range(size)]
    free = (token for token in range(size) if token not in known.special)
    for byte, token in zip(range(256), free, strict=False):
        tokens[token] = bytes((byte,))
    return _ll_tokenizer(tokens, tuple(known.special), known.eog)


def full_tokenizer(tokenizer: Tokenizer) -> tuple[LLTokenizer, list[bytes]]:
    """The whole vocabulary, and the bytes of each token. 150k tokens take about 1.3 s."""
    pieces = [tokenizer.piece(token) for token in range(tokenizer.vocab_size)]
    special = [token for token in range(len(pieces)) if tokenizer.is_special(token)]
    return _ll_tokenizer(pieces, special, sorted(tokenizer.eog)), pieces
