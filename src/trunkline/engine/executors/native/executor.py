"""Runs models with our own kernels: block tables over a paged KV cache, one call per step.

A row's logits are the same bits whoever shares its batch and however its prompt was cut, so that
seeds reproduce: every sum has one order, which no other row and no number of threads changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from trunkline.engine.executors.native.vocabulary import Vocabulary
from trunkline.engine.executors.one_pass import OnePass, keys_of, wanted
from trunkline.engine.executors.sampling import Floats, PlainDraw
from trunkline.engine.seam import (
    Capabilities,
    Chunk,
    CopyBlock,
    ExecutorFailed,
    MemoryOp,
    RowKey,
    Sampled,
    StepLost,
    StepPlan,
)
from trunkline.libnative.model import NativeFailed, NativeModel
from trunkline.libnative.structs import INTS, Draw
from trunkline.text.gguf_tokenizer import GgufTokenizer

Int32s = npt.NDArray[np.int32]


class NativeExecutor(OnePass):
    """Implements `engine.seam.Executor`. `run_ahead` is 0: one plan at a time."""

    def __init__(
        self, model: NativeModel, vocabulary: Vocabulary, capabilities: Capabilities
    ) -> None:
        super().__init__("native", capabilities, vocabulary.piece)
        self._model = model
        self._vocabulary = vocabulary
        # Written by a pass, read until the next one; grows with the largest step.
        self._rows: Floats = np.empty((1, capabilities.vocab_size), np.float32)

    def abort(self) -> None:
        """Make the pass that runs end soon; its `collect` raises `StepLost`. From any thread."""
        self._model.abort()

    def tokenizer(self) -> GgufTokenizer:
        """Over the vocabulary that is loaded; it must not be closed."""
        return GgufTokenizer(self._vocabulary.model())

    def close(self) -> None:
        """Stop a pass that runs, end the threads, free everything."""
        self._model.abort()
        self._stop()
        self._model.close()
        self._vocabulary.close()

    # computing thread -----------------------------------------------------------------------

    def _pass(self, plan: StepPlan) -> int:
        if not plan.chunks and not plan.memory:
            return 0
        limits = self.capabilities
        outputs = wanted(plan.chunks)
        if plan.tokens > limits.max_step_tokens:
            raise ExecutorFailed(f"a plan of {plan.tokens} tokens is too big")
        if len(outputs) > limits.max_outputs + limits.max_scores:
            raise ExecutorFailed(f"a plan of {len(outputs)} outputs is too big")
        if len(outputs) > len(self._rows):
            self._rows = np.empty((len(outputs), limits.vocab_size), np.float32)
        arrays = arrays_of(plan.chunks, plan.memory, outputs)
        try:
            return self._model.step(arrays, self._rows)
        except NativeFailed as error:
            raise ExecutorFailed(f"step {plan.step}: {error}") from error

    # caller's thread ------------------------------------------------------------------------

    def _logits(self, count: int) -> Floats:
        return self._rows[:count]

    def _draw(self, rows: Sequence[tuple[RowKey, Floats]]) -> Mapping[int, Sampled]:
        """All at once, on the engine's threads: 0.1 ms instead of 0.6 for a row of 151,936."""
        places = [(place, *row, self._sampler.plain_draw(row[0])) for place, row in enumerate(rows)]
        plain = [(place, key, x, draw) for place, key, x, draw in places if draw is not None]
        if not plain:
            return {}
        most = max(draw.logprobs or 0 for _, _, _, draw in plain)
        told = np.empty((len(plain), most), np.int32)
        draws = (Draw * len(plain))(
            *(_draw_of(x, draw, told[row]) for row, (_, _, x, draw) in enumerate(plain))
        )
        self._model.draw(draws)
        # What is no number, the sampler says in words.
        return {
            place: self._accept(key, x, one, told[row])
            for row, ((place, key, x, _), one) in enumerate(zip(plain, draws, strict=True))
            if one.token >= 0
        }

    def _accept(self, key: RowKey, logits: Floats, drawn: Draw, told: Int32s) -> Sampled:
        token = int(drawn.token)
        if drawn.told < 0:
            return self._sampler.accept(key, token)
        normalizer = float(drawn.normalizer)
        top = [(int(one), float(logits[one]) - normalizer) for one in told[: drawn.told]]
        return self._sampler.accept(key, token, float(logits[token]) - normalizer, tuple(top))

    def _lost(self, plan: StepPlan, status: int) -> StepLost:
        return StepLost(f"step {plan.step} was lost: it was aborted", keys_of(plan))


def _draw_of(logits: Floats, draw: PlainDraw, told: Int32s) -> Draw:
    """`tln_draw`; `told` has room for the tokens whose log probabilities are wanted."""
    inverse = 1.0 / draw.temperature if draw.temperature else 0.0
    return Draw(
        logits=logits.ctypes.data,
        inverse_temperature=inverse,
        top_p=draw.top_p,
        min_p=draw.min_p,
        first=draw.first,
        second=draw.second,
        told_tokens=told.ctypes.data_as(INTS),
        told=-1 if draw.logprobs is None else draw.logprobs,
    )


def arrays_of(
    chunks: Sequence[Chunk], memory: Sequence[MemoryOp], outputs: Sequence[int]
) -> dict[str, Int32s]:
    """The arrays of `tln_step`. Raises `ExecutorFailed` for what blocks cannot do."""
    tables = [_table(chunk) for chunk in chunks]
    sizes = np.fromiter(map(len, tables), np.int32, len(tables))
    copies = np.array([_copy(operation) for operation in memory], np.int32).reshape(-1, 2)
    count = len(chunks)
    return {
        "ids": _joined([chunk.tokens for chunk in chunks]),
        "chunk_tokens": np.fromiter((len(chunk.tokens) for chunk in chunks), np.int32, count),
        "chunk_start": np.fromiter((chunk.start for chunk in chunks), np.int32, count),
        "chunk_table": np.cumsum(sizes, dtype=np.int32) - sizes,
        "tables": _joined(tables),
        "output_tokens": np.array(outputs, np.int32),
        "copy_from": np.ascontiguousarray(copies[:, 0]),
        "copy_to": np.ascontiguousarray(copies[:, 1]),
    }


def _joined(parts: Sequence[Int32s]) -> Int32s:
    if not parts:
        return np.empty(0, np.int32)
    return np.ascontiguousarray(np.concatenate(parts), np.int32)


def _table(chunk: Chunk) -> Int32s:
    if chunk.blocks is None:
        raise ExecutorFailed(f"row {chunk.key} has no block table")
    return chunk.blocks


def _copy(operation: MemoryOp) -> tuple[int, int]:
    if not isinstance(operation, CopyBlock):
        raise ExecutorFailed(f"impossible memory operation {operation}")
    return operation.src, operation.dst
