"""What executors have in common that compute one plan at a time, on a thread of their own.

The pass runs on that thread, which holds no GIL meanwhile; sampling runs on the caller's thread in
`collect`, from the rows of logits that the pass left behind. `run_ahead` is 0.
"""

from __future__ import annotations

import itertools
import logging
import queue
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from trunkline.core.errors import ErrorInfo, InternalError
from trunkline.engine.executors.sampling import Floats, Sampler, Unsampleable
from trunkline.engine.seam import (
    Capabilities,
    Chunk,
    ExecutorFailed,
    Masks,
    RowFailed,
    RowKey,
    Sampled,
    Scored,
    StepLost,
    StepPlan,
    StepResult,
    Ticket,
)

log = logging.getLogger(__name__)

_NONE: Floats = np.empty((0, 0), np.float32)
# A word of a mask that allows everything.
_ALL = np.uint32(0xFFFFFFFF)


class OnePass(ABC):
    """Implements `launch`, `sample` and `collect` of `engine.seam.Executor`."""

    def __init__(
        self, name: str, capabilities: Capabilities, piece: Callable[[int], bytes]
    ) -> None:
        """`piece`: the text of a token, b"" for a special one."""
        self.capabilities = capabilities
        self._sampler = Sampler(capabilities.vocab_size, capabilities.eog, piece)
        self._plan: StepPlan | None = None
        self._masks: Masks = None
        self._begun = 0.0
        self._work: queue.SimpleQueue[StepPlan | None] = queue.SimpleQueue()
        # Status of `_pass`, or what was raised instead.
        self._done: queue.SimpleQueue[int | ExecutorFailed] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._compute, name=name, daemon=True)
        self._thread.start()

    def launch(self, plan: StepPlan) -> Ticket:
        """Open and close samplers, and hand the plan to the computing thread."""
        if self._plan is not None:
            raise ExecutorFailed(f"step {plan.step} begins before {self._plan.step} is collected")
        for row in plan.open:
            self._sampler.open(row)
        for key in plan.close:
            self._sampler.close(key)
        self._plan, self._masks = plan, None
        self._begun = time.perf_counter()
        self._work.put(plan)
        return Ticket(plan.step)

    def sample(self, ticket: Ticket, masks: Masks) -> None:
        """Note the masks; they are used in `collect`."""
        self._masks = masks

    def collect(self, ticket: Ticket) -> StepResult:
        """Wait for the pass and choose the tokens."""
        plan, status = self._plan, self._done.get()
        self._plan = None
        if isinstance(status, ExecutorFailed):
            raise status
        if plan is None or plan.step != ticket.step:
            raise ExecutorFailed(f"step {ticket.step} was not launched")
        if status != 0:
            raise self._lost(plan, status)
        computed = time.perf_counter()
        outputs = [_outputs(chunk) for chunk in plan.chunks]
        logits = self._logits(sum(outputs)) if any(outputs) else _NONE
        # Where the logits of each chunk begin; those that it samples from are its last.
        begins = [0, *itertools.accumulate(outputs)]
        sampled, failed = self._sample_rows(plan, logits, begins)
        scored = self._score(plan, logits, begins)
        end = time.perf_counter()
        took = end - self._begun
        return StepResult(plan.step, sampled, took, failed, end - computed, scored)

    def _stop(self) -> None:
        """End the thread, after the pass that runs."""
        self._work.put(None)
        self._thread.join()

    # What each does in its own way.

    @abstractmethod
    def _pass(self, plan: StepPlan) -> int:
        """Memory operations and the pass; on the computing thread. 0, or why the step is lost.

        Raises `ExecutorFailed`.
        """

    @abstractmethod
    def _logits(self, count: int) -> Floats:
        """Those of the last pass, of all tokens that `wanted` named; shape (count, vocab)."""

    @abstractmethod
    def _lost(self, plan: StepPlan, status: int) -> StepLost:
        """What to raise when `_pass` returned `status`, after voiding what is not known."""

    # computing thread -----------------------------------------------------------------------

    def _compute(self) -> None:
        while (plan := self._work.get()) is not None:
            try:
                status: int | ExecutorFailed = self._pass(plan)
            except ExecutorFailed as error:
                status = error
            except Exception as error:  # the caller must hear of it: it waits
                log.exception("step %d", plan.step)
                status = ExecutorFailed(f"step {plan.step}: {type(error).__name__}: {error}")
            self._done.put(status)

    # caller's thread ------------------------------------------------------------------------

    def _score(self, plan: StepPlan, logits: Floats, begins: list[int]) -> tuple[Scored, ...]:
        """One row of logits at a time: little memory, and no sort of a whole vocabulary."""
        found: list[Scored] = []
        for chunk, begin in zip(plan.chunks, begins, strict=False):
            if chunk.scoring is None:
                continue
            targets, top = chunk.scoring.targets, chunk.scoring.top
            count, most = len(targets), min(top, self.capabilities.vocab_size)
            logprobs, ranks = np.empty(count, np.float32), np.empty(count, np.int32)
            # Where logits are no numbers there are fewer alternatives.
            ids = np.zeros((count, top), np.int32)
            values = np.full((count, top), -np.inf, np.float32)
            for row, target in enumerate(targets.tolist()):
                logprobs[row], ranks[row], best = self._sampler.score(
                    logits[begin + row], target, most
                )
                for place, (token, value) in enumerate(best):
                    ids[row, place], values[row, place] = token, value
            start = chunk.start + chunk.scoring.first + 1
            found.append(Scored(chunk.key, chunk.epoch, start, logprobs, ranks, ids, values))
        return tuple(found)

    def _sample_rows(
        self, plan: StepPlan, logits: Floats, begins: list[int]
    ) -> tuple[tuple[Sampled, ...], tuple[RowFailed, ...]]:
        sampled: list[Sampled] = []
        failed: list[RowFailed] = []
        rows = [
            (key, logits[end - 1])
            for chunk, end in zip(plan.chunks, begins[1:], strict=True)
            for key in chunk.sample
        ]
        # A neighbour's mask changes nothing: the same row is drawn in the same way without it.
        free = list(range(len(rows)))
        if self._masks is not None:
            free = np.flatnonzero((self._masks[: len(rows)] == _ALL).all(axis=1)).tolist()
        found = self._draw([rows[place] for place in free])
        drawn = {free[index]: one for index, one in found.items()}
        for place, (key, values) in enumerate(rows):
            if place in drawn:
                sampled.append(drawn[place])
                continue
            mask = None if self._masks is None else self._masks[place]
            try:
                sampled.append(self._sampler.sample(key, values, mask))
            except Unsampleable as error:
                failed.append(RowFailed(key, ErrorInfo(InternalError.kind, str(error))))
        return tuple(sampled), tuple(failed)

    def _draw(self, rows: Sequence[tuple[RowKey, Floats]]) -> Mapping[int, Sampled]:
        """What those rows sampled, by place, that can be drawn faster than by the sampler.

        No mask forbids any of them anything.
        """
        return {}


def wanted(chunks: tuple[Chunk, ...]) -> list[int]:
    """Which tokens of a plan have logits, by their place in it, rising."""
    found: list[int] = []
    begin = 0
    for chunk in chunks:
        end = begin + len(chunk.tokens)
        if chunk.scoring is not None:
            first = begin + chunk.scoring.first
            found += range(first, first + len(chunk.scoring.targets))
        if chunk.sample and (not found or found[-1] != end - 1):
            found.append(end - 1)
        begin = end
    return found


def keys_of(plan: StepPlan) -> tuple[RowKey, ...]:
    """The rows that a plan is about, each once, in its order."""
    keys: dict[RowKey, None] = {}
    for chunk in plan.chunks:
        keys.update(dict.fromkeys((chunk.key, *chunk.sample)))
    return tuple(keys)


def _outputs(chunk: Chunk) -> int:
    """How many of its tokens have logits."""
    if chunk.scoring is None:
        return int(bool(chunk.sample))
    scores = len(chunk.scoring.targets)
    last = chunk.scoring.first + scores == len(chunk.tokens)
    return scores + (bool(chunk.sample) and not last)
