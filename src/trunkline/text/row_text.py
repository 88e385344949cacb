"""Tokens of one row to the text that may be shown, and which tokens that text belongs to."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from trunkline.text.detokenizer import Detokenizer
from trunkline.text.stop import Matched, StopMatcher
from trunkline.text.tokenizer import Tokenizer


class Shown(NamedTuple):
    """What may go out now."""

    text: str
    # So many of the tokens fed and not yet shown, the oldest first, go out with this text.
    tokens: int = 0
    # The stop string that was found; tokens beyond those shown so far are dropped.
    stop: str | None = None


class RowText:
    """Detokenizer and stop strings of one row, and the accounting of tokens between them.

    A token goes out with the text that shows its last character; a token without text of its own
    with the text before it. After a stop string the tokens that lie wholly in it stay unshown.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        matcher: StopMatcher | None,
        *,
        skip_special_tokens: bool = True,
        min_tokens: int = 0,
    ) -> None:
        self._detokenizer = Detokenizer(tokenizer, skip_special_tokens=skip_special_tokens)
        self._matcher = matcher
        # Text of the first so many tokens cannot stop the row.
        self._unchecked = min_tokens if matcher is not None else 0
        self._decoded = 0
        self._shown = 0
        # (begin, end) of each unshown token in the text, in characters. The end is None while
        # bytes of the token wait for the rest of their character.
        self._spans: deque[tuple[int, int | None]] = deque()

    def feed(self, token: int) -> Shown:
        """Take one token."""
        begin = self._decoded
        text = self._detokenizer.feed(token)
        if text:
            self._close_spans(begin + 1)
        self._decoded += len(text)
        self._spans.append((begin, None if self._detokenizer.pending else self._decoded))
        if self._unchecked > 0:
            self._unchecked -= 1
            return self._show(Matched(text))
        if self._matcher is None:
            return self._show(Matched(text))
        return self._show(self._matcher.feed(text))

    def finish(self) -> Shown:
        """The row ended by itself: show what was held back, unless it completes a stop string."""
        text = self._detokenizer.finish()
        self._decoded += len(text)
        self._close_spans(self._decoded)
        if self._matcher is None:
            return self._show(Matched(text))
        matched = self._matcher.feed(text)
        if matched.stop is None:
            matched = Matched(matched.text + self._matcher.finish())
        return self._show(matched)

    def _close_spans(self, end: int) -> None:
        for index in range(len(self._spans) - 1, -1, -1):
            begin, known = self._spans[index]
            if known is not None:
                break
            self._spans[index] = (begin, end)

    def _show(self, matched: Matched) -> Shown:
        self._shown += len(matched.text)
        tokens = 0
        while self._spans and self._visible(*self._spans[0], matched.stop is not None):
            self._spans.popleft()
            tokens += 1
        return Shown(matched.text, tokens, matched.stop)

    def _visible(self, begin: int, end: int | None, stopped: bool) -> bool:
        if stopped and begin < self._shown:
            return True
        return end is not None and end <= self._shown
