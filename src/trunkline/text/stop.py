"""Stop strings in a stream of text: cut exactly, hold back only what may become one.

The strings are compiled to an Aho-Corasick automaton (CACM 18(6), 1975), shared by the rows of a
request. Its depth after some text is the length of the longest end of that text which is the
beginning of a stop string: just what must be held back. Work is linear in the text, whatever the
number and length of the strings.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Sequence
from typing import NamedTuple


class StopStrings:
    """The compiled strings. Raises ValueError when one is empty."""

    def __init__(self, strings: Sequence[str]) -> None:
        if not all(strings):
            raise ValueError("a stop string must not be empty")
        self.strings = tuple(dict.fromkeys(strings))
        # Per state: successors by character, state of the longest proper suffix, length of the
        # text that leads here, index of the longest string that ends here (-1: none).
        self.next: list[dict[str, int]] = [{}]
        self.fail: list[int] = [0]
        self.depth: list[int] = [0]
        self.match: list[int] = [-1]
        for index, string in enumerate(self.strings):
            self._insert(index, string)
        self._link()
        first = "".join(re.escape(character) for character in self.next[0])
        # Where a match may begin: lets text without any such character pass at full speed.
        self.first = re.compile(f"[{first}]") if first else None

    def _insert(self, index: int, string: str) -> None:
        state = 0
        for character in string:
            following = self.next[state].get(character)
            if following is None:
                following = len(self.next)
                self.next[state][character] = following
                self.next.append({})
                self.fail.append(0)
                self.depth.append(self.depth[state] + 1)
                self.match.append(-1)
            state = following
        self.match[state] = index

    def _link(self) -> None:
        queue = deque(self.next[0].values())
        while queue:
            state = queue.popleft()
            for character, child in self.next[state].items():
                self.fail[child] = self.step(self.fail[state], character)
                if self.match[child] < 0:
                    self.match[child] = self.match[self.fail[child]]
                queue.append(child)

    def step(self, state: int, character: str) -> int:
        """The state after one more character."""
        while True:
            following = self.next[state].get(character)
            if following is not None:
                return following
            if state == 0:
                return 0
            state = self.fail[state]


class Matched(NamedTuple):
    """What `StopMatcher.feed` lets through."""

    text: str
    # The stop string that was found; the text ends with or before it.
    stop: str | None = None


class StopMatcher:
    """One row's text on its way through the automaton.

    The string that is complete first wins; of those complete at the same character the longest.
    Hence the result does not depend on how the text was split.
    """

    def __init__(self, strings: StopStrings, *, include_stop: bool = False) -> None:
        self._strings = strings
        self._include_stop = include_stop
        self._state = 0
        self._held = ""

    def feed(self, text: str) -> Matched:
        """Take more text. After a match the row is over and nothing more may be fed."""
        strings = self._strings
        if strings.first is None:
            return Matched(text)
        state, position, size = self._state, 0, len(text)
        while position < size:
            if state == 0:
                candidate = strings.first.search(text, position)
                if candidate is None:
                    break
                position = candidate.start()
            state = strings.step(state, text[position])
            position += 1
            if strings.match[state] >= 0:
                return self._cut(text, position, strings.strings[strings.match[state]])
        self._state = state
        whole = self._held + text
        shown = len(whole) - strings.depth[state]
        self._held = whole[shown:]
        return Matched(whole[:shown])

    def _cut(self, text: str, end: int, stop: str) -> Matched:
        shown = self._held + text[:end]
        self._held = ""
        return Matched(shown if self._include_stop else shown[: len(shown) - len(stop)], stop)

    def finish(self) -> str:
        """The end: what is held back became no stop string."""
        held, self._held = self._held, ""
        return held
