"""Log probabilities of prompts: what a chunk scores, and how much has been told.

The logits that follow position p score the token at p + 1. So the first token has no score, the
last token of a chunk scores the first one behind it, and the prompt's last token scores nothing:
its logits choose the answer.
"""

from __future__ import annotations

from trunkline.engine.frames import PromptScores
from trunkline.engine.seam import Int32Array, Scored, Scoring


class PromptScoring:
    """What one group wants to know of its prompt.

    Invariant: scores of the tokens behind `start` and before `due` have been told, each once and in
    order. What a preempted row computes again is not scored again.
    """

    def __init__(self, number: int, prompt: Int32Array, start: int, top: int) -> None:
        self._number = number
        self._prompt = prompt
        self._top = top
        self.due = start + 1

    @property
    def done(self) -> bool:
        """True: nothing is left to be told."""
        return self.due >= len(self._prompt)

    @property
    def reusable(self) -> int:
        """Tokens whose logits nobody needs any more: they may come from the prefix cache."""
        return self.due - 1

    def limit(self, start: int, end: int, room: int) -> int:
        """Where a chunk that begins at `start` must end, at most at `end`, to score at most `room`
        tokens.
        """
        low, high = self._span(start, end)
        return end if high - low <= room else low - 1 + room

    def wanted(self, start: int, end: int) -> Scoring | None:
        """What the chunk of positions [start, end) is to score."""
        low, high = self._span(start, end)
        if low == high:
            return None
        return Scoring(low - 1 - start, self._prompt[low:high], self._top)

    def _span(self, start: int, end: int) -> tuple[int, int]:
        low = max(start + 1, self.due)
        return low, max(low, min(end + 1, len(self._prompt)))

    def tell(self, scored: Scored) -> PromptScores | None:
        """What of `scored` is news; None: nothing.

        Two rows of a group may compute the same tokens, where the executor cannot fork.
        """
        skip = max(0, self.due - scored.start)
        if scored.start + skip > self.due or skip >= len(scored.logprobs):
            return None
        begin, self.due = self.due, scored.start + len(scored.logprobs)
        return PromptScores(
            self._number,
            begin,
            scored.logprobs[skip:].astype("<f4").tobytes(),
            scored.ranks[skip:].astype("<i4").tobytes(),
            scored.top_ids[skip:].astype("<i4").tobytes(),
            scored.top_logprobs[skip:].astype("<f4").tobytes(),
        )
