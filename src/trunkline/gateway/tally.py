"""What is counted of one target of a route, and the averages over its answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.core.speedups import native

# Weight of the newest sample in the moving averages.
_NEWEST = 0.15
# Tokens that one request is taken to have at most, whatever another server tells.
_MOST_TOKENS = 1 << 40


def bounded(tokens: int) -> int:
    """As many `tokens` as are counted, where another server has told how many there were."""
    return tokens if 0 <= tokens <= _MOST_TOKENS else min(max(tokens, 0), _MOST_TOKENS)


class PureTally:
    """Each request is `sent`; its owner takes it out of `in_flight` unless it is `answered`.

    Times are the clock's seconds.
    """

    def __init__(self) -> None:
        self.in_flight = 0
        self.requests = 0
        self.successes = 0
        self.cancelled = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        # Exponentially weighted moving averages over complete answers, and when the last one was;
        # 0 = there was none. Seconds until the first output, per further token, and of it all.
        self.measured_at = 0.0
        self.ttft = 0.0
        self.per_token = 0.0
        self.duration = 0.0
        # In flight when an answer was complete, that one included.
        self.parallel = 0.0
        # Tokens of one request, prompt and answer.
        self.size = 0.0
        # Sums over the answers that were complete, in seconds.
        self.ttft_seconds = 0.0
        self.answer_seconds = 0.0

    def sent(self) -> None:
        """A request is under way."""
        self.in_flight += 1
        self.requests += 1

    def answered(self, now: float, began: float, first: float, prompt: int, made: int) -> int:
        """A request that `began` has its whole answer, the first of it since `first`.

        `prompt` and `made` are tokens, of the prompt and of the answer; gives how many it took.
        """
        prompt, made = bounded(prompt), bounded(made)
        total = prompt + made
        ttft, duration = first - began, now - began
        newest = _NEWEST if self.measured_at else 1.0
        self.measured_at = now
        self.ttft += newest * (ttft - self.ttft)
        self.duration += newest * (duration - self.duration)
        self.parallel += newest * (self.in_flight - self.parallel)
        self.size += newest * (total - self.size)
        if made > 1:
            per_token = (now - first) / (made - 1)
            self.per_token += (newest if self.per_token else 1.0) * (per_token - self.per_token)
        self.in_flight -= 1
        self.successes += 1
        self.ttft_seconds += ttft
        self.answer_seconds += duration
        self.prompt_tokens += prompt
        self.completion_tokens += made
        return total


if TYPE_CHECKING or native is None:
    Tally = PureTally
else:
    Tally = native.Tally
