"""Drives executors that really compute, with and without the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np

from tests.engine.harness import Harness
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import ggml, native
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.seam import (
    Chunk,
    Masks,
    MemoryOp,
    OpenRow,
    RowKey,
    StepPlan,
    StepResult,
    Ticket,
    TrimSeq,
)

KvType = Literal["auto", "f16", "bf16", "int8"]
Real = ggml.GgmlExecutor | native.NativeExecutor


def load_real(
    name: str, path: Path, *, threads: int = 1, kv_memory: int = 0, kv: KvType = "auto"
) -> Real:
    """The executor `name` with the model at `path`."""
    config = EngineConfig(
        name="tiny", model=str(path), threads=threads, kv_memory=kv_memory, kv_cache_dtype=kv
    )
    if name == "native":
        return native.load(config, lambda _: None)
    return ggml.load(config, lambda _: None)


class Driver:
    """Plans steps by hand, for cells and blocks; sequence n has the blocks from n * `each` on."""

    def __init__(self, executor: Real, each: int = 8) -> None:
        self.executor = executor
        self.each = each
        self._step = 0
        self._group = 0

    @property
    def blocks(self) -> bool:
        return self.executor.capabilities.memory == "blocks"

    def key(self) -> RowKey:
        self._group += 1
        return RowKey(self._group, 0)

    def chunk(
        self,
        key: RowKey,
        seq: int,
        tokens: Sequence[int],
        start: int,
        *,
        sample: bool = False,
        table: Sequence[int] | None = None,
    ) -> Chunk:
        """`table`: blocks other than the sequence's own."""
        ids = np.array(tokens, np.int32)
        found: np.ndarray | None = None
        if self.blocks:
            count = -(-(start + len(ids)) // self.executor.capabilities.page)
            assert table is not None or count <= self.each
            first = seq * self.each
            found = np.array(list(table or range(first, first + count))[:count], np.int32)
        return Chunk(key, 0, seq, ids, start, (key,) if sample else (), found)

    def step(
        self,
        chunks: Sequence[Chunk] = (),
        rows: Sequence[OpenRow] = (),
        memory: Sequence[MemoryOp] = (),
        close: Sequence[RowKey] = (),
        masks: Masks = None,
    ) -> StepResult:
        self._step += 1
        plan = StepPlan(self._step, tuple(rows), tuple(close), tuple(memory), tuple(chunks))
        ticket = self.executor.launch(plan)
        self.executor.sample(ticket, masks)
        return self.executor.collect(ticket)

    def logits(self, count: int = 1) -> np.ndarray:
        """Of the last step; a copy."""
        return self.executor._logits(count).copy()

    def alone(
        self,
        row: OpenRow,
        seq: int,
        context: int,
        said: Sequence[int] = (),
        rounding: float = 0.0,
    ) -> list[int]:
        """All output of a row that has the executor for itself.

        `said`: what it said among others; followed where its token's logit is less than
        `rounding` below that of the token sampled here.
        """
        params, eog = row.params, self.executor.capabilities.eog
        ends = set(params.stop_token_ids) | (set() if params.ignore_eos else set(eog))
        most = min(params.max_tokens or context, context - len(row.prompt))
        if not self.blocks:
            self.step(memory=[TrimSeq(seq, 0)])
        output: list[int] = []
        tokens, start = row.prompt.tolist(), 0
        while len(output) < most and not (
            output and output[-1] in ends and len(output) > params.min_tokens
        ):
            chunk = self.chunk(row.key, seq, tokens, start, sample=True)
            result = self.step([chunk], [] if output else [row])
            start += len(tokens)
            tokens = [result.sampled[0].token]
            if rounding and len(output) < len(said) and tokens != [said[len(output)]]:
                logits, other = self.logits()[0], said[len(output)]
                if logits[tokens[0]] - logits[other] < rounding:
                    tokens = [other]
            output += tokens
        self.step(close=[row.key])
        return output


class _Watched:
    """An executor as `Harness` wants it: masks at once, and a record of samplers."""

    def __init__(self, executor: Real) -> None:
        self.executor = executor
        self.capabilities = executor.capabilities
        self.opened: dict[RowKey, OpenRow] = {}
        self.open: set[RowKey] = set()
        self.plans: list[StepPlan] = []

    def launch(self, plan: StepPlan) -> Ticket:
        for row in plan.open:
            self.opened[row.key] = row
            self.open.add(row.key)
        self.open -= set(plan.close)
        self.plans.append(plan)
        return self.executor.launch(plan)

    def collect(self, ticket: Ticket) -> StepResult:
        self.executor.sample(ticket, None)
        return self.executor.collect(ticket)


class RealHarness(Harness):
    """A scheduler over an executor that computes; what is right, a second one says.

    llama.cpp's logits depend on who shares the batch, by rounding. So of two tokens that are as
    good as equal it may take either, and goes on from there: each token has to be the best one
    after those before it, or as good as the best.
    """

    # Of 400 random prompts, chunks and company moved the tiny model's logits by 0.013 (median) to
    # 0.2 (most); one wrong token in the prompt puts the best one 4 behind (median).
    ROUNDING = 0.5

    def __init__(self, executor: Real, second: Real, limits: SchedulerLimits | None = None) -> None:
        super().__init__(executor.capabilities, limits)
        self.executor = _Watched(executor)  # type: ignore[assignment]
        self._second = Driver(second, each=16)

    def alone(self, key: RowKey) -> list[int]:
        """The row's output without any other request."""
        opened = self.executor.opened[key]
        if self._second.blocks:
            return self._second.alone(opened, 0, self.scheduler.context)
        said = [output.token for output in self.outputs.get(key, [])]
        return self._second.alone(opened, 0, self.scheduler.context, said, self.ROUNDING)
