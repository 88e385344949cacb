"""Runs GGUF models on the CPU through libllama.

One context with a unified KV: any cell may belong to several of 256 sequences, so that prefix
sharing and forks are `seq_cp`, metadata only. `one_pass` says which thread does what.

Left at libllama's defaults on purpose: flash attention "auto", which is on for
CPUs; the full-size cache of sliding-window models, with which their prefixes can be cut back and
shared like any others; weight repacking.

Measured on Qwen3-0.6B in Q8_0: a launch and collect with nothing to compute costs 0.03 ms, what
surrounds pass and sampling 0.07 ms at 16 rows; `seq_cp` of 1,024 tokens 0.12 ms and `seq_rm`
0.08 ms, with 4,096 cells as with 16,384. 4,096 resident cells of other sequences cost 6 to 8 CPU ms
per row and step (94 ms without them) with flash attention, and 100 without it. Clearing a new KV
cache takes 1.2 s per GiB, the reason why the default is not larger.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np

from trunkline.core.errors import InternalError, InvalidRequest, TrunklineError
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors.cpus import physical_cores
from trunkline.engine.executors.memory import (
    MICRO_BATCH,
    Layout,
    available_memory,
    ggml_cost,
    plan_layout,
)
from trunkline.engine.executors.one_pass import OnePass, keys_of, wanted
from trunkline.engine.executors.sampling import Floats
from trunkline.engine.seam import (
    Capabilities,
    Chunk,
    CopySeq,
    ExecutorFailed,
    MemoryOp,
    StepLost,
    StepPlan,
    TrimSeq,
)
from trunkline.formats.gguf import MalformedGguf
from trunkline.formats.gguf_facts import ModelFacts, read_facts
from trunkline.libllama.context import Context, ContextOptions
from trunkline.libllama.library import LibraryUnusable, library
from trunkline.libllama.model import LoadFailed, Model
from trunkline.text.gguf_tokenizer import GgufTokenizer

log = logging.getLogger(__name__)

# Most tokens of a plan.
MAX_STEP_TOKENS = 2048
# `--kv-cache-dtype` -> ggml_type: f16, bf16, q8_0.
_KV_TYPES: Mapping[str, int] = MappingProxyType({"auto": 1, "f16": 1, "bf16": 30, "int8": 8})

_STATUS = {
    1: "there is no free cell for it",
    2: "it was aborted",
    -1: "the batch is invalid",
    -2: "memory could not be allocated",
    -3: "the computation failed",
}


class GgmlExecutor(OnePass):
    """Implements `engine.seam.Executor`. `run_ahead` is 0: one plan at a time."""

    def __init__(self, model: Model, context: Context, capabilities: Capabilities) -> None:
        super().__init__("ggml", capabilities, model.piece)
        self._model = model
        self._context = context

    def abort(self) -> None:
        """Make the pass that runs end soon; its `collect` raises `StepLost`. From any thread."""
        self._context.abort()

    def tokenizer(self) -> GgufTokenizer:
        """Over the model that is loaded; it must not be closed."""
        return GgufTokenizer(self._model)

    def close(self) -> None:
        """Stop a pass that runs, end the thread, free context and model."""
        self._context.abort()
        self._stop()
        self._context.close()
        self._model.close()

    # computing thread -----------------------------------------------------------------------

    def _pass(self, plan: StepPlan) -> int:
        for operation in plan.memory:
            self._apply(operation)
        if not plan.chunks:
            return 0
        self._fill(plan.chunks)
        return self._context.decode(plan.tokens)

    def _apply(self, operation: MemoryOp) -> None:
        limit = self.capabilities.sequences
        match operation:
            # An id out of range would end the process.
            case CopySeq(src, dst, start, end) if 0 <= src < limit and 0 <= dst < limit:
                self._context.copy(src, dst, start, end)
            case TrimSeq(seq, start, end) if 0 <= seq < limit:
                if not self._context.trim(seq, start, end):
                    raise ExecutorFailed(f"this model's memory cannot do {operation}")
            case _:
                raise ExecutorFailed(f"impossible memory operation {operation}")

    def _fill(self, chunks: tuple[Chunk, ...]) -> None:
        """Write the plan into the batch: one vectorized assignment per array."""
        context = self._context
        sizes = np.fromiter((len(chunk.tokens) for chunk in chunks), np.int32, len(chunks))
        total = int(sizes.sum())
        if total > context.batch_size:
            raise ExecutorFailed(f"a plan of {total} tokens is too big")
        ends = np.cumsum(sizes)
        begins = np.fromiter((chunk.start for chunk in chunks), np.int32, len(chunks))
        context.tokens[:total] = np.concatenate([chunk.tokens for chunk in chunks])
        context.positions[:total] = np.arange(total) + np.repeat(begins - (ends - sizes), sizes)
        context.sequences[:total] = np.repeat([chunk.seq for chunk in chunks], sizes)
        context.outputs[:total] = 0
        outputs = wanted(chunks)
        context.outputs[outputs] = 1
        if len(outputs) > context.max_outputs:
            raise ExecutorFailed(f"a plan of {len(outputs)} outputs is too big")

    # caller's thread ------------------------------------------------------------------------

    def _logits(self, count: int) -> Floats:
        return self._context.logits(count)

    def _lost(self, plan: StepPlan, status: int) -> StepLost:
        """Void the memory of all sequences in the plan, of which the state is not known."""
        reason = self._model.lib.take_errors()
        spans = {chunk.seq: self._context.span(chunk.seq) for chunk in plan.chunks}
        log.error("step %d: status %d, %s; memory held %s", plan.step, status, reason, spans)
        for sequence in spans:
            self._context.trim(sequence)
        what = _STATUS.get(status, f"libllama's status is {status}")
        return StepLost(f"step {plan.step} was lost: {what}", keys_of(plan))


def load(config: EngineConfig, on_progress: Callable[[float], None]) -> GgmlExecutor:
    """Load the GGUF file `config.model`. Raises `TrunklineError`, with what to do about it."""
    try:
        return _load(config, on_progress)
    except (MalformedGguf, LoadFailed) as error:
        raise InvalidRequest(str(error)) from error
    except LibraryUnusable as error:
        raise InternalError(str(error)) from error
    except OSError as error:
        raise InvalidRequest(f"{config.model} cannot be read: {error.strerror}") from error


def _load(config: EngineConfig, on_progress: Callable[[float], None]) -> GgmlExecutor:
    path = Path(config.model)
    facts = read_facts(path)
    if not facts.generates:
        raise _refusal(facts, "it makes embeddings or scores, not text")
    cost = ggml_cost(facts, config)
    layout = plan_layout(facts, config, available_memory(), cost)
    if layout.context > facts.context:
        log.warning(
            "%s was trained for %d tokens; beyond that its answers decay", path, facts.context
        )
    model = Model(library(), path, on_progress=on_progress)
    try:
        recurrent = _check_kind(model, facts)
        context = _make_context(model, config, layout)
    except (TrunklineError, LoadFailed):
        model.close()
        raise
    return GgmlExecutor(
        model,
        context,
        Capabilities(
            memory="cells",
            page=1,
            kv_tokens=context.cells,
            sequences=layout.sequences,
            context=layout.context,
            max_step_tokens=context.batch_size,
            max_outputs=layout.sequences,
            max_scores=layout.scores,
            truncate=not recurrent,
            kv_bytes_per_token=cost.kv,
            eog=model.eog(),
            vocab_size=model.vocab_size,
        ),
    )


def _check_kind(model: Model, facts: ModelFacts) -> bool:
    """Whether the model is recurrent, in part or all. Raises `InvalidRequest`."""
    call, pointer = model.lib.call, model.pointer
    if call.llama_model_has_encoder(pointer) or not call.llama_model_has_decoder(pointer):
        raise _refusal(facts, "it has an encoder")
    if call.llama_model_is_diffusion(pointer):
        raise _refusal(facts, "it is a diffusion model")
    return bool(call.llama_model_is_recurrent(pointer) or call.llama_model_is_hybrid(pointer))


def _refusal(facts: ModelFacts, why: str) -> InvalidRequest:
    return InvalidRequest(
        f"{facts.files[0]} ({facts.architecture}) cannot be served: {why}. "
        "Decoder-only text models can."
    )


def _make_context(model: Model, config: EngineConfig, layout: Layout) -> Context:
    context = Context(
        model,
        ContextOptions(
            cells=layout.cells,
            batch=max(layout.sequences, min(MAX_STEP_TOKENS, layout.cells)),
            ubatch=MICRO_BATCH,
            kv_type=_KV_TYPES[config.kv_cache_dtype],
            sequences=layout.sequences,
            outputs=layout.outputs,
            threads=config.threads or physical_cores(),
        ),
    )
    # One pass now: it pages the weights in and sets the graph up, which else the first request
    # would pay for.
    context.tokens[0] = 0
    context.outputs[0] = 1
    if status := context.decode(1):
        context.close()
        raise LoadFailed(f"{model.path}: the first pass failed with status {status}")
    context.clear()
    return context
