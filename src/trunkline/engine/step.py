"""One step while it is being planned (`Draft`) and while it is under way (`Flight`)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from trunkline.engine.cost import StepBudget, attended
from trunkline.engine.group import Row
from trunkline.engine.kv import Memory
from trunkline.engine.seam import (
    PLACEHOLDER,
    Chunk,
    Int32Array,
    MemoryOp,
    OpenRow,
    RowKey,
    StepPlan,
)


class Piece:
    """What a plan does for one row: positions [start, end), and who samples after them."""

    __slots__ = ("end", "epoch", "row", "samples", "start")

    def __init__(self, row: Row, start: int, end: int, samples: tuple[Row, ...]) -> None:
        self.row = row
        self.epoch = row.epoch
        self.start = start
        self.end = end
        self.samples = samples

    @property
    def stale(self) -> bool:
        """True: the row was set back since."""
        return self.epoch != self.row.epoch


class Flight:
    """A launched plan."""

    __slots__ = ("attended", "decoding", "pieces", "prefill", "samples", "scores", "step")

    def __init__(self, step: int) -> None:
        self.step = step
        self.pieces: list[Piece] = []
        # Rows that sample.
        self.samples = 0
        # Prompt tokens that are scored.
        self.scores = 0
        # What the cost model predicts its time from: tokens, rows, KV entries.
        self.prefill = 0
        self.decoding = 0
        self.attended = 0

    def rows(self) -> Iterator[Row]:
        """Every row in it, those that only sample included; some twice."""
        for piece in self.pieces:
            yield piece.row
            if len(piece.samples) > 1 or piece.row.over:
                yield from piece.samples


class Draft:
    """A plan in the making."""

    def __init__(self, step: int, memory: Memory, budget: StepBudget, max_scores: int) -> None:
        self.budget = budget
        self._max_scores = max_scores
        self.flight = Flight(step)
        self._memory = memory
        self._unknown: Int32Array = np.array([PLACEHOLDER], np.int32)
        self._open: list[OpenRow] = []
        self._chunks: list[Chunk] = []

    @property
    def empty(self) -> bool:
        """True: there is nothing to compute and no sampler to open."""
        return not self._chunks and not self._open

    def scorable(self, row: Row, count: int) -> int:
        """How many of the next `count` tokens of `row` can be computed, given what they score."""
        scoring = row.group.scoring
        if scoring is None:
            return count
        room = self._max_scores - self.flight.scores
        return scoring.limit(row.planned, row.planned + count, room) - row.planned

    def open(self, row: Row) -> None:
        """From this plan on `row` has a sampler."""
        if not row.opened:
            row.opened = True
            self._open.append(row.sampler())

    def add(self, row: Row, count: int) -> None:
        """Compute `count` more tokens of `row`; its lease has room for them."""
        lease = row.lease
        assert lease is not None
        start, end = row.planned, row.planned + count
        decoding = row.decoding
        tokens = self._unknown if row.ahead else row.tokens[start:end]
        samples: tuple[Row, ...] = ()
        if end == row.length + row.ahead:
            samples = (row, *row.siblings) if not row.over else tuple(row.siblings)
        row.inflight += 1
        for sampling in samples:
            sampling.ahead += 1
            sampling.inflight += sampling is not row
        row.planned = end
        keys = tuple([sampling.key for sampling in samples])
        table = self._memory.table(lease, end)
        group, flight = row.group, self.flight
        scoring = group.scoring.wanted(start, end) if group.scoring is not None else None
        if scoring is not None:
            flight.scores += len(scoring.targets)
        self._chunks.append(
            Chunk(row.key, row.epoch, lease.seq, tokens, start, keys, table, scoring)
        )
        flight.pieces.append(Piece(row, start, end, samples))
        flight.samples += len(samples)
        span = self._memory.span(start)
        flight.attended += attended(count, span)
        if decoding:
            flight.decoding += 1
        else:
            flight.prefill += count
            self.budget.spend(count, span)

    def plan(self, close: list[RowKey], memory: tuple[MemoryOp, ...]) -> StepPlan:
        """The finished plan."""
        return StepPlan(
            self.flight.step, tuple(self._open), tuple(close), memory, tuple(self._chunks)
        )
