"""One row's place in its grammar."""

from __future__ import annotations

from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLTokenizer

from trunkline.engine.frames import RowGrammar

# Seconds to wait for a grammar that is being compiled: a backstop for a caller that does not heed
# `Masker.ready`, since every row of the core waits with it.
_COMPILE_WAIT = 5.0
# Tokens of white space that may stand between the reasoning and the grammar.
_LEAD_TOKENS = 4

Words = npt.NDArray[np.uint32]


class Prepared(NamedTuple):
    """What is made of a vocabulary, once. Masks have shape (ceil(vocab / 32),)."""

    tokenizer: LLTokenizer
    # The bytes of each token.
    pieces: list[bytes]
    eog: frozenset[int]
    # All tokens but those that end a text.
    no_end: Words
    # Tokens of nothing but white space.
    space: Words


class GrammarFailed(Exception):
    """The row cannot go on; the message says why."""


class RowState:
    """Follows the tokens of one row.

    free (reasoning) --after_tokens or after_text--> lead (white space) --> grammar --> ended
    """

    def __init__(
        self, grammar: RowGrammar, prepared: Future[Prepared], template: Future[LLMatcher]
    ) -> None:
        self.source = grammar.source
        # Nothing is left to come, or an end-of-text token came where the grammar may end.
        self.ended = False
        self._after_tokens = frozenset(grammar.after_tokens)
        self._after_text = grammar.after_text.encode()
        self._free = bool(self._after_tokens or self._after_text)
        # The last bytes while it is free.
        self._tail = b""
        self._lead = 0
        self._prepared = prepared
        self._template = template
        # This row's own copy of the template, from its first use on.
        self._matcher: LLMatcher | None = None

    @property
    def ready(self) -> bool:
        """True when neither `fill` nor `accept` would wait for the compilation."""
        return self._template.done()

    def copy(self) -> RowState:
        """The same place, for another row."""
        twin = RowState.__new__(RowState)
        twin.__dict__.update(self.__dict__)
        if self._matcher is not None:
            twin._matcher = self._matcher.deep_copy()
        return twin

    def fill(self, out: Words) -> None:
        """Write the mask of what may come next; shape (ceil(vocab / 32),).

        Raises `GrammarFailed`.
        """
        if self._free:
            out[:] = self._vocabulary().no_end
            return
        matcher = self._own_matcher()
        matcher.unsafe_compute_mask_ptr(out.ctypes.data, out.nbytes)
        self._raise_error(matcher)
        if self._lead:
            out |= self._vocabulary().space
        elif not out.any():
            raise GrammarFailed("the grammar allows no token here")

    def accept(self, token: int) -> None:
        """Go on with `token`. Raises `GrammarFailed` where the grammar does not allow it."""
        if self._free:
            self._watch(token)
            return
        matcher = self._own_matcher()
        known = self._vocabulary()
        if token in known.eog and matcher.is_accepting():
            self.ended = True
            return
        if self._lead and not matcher.validate_tokens([token]):
            if not known.pieces[token].isspace():
                raise GrammarFailed("the text does not begin as the grammar does")
            self._lead -= 1
            return
        self._lead = 0
        self._consume(matcher, [token])

    def _watch(self, token: int) -> None:
        """Look for the end of the reasoning."""
        if token in self._after_tokens:
            self._begin(b"")
        elif self._after_text:
            text = self._tail + self._vocabulary().pieces[token]
            before, found, rest = text.partition(self._after_text)
            if found:
                self._begin(rest)
            else:
                self._tail = before[-len(self._after_text) :]

    def _begin(self, rest: bytes) -> None:
        """The grammar begins; `rest` came with the token that ended the reasoning."""
        self._free = False
        self._lead = _LEAD_TOKENS
        rest = rest.lstrip()
        if rest:
            self._lead = 0
            self._consume(
                self._own_matcher(),
                self._vocabulary().tokenizer.greedy_tokenize(rest.decode(errors="replace")),
            )

    def _consume(self, matcher: LLMatcher, tokens: list[int]) -> None:
        if not matcher.consume_tokens(tokens):
            self._raise_error(matcher)
            raise GrammarFailed("the text left the grammar")
        self._raise_error(matcher)
        self.ended = matcher.is_stopped()

    def _own_matcher(self) -> LLMatcher:
        if self._matcher is None:
            try:
                template = self._template.result(_COMPILE_WAIT)
            except FutureTimeout as error:
                raise GrammarFailed("the grammar takes too long to compile") from error
            self._matcher = template.deep_copy()
            self._raise_error(self._matcher)
        return self._matcher

    def _vocabulary(self) -> Prepared:
        try:
            return self._prepared.result(_COMPILE_WAIT)
        except FutureTimeout as error:
            raise GrammarFailed("the vocabulary takes too long to prepare") from error

    def _raise_error(self, matcher: LLMatcher) -> None:
        if matcher.is_error():
            raise GrammarFailed(" ".join(matcher.get_error().split())[:300])
