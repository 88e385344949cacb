"""Cutting text at stop strings, for servers that show them or do not know them."""

from __future__ import annotations

from collections.abc import Sequence


class StopCutter:
    """Finds the first stop string in text that comes in pieces.

    Invariant: what `feed` and `end` gave so far, joined, holds no stop string, and is all of the
    text but a tail that may be the beginning of one.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._most = max((len(stop) for stop in self._stops), default=1) - 1
        self._held = ""

    def feed(self, text: str) -> tuple[str, str | None]:
        """What may be shown now, and the stop string that ends it all, if one does."""
        if not self._stops:
            return text, None
        text = self._held + text
        places = [(text.find(stop), -len(stop), stop) for stop in self._stops if stop in text]
        if places:
            place, _, stop = min(places)
            self._held = ""
            return text[:place], stop
        tail = self._tail(text)
        self._held = text[len(text) - tail :]
        return text[: len(text) - tail], None

    def end(self) -> str:
        """What was held back: no stop string came of it."""
        held, self._held = self._held, ""
        return held

    def _tail(self, text: str) -> int:
        """Length of the longest end of `text` that begins a stop string."""
        for length in range(min(self._most, len(text)), 0, -1):
            if text.endswith(tuple(stop[:length] for stop in self._stops if len(stop) > length)):
                return length
        return 0
