"""What a scheduler may hold, and which requests it turns away at the door."""

from __future__ import annotations

import msgspec

from trunkline.core.errors import (
    ContextOverflow,
    ErrorInfo,
    InvalidRequest,
    QueueFull,
    TrunklineError,
    Unprocessable,
    Unsupported,
)
from trunkline.engine.frames import AddGroup
from trunkline.engine.seam import Capabilities

_ITEM_SIZE = 4


class SchedulerLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Policy of one scheduler."""

    # Rows that run together; the executor's own limits apply besides.
    max_num_seqs: int = 64
    # Groups that may wait.
    max_queue: int = 512
    # Time budget of a step, seconds.
    max_step_seconds: float = 0.25
    # False: no prompt ever uses another one's KV.
    prefix_cache: bool = True
    # Tokens that stay cached when no row uses them; None = as many as there is room for.
    max_cached_tokens: int | None = None
    # A prefix of at least so many tokens is waited for when another row is computing it.
    min_shared_tokens: int = 32
    # Prefill tokens that a step takes at least, whatever they cost, beside decoding rows ...
    min_chunk: int = 32
    # ... and when nothing decodes (ggml is efficient from a few hundred on).
    min_chunk_alone: int = 256
    # Times in a row that a row's step may be lost before its group fails.
    max_retries: int = 3


class Admission:
    """Limits as they follow from policy and executor, and the refusals that follow from them."""

    def __init__(self, capabilities: Capabilities, limits: SchedulerLimits) -> None:
        # Rows that can have a place in the batch: each must be able to decode in every step.
        self.seats = min(
            limits.max_num_seqs,
            capabilities.sequences,
            capabilities.max_outputs,
            capabilities.max_step_tokens,
        )
        tokens = capabilities.kv_tokens // capabilities.page * capabilities.page
        # Longest prompt plus output of one row.
        self.context = min(capabilities.context, tokens)
        self._scores = capabilities.max_scores > 0
        self._max_queue = limits.max_queue
        self._busy = 0.0
        self._finished = 0
        # Seconds of computing per finished group, smoothed.
        self._pace = 1.0

    def refuse(self, request: AddGroup, waiting: int, free_seats: int) -> ErrorInfo | None:
        """Why `request` cannot be taken, with `waiting` groups in the queue, or None."""
        prompt = len(request.prompt) // _ITEM_SIZE
        most = request.params.max_tokens
        error: TrunklineError | None = None
        if prompt == 0:
            error = InvalidRequest("The prompt is empty: send at least one token.")
        elif prompt >= self.context:
            error = ContextOverflow(
                f"The prompt has {prompt} tokens; prompt and output together may have"
                f" {self.context}. Shorten the prompt."
            )
        elif most is not None and most < 1:
            error = Unprocessable(
                f"max_tokens is {most}; it must be at least 1.", param="max_tokens"
            )
        elif request.prompt_logprobs is not None and not self._scores:
            error = Unsupported("This engine cannot tell the log probabilities of a prompt.")
        elif not 1 <= request.n <= self.seats:
            error = Unprocessable(
                f"n is {request.n}; this engine runs 1 to {self.seats} rows together.", param="n"
            )
        elif waiting >= self._max_queue and (waiting or request.n > free_seats):
            error = QueueFull(
                f"{waiting} requests are waiting already, the most that may. Try again later.",
                retry_after=self._retry_after(waiting),
            )
        return error.info() if error else None

    def worked(self, seconds: float, finished: int) -> None:
        """A step took `seconds`; `finished` groups are complete since the start."""
        self._busy += seconds
        done = finished - self._finished
        if done:
            self._pace += 0.2 * (self._busy / done - self._pace)
            self._busy, self._finished = 0.0, finished

    def _retry_after(self, waiting: int) -> float:
        # When half of those who wait now are served, there is room for a burst.
        return min(max(round(self._pace * waiting / 2, 1), 1.0), 60.0)
