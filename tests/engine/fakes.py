"""Executors that compute nothing and check everything: exact memory, and a hash for a model.

The KV entry of a token is the hash of its whole prefix, chained through memory as it really lies
there: any mix-up of cells or blocks changes every later token. The token that a row samples is a
function of that hash, of the row's seed and of how often its sampler has drawn, so that a sample
that is lost, repeated or taken by another row shows as well. `alone` says what is right.
"""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from trunkline.core.errors import ErrorInfo
from trunkline.core.types import SamplingParams
from trunkline.engine.seam import (
    PLACEHOLDER,
    Capabilities,
    Chunk,
    CopyBlock,
    CopySeq,
    MemoryOp,
    OpenRow,
    RowFailed,
    RowKey,
    Sampled,
    Scored,
    Scoring,
    StepLost,
    StepPlan,
    StepResult,
    Ticket,
    TrimSeq,
)

Make = Callable[..., Capabilities]

VOCAB = 50
EOG = 49


def chain(above: int, token: int) -> int:
    """The KV entry of `token` after the prefix whose last entry is `above`."""
    return zlib.crc32(token.to_bytes(4, "little"), above)


def choose(entry: int, seed: int, draw: int) -> int:
    """The token that a sampler draws."""
    return zlib.crc32(b"%d %d %d" % (entry, seed, draw)) % VOCAB


def score(entry: int, target: int) -> float:
    """The log probability of `target` behind a prefix whose last entry is `entry`."""
    return -(chain(entry, target) % 4096) / 16


def prompt_scores(prompt: Sequence[int], start: int) -> list[float]:
    """Those of all tokens behind position `start`."""
    entry, scores = 0, []
    for position, token in enumerate(prompt):
        if position > start:
            scores.append(score(entry, token))
        entry = chain(entry, token)
    return scores


def alone(opened: OpenRow, eog: frozenset[int], context: int) -> list[int]:
    """All output of a row when nobody disturbs it."""
    params = opened.params
    entry = 0
    for token in opened.prompt.tolist():
        entry = chain(entry, token)
    most = min(params.max_tokens or context, context - len(opened.prompt))
    ends = set(params.stop_token_ids) | (set() if params.ignore_eos else eog)
    output: list[int] = []
    while len(output) < most:
        token = choose(entry, opened.seed, len(output))
        output.append(token)
        if token in ends and len(output) > params.min_tokens:
            break
        entry = chain(entry, token)
    return output


@dataclass
class Cell:
    """One physical cell."""

    position: int
    entry: int
    sequences: set[int] = field(default_factory=set)


class FakeExecutor:
    """What both fakes share: samplers, tickets, failures on demand."""

    def __init__(self, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        # Every sampler ever opened, for `alone`.
        self.opened: dict[RowKey, OpenRow] = {}
        self.open: dict[RowKey, int] = {}
        self.plans: list[StepPlan] = []
        self.lose_next = False
        self.fail_next: RowKey | None = None
        self.seconds = 0.01
        self._results: deque[StepResult | StepLost] = deque()
        self._launched: deque[StepPlan] = deque()
        # Rows that were lost or failed, by epoch: what is launched for them before the scheduler
        # knows is void.
        self._void: dict[RowKey, int] = {}
        self._last: dict[RowKey, int] = {}
        self._step = 0

    def launch(self, plan: StepPlan) -> Ticket:
        """Do all of it at once; that is what the order of plans allows."""
        capabilities = self.capabilities
        assert plan.step == self._step, "steps count up by one"
        self._step += 1
        assert len(self._launched) <= capabilities.run_ahead, "too far ahead"
        assert plan.tokens <= capabilities.max_step_tokens
        assert sum(len(chunk.sample) for chunk in plan.chunks) <= capabilities.max_outputs
        assert plan.scores <= capabilities.max_scores
        assert plan.chunks or plan.close or plan.memory or plan.open, "an empty plan"
        for opened in plan.open:
            assert opened.key not in self.opened, "opened twice"
            self.opened[opened.key] = opened
            self.open[opened.key] = 0
        for operation in plan.memory:
            self.operate(operation)
        self.begin(plan)
        lost, self.lose_next = self.lose_next and bool(plan.chunks), False
        last, self._last = self._last, {}
        sampled: list[Sampled] = []
        failed: list[RowFailed] = []
        scored: list[Scored] = []
        for chunk in plan.chunks:
            if self._void.get(chunk.key) == chunk.epoch:
                continue
            if lost:
                self._void[chunk.key] = chunk.epoch
                self.destroy(chunk)
                continue
            tokens = [last[chunk.key] if t == PLACEHOLDER else t for t in chunk.tokens.tolist()]
            entry = self.compute(chunk, tokens)
            if chunk.scoring is not None:
                scored.append(self.score(chunk, chunk.scoring))
            for key in chunk.sample:
                if key == self.fail_next:
                    failed.append(RowFailed(key, ErrorInfo("internal", "on demand")))
                    # What was launched for it on top of this one has no result either.
                    self._void[key] = chunk.epoch
                    self.fail_next = None
                    continue
                token = choose(entry, self.opened[key].seed, self.open[key])
                self.open[key] += 1
                self._last[key] = token
                sampled.append(Sampled(key, token))
        for key in plan.close:
            assert key not in self._last, "closed in a plan that samples it"
            del self.open[key]
        self.finish(plan)
        self._launched.append(plan)
        self.plans.append(plan)
        if lost:
            self._results.append(StepLost("on demand", [chunk.key for chunk in plan.chunks]))
        else:
            self._results.append(
                StepResult(
                    plan.step, tuple(sampled), self.seconds, tuple(failed), scored=tuple(scored)
                )
            )
        return Ticket(plan.step)

    def score(self, chunk: Chunk, scoring: Scoring) -> Scored:
        """Out of memory as it lies there."""
        first, top = chunk.start + scoring.first, scoring.top
        count = len(scoring.targets)
        assert 1 <= count <= len(chunk.tokens) - scoring.first, "a score without logits"
        values = [
            score(self.entry(chunk, first + index), target)
            for index, target in enumerate(scoring.targets.tolist())
        ]
        ids = np.tile(np.arange(top, dtype=np.int32), (count, 1))
        return Scored(
            chunk.key,
            chunk.epoch,
            first + 1,
            np.array(values, np.float32),
            scoring.targets + 1,
            ids,
            -ids.astype(np.float32),
        )

    def collect(self, ticket: Ticket) -> StepResult:
        """The oldest ticket."""
        plan = self._launched.popleft()
        assert plan.step == ticket.step
        result = self._results.popleft()
        if isinstance(result, StepLost):
            raise result
        return result

    @property
    def under_way(self) -> Sequence[StepPlan]:
        """Plans that are launched and not collected."""
        return tuple(self._launched)

    def operate(self, operation: MemoryOp) -> None:
        """One memory operation."""
        raise NotImplementedError

    def begin(self, plan: StepPlan) -> None:
        """Checks before the pass."""

    def compute(self, chunk: Chunk, tokens: list[int]) -> int:
        """Store the chunk's KV; returns the entry of its last token."""
        raise NotImplementedError

    def entry(self, chunk: Chunk, position: int) -> int:
        """The KV entry at a position of the chunk's row."""
        raise NotImplementedError

    def destroy(self, chunk: Chunk) -> None:
        """The memory of this chunk's row is void."""
        raise NotImplementedError

    def finish(self, plan: StepPlan) -> None:
        """Checks after the pass."""

    def used(self) -> int:
        """Tokens that physical memory holds, where that is exact."""
        raise NotImplementedError


class FakeCells(FakeExecutor):
    """Cells and sequences with the meaning that libllama gives them."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        # sequence -> position -> cell
        self.sequences: dict[int, dict[int, Cell]] = {
            seq: {} for seq in range(capabilities.sequences)
        }
        self.cells: set[int] = set()
        self.most_cells = 0
        self.most_sequences = 0

    def operate(self, operation: MemoryOp) -> None:
        """seq_cp shares cells; seq_rm frees those that nobody holds any more."""
        if isinstance(operation, CopySeq):
            assert self.capabilities.fork
            source, target = self.sequences[operation.src], self.sequences[operation.dst]
            for position in range(operation.start, operation.end):
                assert position not in target, "a position would be in a sequence twice"
                cell = target[position] = source[position]
                cell.sequences.add(operation.dst)
            if not self.capabilities.truncate:
                whole = (operation.start, operation.end) == (0, len(source))
                assert whole, "a partial copy"
        elif isinstance(operation, TrimSeq):
            held = self.sequences[operation.seq]
            end = operation.end if operation.end >= 0 else 1 << 30
            if not self.capabilities.truncate:
                assert operation.start == 0, "a partial cut"
                assert end > len(held), "a partial cut"
            for position in [p for p in held if operation.start <= p < end]:
                cell = held.pop(position)
                cell.sequences.discard(operation.seq)
                if not cell.sequences:
                    self.cells.discard(id(cell))
        else:
            raise AssertionError("blocks among cells")

    def begin(self, plan: StepPlan) -> None:
        """No sequence twice in a pass."""
        seqs = [chunk.seq for chunk in plan.chunks]
        assert len(set(seqs)) == len(seqs)

    def compute(self, chunk: Chunk, tokens: list[int]) -> int:
        """Add cells behind what the sequence holds."""
        held = self.sequences[chunk.seq]
        assert chunk.blocks is None
        assert sorted(held) == list(range(chunk.start)), "memory and plan disagree"
        entry = held[chunk.start - 1].entry if chunk.start else 0
        for position, token in enumerate(tokens, chunk.start):
            entry = chain(entry, token)
            cell = held[position] = Cell(position, entry, {chunk.seq})
            self.cells.add(id(cell))
        return entry

    def entry(self, chunk: Chunk, position: int) -> int:
        """Of the cell."""
        return self.sequences[chunk.seq][position].entry

    def destroy(self, chunk: Chunk) -> None:
        """Its sequence holds nothing any more."""
        self.operate_trim(chunk.seq)

    def operate_trim(self, seq: int) -> None:
        """Empty a sequence."""
        for cell in self.sequences[seq].values():
            cell.sequences.discard(seq)
            if not cell.sequences:
                self.cells.discard(id(cell))
        self.sequences[seq].clear()

    def finish(self, plan: StepPlan) -> None:
        """The pass fits."""
        used = sum(1 for held in self.sequences.values() if held)
        self.most_cells = max(self.most_cells, len(self.cells))
        self.most_sequences = max(self.most_sequences, used)
        assert len(self.cells) <= self.capabilities.kv_tokens, "out of cells"

    def used(self) -> int:
        """Cells in use."""
        return len(self.cells)


class FakeBlocks(FakeExecutor):
    """Block tables. No block that a plan under way refers to may be written by another row."""

    def __init__(self, capabilities: Capabilities) -> None:
        super().__init__(capabilities)
        page = capabilities.page
        # block -> entry of each of its tokens; -1 = nothing.
        self.blocks = np.full((capabilities.kv_tokens // page, page), -1, np.int64)
        self.most_cells = 0
        self.most_sequences = 0

    def operate(self, operation: MemoryOp) -> None:
        """Copy a block."""
        assert isinstance(operation, CopyBlock), "cells among blocks"
        for plan in self._launched:
            for chunk in plan.chunks:
                assert chunk.blocks is not None
                assert operation.dst not in chunk.blocks, "copied over a block in use"
        self.blocks[operation.dst] = self.blocks[operation.src]

    def begin(self, plan: StepPlan) -> None:
        """Nobody writes what somebody else reads, in this plan or in those under way."""
        page = self.capabilities.page
        seqs = [chunk.seq for chunk in plan.chunks]
        assert len(set(seqs)) == len(seqs)
        assert all(0 <= seq < self.capabilities.sequences for seq in seqs)
        readers: dict[int, set[RowKey]] = {}
        for other in (*self._launched, plan):
            for chunk in other.chunks:
                assert chunk.blocks is not None
                for block in chunk.blocks.tolist():
                    readers.setdefault(block, set()).add(chunk.key)
        for chunk in plan.chunks:
            assert chunk.blocks is not None
            end = chunk.start + len(chunk.tokens)
            assert len(chunk.blocks) == -(-end // page), "the table has the wrong length"
            assert len(set(chunk.blocks.tolist())) == len(chunk.blocks)
            for block in chunk.blocks[chunk.start // page :].tolist():
                assert readers[block] == {chunk.key}, "wrote a block that another row uses"
        self.most_sequences = max(self.most_sequences, len(seqs))

    def compute(self, chunk: Chunk, tokens: list[int]) -> int:
        """Write the entries where the table says."""
        page = self.capabilities.page
        assert chunk.blocks is not None
        entry = 0
        if chunk.start:
            last = chunk.start - 1
            entry = int(self.blocks[chunk.blocks[last // page], last % page])
            assert entry >= 0, "attends to nothing"
        for position, token in enumerate(tokens, chunk.start):
            entry = chain(entry, token)
            self.blocks[chunk.blocks[position // page], position % page] = entry
        return entry

    def entry(self, chunk: Chunk, position: int) -> int:
        """Where the table says."""
        assert chunk.blocks is not None
        page = self.capabilities.page
        return int(self.blocks[chunk.blocks[position // page], position % page])

    def destroy(self, chunk: Chunk) -> None:
        """What the lost pass would have written is garbage."""
        page = self.capabilities.page
        assert chunk.blocks is not None
        for position in range(chunk.start, chunk.start + len(chunk.tokens)):
            self.blocks[chunk.blocks[position // page], position % page] = -1


def fake(capabilities: Capabilities) -> FakeExecutor:
    """The fake that has `capabilities`."""
    return {"cells": FakeCells, "blocks": FakeBlocks}[capabilities.memory](capabilities)


def cells(**changes: object) -> Capabilities:
    """What ggml looks like, small."""
    return _capabilities({"memory": "cells", "page": 1, "run_ahead": 0}, changes)


def blocks(**changes: object) -> Capabilities:
    """What a block executor that runs one step ahead looks like, small."""
    return _capabilities({"memory": "blocks", "page": 4, "run_ahead": 1}, changes)


def _capabilities(kind: dict[str, object], changes: dict[str, object]) -> Capabilities:
    values: dict[str, object] = {
        "kv_tokens": 256,
        "sequences": 16,
        "context": 128,
        "max_step_tokens": 64,
        "max_outputs": 16,
        "max_scores": 8,
        "eog": frozenset({EOG}),
        "vocab_size": VOCAB,
    }
    return Capabilities(**{**values, **kind, **changes})  # type: ignore[arg-type]


def greedy(max_tokens: int = 8, **changes: object) -> SamplingParams:
    """Parameters with `max_tokens` filled in, as the front does."""
    return SamplingParams(max_tokens=max_tokens, **changes)  # type: ignore[arg-type]


def endless(tokens: int) -> SamplingParams:
    """Exactly `tokens` output tokens."""
    return greedy(tokens, ignore_eos=True)


def long(start: int, length: int) -> list[int]:
    """A prompt that shares nothing with one of another `start`."""
    return [(start * 1000 + i) % 977 for i in range(length)]
