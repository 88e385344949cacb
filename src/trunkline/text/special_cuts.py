"""Cuts a long text before special tokens, where tokenizing the parts gives the same tokens.

libllama looks for every special token from each fragment to the end of the text, which is
quadratic: 100,000 times "<|im_start|>" took 44 s, and 0.7 s in parts.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

# Characters of a part, at least.
PART = 8_192


class SpecialCuts:
    """Finds cuts for one set of special tokens."""

    def __init__(self, names: Collection[str], stripping: Collection[str]) -> None:
        """`names`: texts of all tokens that are recognized in text, each non-empty.
        `stripping`: those that swallow white space before them; nothing is cut there.
        """
        longest_first = sorted(names, key=len, reverse=True)
        self._longest = max(map(len, names), default=0)
        self._stripping = frozenset(stripping)
        # The lookahead finds a match at every position, also inside another one.
        self._pattern = re.compile("(?=(" + "|".join(map(re.escape, longest_first)) + "))")

    def parts(self, text: str) -> Iterator[str]:
        """`text` in order, in parts that each begin with a special token, but for the first."""
        begin = 0
        while (cut := self._cut(text, begin + PART)) is not None:
            yield text[begin:cut]
            begin = cut
        yield text[begin:]

    def _cut(self, text: str, at: int) -> int | None:
        if not self._longest:
            return None
        while at < len(text) and (match := self._pattern.search(text, at)):
            at = match.start()
            if match[1] not in self._stripping and self._stands_alone(text, match):
                return at
            at += 1
        return None

    def _stands_alone(self, text: str, match: re.Match[str]) -> bool:
        """No other special token overlaps this one but inside it; else which one wins depends on
        the order in which libllama looks for them.
        """
        begin, end = match.start(), match.end(1)
        first = max(0, begin - self._longest + 1)
        for other in self._pattern.finditer(text, first, end + self._longest):
            if other.start() >= end:
                break
            if other.start() < begin < other.end(1) or other.end(1) > end:
                return False
        return True
