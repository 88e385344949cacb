"""The executor seam: what the scheduler asks of whatever computes.

    ticket = executor.launch(plan)       # returns at once; the forward pass runs on its own thread
    executor.sample(ticket, masks)       # masks may be filled while the pass runs
    result = executor.collect(ticket)    # waits

Plans hold integers and arrays only, so that they can be logged, replayed and broadcast to
tensor-parallel ranks. The sampler state of a row (random stream, penalties) lives behind the seam
from `StepPlan.open` to `StepPlan.close`, across preemptions; its memory (`seq`) does not.

Memory operations of a plan happen in order, before the pass of that plan and after every earlier
plan. With `Capabilities.run_ahead` = 1 a plan may be launched while the one before it has not been
collected; a row whose next token is not known yet then has the token `PLACEHOLDER`, and the
executor puts the token that it sampled for that row in the plan before.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import msgspec
import numpy as np
import numpy.typing as npt

from trunkline.core.errors import ErrorInfo
from trunkline.core.types import SamplingParams
from trunkline.text.tokenizer import Tokenizer

Int32Array = npt.NDArray[np.int32]
Float32Array = npt.NDArray[np.float32]

# "The token that this row samples in the plan before this one."
PLACEHOLDER = -1


class RowKey(msgspec.Struct, frozen=True, array_like=True, order=True):
    """Identity of a row for its whole life, across preemptions."""

    # Number of the group, unique in this core's life.
    group: int
    # Which of the group's rows, 0 .. n-1.
    row: int


class OpenRow(msgspec.Struct, frozen=True):
    """A row that samples for the first time in this plan or later."""

    key: RowKey
    params: SamplingParams
    # Seed of this row's own random stream (32 bits), derived from request seed and row number.
    seed: int
    # The prompt: repetition penalties count its tokens.
    prompt: Int32Array


class CopySeq(msgspec.Struct, frozen=True):
    """Cells: sequence `dst` also gets positions [start, end) of `src`. Metadata only."""

    src: int
    dst: int
    start: int
    end: int


class TrimSeq(msgspec.Struct, frozen=True):
    """Cells: sequence `seq` loses positions [start, end); end = -1 means to its end."""

    seq: int
    start: int
    end: int = -1


class CopyBlock(msgspec.Struct, frozen=True):
    """Blocks: copy block `src` to `dst` (the partial tail at a fork)."""

    src: int
    dst: int


MemoryOp = CopySeq | TrimSeq | CopyBlock


class Scoring(msgspec.Struct, frozen=True):
    """Log probabilities wanted of tokens that are known: those of a prompt."""

    # Token i of `targets` is scored with the logits that follow token first + i of the chunk.
    first: int
    # Shape (m,), 1 <= m <= tokens of the chunk - first.
    targets: Int32Array
    # The best alternatives to be told of each; 0 = none.
    top: int


class Chunk(msgspec.Struct, frozen=True):
    """Consecutive tokens of one sequence in a step: a piece of a prompt, or one decoded token."""

    # The row whose memory this is.
    key: RowKey
    # Counted up at each preemption of the row; a result with an old epoch is stale.
    epoch: int
    # Cells: the sequence id. Blocks: the row's slot.
    seq: int
    # Token ids; shape (n,), n >= 1. PLACEHOLDER only as a single token.
    tokens: Int32Array
    # Position of the first of them; positions [0, start) are in memory when the pass begins.
    start: int
    # Rows that sample from the logits of the last token: none, the row itself, or at the end of
    # a group's prefill all its rows.
    sample: tuple[RowKey, ...] = ()
    # Blocks: ids of the blocks that hold positions [0, start + n). Cells: None.
    blocks: Int32Array | None = None
    scoring: Scoring | None = None


class StepPlan(msgspec.Struct, frozen=True):
    """All that one step does."""

    # Counts up by one.
    step: int
    # Samplers that live from here on.
    open: tuple[OpenRow, ...]
    # Samplers that are not needed any more.
    close: tuple[RowKey, ...]
    # In order, before the pass.
    memory: tuple[MemoryOp, ...]
    chunks: tuple[Chunk, ...]

    @property
    def tokens(self) -> int:
        """Tokens that the pass computes."""
        return sum(len(chunk.tokens) for chunk in self.chunks)

    @property
    def scores(self) -> int:
        """Tokens that are scored."""
        return sum(len(chunk.scoring.targets) for chunk in self.chunks if chunk.scoring)


class Sampled(msgspec.Struct, frozen=True, array_like=True):
    """One token, chosen for one row."""

    key: RowKey
    token: int
    # Natural log, after penalties and bias, before temperature and filters; None if not asked.
    logprob: float | None = None
    # (token, logprob) of the best, falling.
    top: tuple[tuple[int, float], ...] = ()


class Scored(msgspec.Struct, frozen=True):
    """What came of a chunk's `Scoring`: one entry per target."""

    # The row whose chunk it was, and its epoch then.
    key: RowKey
    epoch: int
    # Position of the first target.
    start: int
    # Natural logs of the softmax over the logits as computed, shape (m,).
    logprobs: Float32Array
    # Tokens whose logits are at least as large, shape (m,).
    ranks: Int32Array
    # The best, falling, each of shape (m, top).
    top_ids: Int32Array
    top_logprobs: Float32Array


class RowFailed(msgspec.Struct, frozen=True, array_like=True):
    """One row could not be computed or sampled; the others were."""

    key: RowKey
    error: ErrorInfo


class StepResult(msgspec.Struct, frozen=True):
    """What came of a plan."""

    step: int
    sampled: tuple[Sampled, ...]
    # Seconds that the pass and the sampling took.
    seconds: float
    failed: tuple[RowFailed, ...] = ()
    # Part of `seconds` that was sampling and scoring.
    sampling_seconds: float = 0.0
    scored: tuple[Scored, ...] = ()


class Capabilities(msgspec.Struct, frozen=True):
    """What an executor can do: data that the scheduler and the KV manager plan with."""

    # "cells": any token anywhere, sequences share cells by metadata (ggml).
    # "blocks": block tables over blocks of `page` tokens.
    memory: Literal["cells", "blocks"]
    # Granularity of the prefix tree: 1 for cells, the block size for blocks.
    page: int
    # Cells, or blocks times page.
    kv_tokens: int
    # Cells: live and cached sequences together. Blocks: slots of live rows.
    sequences: int
    # Longest prompt plus output.
    context: int
    # Tokens a pass takes at most; a plan never holds more.
    max_step_tokens: int
    # Rows that may sample in one step.
    max_outputs: int
    # Prompt tokens that a step may score besides; 0 = it cannot tell their log probabilities.
    max_scores: int = 0
    # False: a sequence cannot be cut back (recurrent, sliding window): no prefix reuse.
    truncate: bool = True
    # False: a sequence cannot be copied; then a group prefills each of its rows.
    fork: bool = True
    # How many plans may be launched beyond the one not yet collected.
    run_ahead: int = 0
    # Bytes of KV per token, for reports and limits.
    kv_bytes_per_token: int = 0
    # End-of-text token ids.
    eog: frozenset[int] = frozenset()
    vocab_size: int = 0


# (rows that sample, in the order of the plan) -> packed bit masks, shape (rows, ceil(vocab / 32)),
# uint32; row i allows token t where bit t % 32 of word t // 32 is set. None = no row is masked.
Masks = npt.NDArray[np.uint32] | None


class Ticket(msgspec.Struct, frozen=True):
    """A launched plan."""

    step: int


class Executor(Protocol):
    """Computes plans. Called from the core's one thread only."""

    capabilities: Capabilities

    def launch(self, plan: StepPlan) -> Ticket:
        """Begin `plan`. Raises `ExecutorFailed` when nothing can be computed any more."""

    def sample(self, ticket: Ticket, masks: Masks) -> None:
        """Say with which masks the rows of `ticket` sample; once per ticket, before `collect`."""

    def collect(self, ticket: Ticket) -> StepResult:
        """Wait for `ticket`; tickets are collected in the order of their launch.

        A failure that concerns single rows is in `StepResult.failed`. `StepLost` says that the
        step did not happen but the executor lives: every sequence in it must be rebuilt.
        """

    def tokenizer(self) -> Tokenizer:
        """The model's vocabulary, from which masks are made."""

    def close(self) -> None:
        """Free everything. No ticket is open."""


class StepLost(Exception):
    """The pass failed; memory of the sequences in it is void, the others are intact."""

    def __init__(self, message: str, keys: Sequence[RowKey]) -> None:
        super().__init__(message)
        self.keys = tuple(keys)


class ExecutorFailed(Exception):
    """The executor cannot go on; the core ends and is started again."""
