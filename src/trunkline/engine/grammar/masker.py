"""The core's side: which tokens may come next in each row that has a grammar.

In each step `masks` is called when the plan is launched and every earlier one is collected, so
that it runs beside the forward pass; `accept` for each token that was sampled. A mask is filled in
Rust without the interpreter lock.

What ends a row: its mask allows end-of-text tokens only where the grammar may end; where nothing
else is left to come, `ended` is true with the last token, and the row stops with no end-of-text
sampled. The grammar is stronger than `ignore_eos` (an end-of-text token that it allowed ends the
row) and than `min_tokens` (which holds only while something else may come), but not than
`max_tokens`, `stop_token_ids` and stop strings: these cut the text as the client asked.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
from llguidance import LLMatcher

from trunkline.core.errors import ErrorInfo, InternalError
from trunkline.engine.frames import RowGrammar
from trunkline.engine.grammar.row import GrammarFailed, Prepared, RowState, Words
from trunkline.engine.grammar.vocabulary import full_tokenizer, limits
from trunkline.engine.seam import Masks, RowKey
from trunkline.text.tokenizer import Tokenizer

# Compiled grammars that are kept for the next request.
_TEMPLATES = 64
# Longest token that counts as white space between reasoning and grammar, in bytes.
_SPACE_BYTES = 4
_ALL = np.uint32(0xFFFFFFFF)


class Masker:
    """Grammar state of all rows of a core; used by its one thread.

    The vocabulary is prepared and grammars are compiled in a thread of its own. The state of a row
    follows accepted tokens, so preemption does not touch it.
    """

    def __init__(self, tokenizer: Tokenizer, *, max_rows: int, buffers: int = 2) -> None:
        """`max_rows`: most rows of one `masks`. `buffers`: results of `masks` in use at once."""
        self._tokenizer = tokenizer
        self._shape = (buffers, max_rows, -(-tokenizer.vocab_size // 32))
        # Made with the first mask: 64 rows of 152k tokens take 1.2 MB each.
        self._buffers: Words | None = None
        self._calls = 0
        self._rows: dict[RowKey, RowState] = {}
        self._errors: dict[RowKey, ErrorInfo] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="grammars")
        self._prepared: Future[Prepared] | None = None
        self._templates: OrderedDict[str, Future[LLMatcher]] = OrderedDict()

    @property
    def open_rows(self) -> int:
        """Rows that have a grammar."""
        return len(self._rows)

    def open(self, key: RowKey, grammar: RowGrammar) -> None:
        """Row `key` follows `grammar`, from its first token on. Returns at once."""
        if self._prepared is None:
            self._prepared = self._thread.submit(_prepare, self._tokenizer)
        template = self._templates.pop(grammar.source, None)
        if template is None:
            template = self._thread.submit(_compile, self._prepared, grammar.source)
        self._templates[grammar.source] = template
        if len(self._templates) > _TEMPLATES:
            self._templates.popitem(last=False)
        self._rows[key] = RowState(grammar, self._prepared, template)

    def fork(self, key: RowKey, new_keys: Iterable[RowKey]) -> None:
        """The rows `new_keys` go on from where `key` is; nothing where it has no grammar."""
        row = self._rows.get(key)
        if row is not None:
            self._rows.update((new, row.copy()) for new in new_keys)

    def close(self, key: RowKey) -> None:
        """Forget row `key`; harmless where it is unknown."""
        self._rows.pop(key, None)
        self._errors.pop(key, None)

    def shutdown(self) -> None:
        """End the thread, after the compilation that it is in; nothing may be called later."""
        self._rows.clear()
        self._errors.clear()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def ready(self, key: RowKey) -> bool:
        """False while the grammar of row `key` is compiled: `masks` would wait for it, so the row
        must not be planned yet. The first grammar of a core takes 1.3 s of processor time, because
        the vocabulary is prepared; others take milliseconds, at worst what the worker allowed.
        """
        row = self._rows.get(key)
        return row is None or row.ready

    def masks(self, keys: Sequence[RowKey]) -> Masks:
        """Masks of the rows that sample, in that order; None where none of them has a grammar.

        The array is written again after as many more calls as there are buffers. A row whose mask
        cannot be computed gets one that allows everything; `accept` then tells the error.
        """
        if not any(key in self._rows for key in keys):
            return None
        if self._buffers is None:
            self._buffers = np.empty(self._shape, np.uint32)
        self._calls += 1
        out = self._buffers[self._calls % len(self._buffers), : len(keys)]
        for index, key in enumerate(keys):
            self._fill(key, out[index])
        return out

    def accept(self, key: RowKey, token: int) -> ErrorInfo | None:
        """Row `key` goes on with `token`; with an error it fails, alone."""
        row = self._rows.get(key)
        if row is None or row.ended or key in self._errors:
            return self._errors.get(key)
        try:
            row.accept(token)
        except GrammarFailed as error:
            self._fail(key, row, error)
        return self._errors.get(key)

    def ended(self, key: RowKey) -> bool:
        """True when row `key` is complete: it stops with the token accepted last."""
        row = self._rows.get(key)
        return row is not None and row.ended

    def _fill(self, key: RowKey, out: Words) -> None:
        row = self._rows.get(key)
        if row is None or row.ended or key in self._errors:
            out.fill(_ALL)
            return
        try:
            row.fill(out)
        except GrammarFailed as error:
            self._fail(key, row, error)
            out.fill(_ALL)

    def _fail(self, key: RowKey, row: RowState, error: GrammarFailed) -> None:
        self._errors[key] = InternalError(f"the answer cannot follow its grammar: {error}").info()
        # Its copies share a lexer, which may have come to its limit.
        self._templates.pop(row.source, None)


def _prepare(tokenizer: Tokenizer) -> Prepared:
    ll_tokenizer, pieces = full_tokenizer(tokenizer)
    count = len(pieces)
    space = [i for i, piece in enumerate(pieces) if piece.isspace() and len(piece) <= _SPACE_BYTES]
    end = sorted(tokenizer.eog)
    return Prepared(ll_tokenizer, pieces, tokenizer.eog, ~_mask(count, end), _mask(count, space))


def _mask(count: int, tokens: Sequence[int]) -> Words:
    bits = np.zeros(-(-count // 32) * 32, np.uint8)
    bits[list(tokens)] = 1
    return np.packbits(bits, bitorder="little").view(np.uint32)


def _compile(prepared: Future[Prepared], source: str) -> LLMatcher:
    """A matcher at its beginning. One thread serves both, so `prepared` is done."""
    return LLMatcher(prepared.result().tokenizer, source, log_level=0, limits=limits())
