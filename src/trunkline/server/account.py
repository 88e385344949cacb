"""Where calls that pass are counted, each in two steps."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.core.metrics import Counter, Histogram
from trunkline.core.speedups import native
from trunkline.gateway.tally import Tally, bounded
from trunkline.gateway.window import Window


class PureAccount:
    """Of one target and one model: what `Endpoint.begin` and `completed` count, and the metrics
    of a whole answer.

    The parts are what an endpoint counts requests, tries and tokens in, and a model's metrics.
    Times are in seconds.
    """

    __slots__ = ("_e2e", "_made", "_prompt", "_requests", "_tally", "_tokens", "_tries", "_ttft")

    def __init__(
        self,
        tally: Tally,
        requests: Window,
        tries: Window,
        tokens: Window,
        ttft: Histogram,
        e2e: Histogram,
        prompt: Counter,
        made: Counter,
    ) -> None:
        self._tally = tally
        self._requests = requests
        self._tries = tries
        self._tokens = tokens
        self._ttft = ttft
        self._e2e = e2e
        self._prompt = prompt
        self._made = made

    def began(self, now: float) -> None:
        """A request is sent."""
        self._requests.add(now)
        if self._tries is not self._requests:
            self._tries.add(now)
        self._tally.sent()

    def passed(
        self, now: float, began: float, took: float, prompt: int, made: int
    ) -> tuple[int, int]:
        """A request that was sent at `began` has its whole answer, `took` after it was asked for.

        `prompt` and `made` are tokens as another server tells them; gives those that count.
        """
        prompt, made = bounded(prompt), bounded(made)
        self._tokens.add(now, self._tally.answered(now, began, now, prompt, made))
        self._ttft.observe(took)
        self._e2e.observe(took)
        self._prompt.inc(prompt)
        self._made.inc(made)
        return prompt, made


if TYPE_CHECKING or native is None:
    Account = PureAccount
else:
    Account = native.Account
