"""Runs GGUF models on the CPU through libllama.

One context with a unified KV: any cell may belong to several of 256 sequences, so that prefix
sharing and forks are `seq_cp`, metadata only. Passes run on one thread of their own, which holds
no GIL meanwhile; sampling runs on the caller's thread in `collect`.

Left at libllama's defaults on purpose: f16 keys and values; flash attention "auto", which is on for
CPUs; the full-size cache of sliding-window models, with which their prefixes can be cut back and
shared like any others; weight repacking.

Measured on Qwen3-0.6B in Q8_0: a launch and collect with nothing to compute costs 0.03 ms, what
surrounds pass and sampling 0.07 ms at 16 rows; `seq_cp` of 1,024 tokens 0.12 ms and `seq_rm`
0.08 ms, with 4,096 cells as with 16,384. 4,096 resident cells of other sequences cost 6 to 8 CPU ms
per row and step (94 ms without them) with flash attention, and 100 without it. Clearing a new KV
cache takes 1.2 s per GiB, the reason why the default is not larger.
"""

from __future__ import annotations

import itertools
import logging
import os
import queue
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from trunkline.core.errors import ErrorInfo, InternalError, InvalidRequest, TrunklineError
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors.ggml_memory import Layout, available_memory, plan_layout
from trunkline.engine.executors.ggml_sampling import Floats, Sampler, Unsampleable
from trunkline.engine.seam import (
    Capabilities,
    Chunk,
    CopySeq,
    ExecutorFailed,
    Masks,
    MemoryOp,
    RowFailed,
    RowKey,
    Sampled,
    Scored,
    StepLost,
    StepPlan,
    StepResult,
    Ticket,
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
# Tokens computed at once.
UBATCH = 512

_NONE: Floats = np.empty((0, 0), np.float32)

_STATUS = {
    1: "there is no free cell for it",
    2: "it was aborted",
    -1: "the batch is invalid",
    -2: "memory could not be allocated",
    -3: "the computation failed",
}


class GgmlExecutor:
    """Implements `engine.seam.Executor`. `run_ahead` is 0: one plan at a time."""

    def __init__(self, model: Model, context: Context, capabilities: Capabilities) -> None:
        self.capabilities = capabilities
        self._model = model
        self._context = context
        self._sampler = Sampler(model.vocab_size, capabilities.eog, model.piece)
        self._plan: StepPlan | None = None
        self._masks: Masks = None
        self._begun = 0.0
        self._work: queue.SimpleQueue[StepPlan | None] = queue.SimpleQueue()
        # Status of `Context.decode`, or what was raised instead.
        self._done: queue.SimpleQueue[int | ExecutorFailed] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._compute, name="ggml", daemon=True)
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
        outputs = [self._outputs(chunk) for chunk in plan.chunks]
        logits = self._context.logits(sum(outputs)) if any(outputs) else _NONE
        # Where the logits of each chunk begin; those that it samples from are its last.
        begins = [0, *itertools.accumulate(outputs)]
        sampled, failed = self._sample_rows(plan, logits, begins)
        scored = self._score(plan, logits, begins)
        end = time.perf_counter()
        took = end - self._begun
        return StepResult(plan.step, sampled, took, failed, end - computed, scored)

    def abort(self) -> None:
        """Make the pass that runs end soon; its `collect` raises `StepLost`. From any thread."""
        self._context.abort()

    def tokenizer(self) -> GgufTokenizer:
        """Over the model that is loaded; it must not be closed."""
        return GgufTokenizer(self._model)

    def close(self) -> None:
        """Stop a pass that runs, end the thread, free context and model."""
        self._context.abort()
        self._work.put(None)
        self._thread.join()
        self._context.close()
        self._model.close()

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
        wanted = np.fromiter((bool(chunk.sample) for chunk in chunks), np.int8, len(chunks))
        if total > context.batch_size:
            raise ExecutorFailed(f"a plan of {total} tokens is too big")
        ends = np.cumsum(sizes)
        begins = np.fromiter((chunk.start for chunk in chunks), np.int32, len(chunks))
        context.tokens[:total] = np.concatenate([chunk.tokens for chunk in chunks])
        context.positions[:total] = np.arange(total) + np.repeat(begins - (ends - sizes), sizes)
        context.sequences[:total] = np.repeat([chunk.seq for chunk in chunks], sizes)
        context.outputs[:total] = 0
        context.outputs[ends - 1] = wanted
        for chunk, end in zip(chunks, ends.tolist(), strict=True):
            if chunk.scoring is not None:
                first = end - len(chunk.tokens) + chunk.scoring.first
                context.outputs[first : first + len(chunk.scoring.targets)] = 1
        outputs = int(np.count_nonzero(context.outputs[:total]))
        if outputs > context.max_outputs:
            raise ExecutorFailed(f"a plan of {outputs} outputs is too big")

    # caller's thread ------------------------------------------------------------------------

    @staticmethod
    def _outputs(chunk: Chunk) -> int:
        """How many of its tokens have logits."""
        if chunk.scoring is None:
            return int(bool(chunk.sample))
        scores = len(chunk.scoring.targets)
        last = chunk.scoring.first + scores == len(chunk.tokens)
        return scores + (bool(chunk.sample) and not last)

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
        row = 0
        for chunk, end in zip(plan.chunks, begins[1:], strict=True):
            for key in chunk.sample:
                mask = None if self._masks is None else self._masks[row]
                row += 1
                try:
                    sampled.append(self._sampler.sample(key, logits[end - 1], mask))
                except Unsampleable as error:
                    failed.append(RowFailed(key, ErrorInfo(InternalError.kind, str(error))))
        return tuple(sampled), tuple(failed)

    def _lost(self, plan: StepPlan, status: int) -> StepLost:
        """Void the memory of all sequences in the plan, of which the state is not known."""
        reason = self._model.lib.take_errors()
        spans = {chunk.seq: self._context.span(chunk.seq) for chunk in plan.chunks}
        log.error("step %d: status %d, %s; memory held %s", plan.step, status, reason, spans)
        for sequence in spans:
            self._context.trim(sequence)
        keys: dict[RowKey, None] = {}
        for chunk in plan.chunks:
            keys.update(dict.fromkeys((chunk.key, *chunk.sample)))
        what = _STATUS.get(status, f"libllama's status is {status}")
        return StepLost(f"step {plan.step} was lost: {what}", tuple(keys))


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
    layout = plan_layout(facts, config, available_memory(), UBATCH)
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
            kv_bytes_per_token=facts.kv_bytes_per_token,
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
            ubatch=UBATCH,
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


def physical_cores() -> int:
    """Physical cores that this process may run on, and a control group's quota allows."""
    usable = os.sched_getaffinity(0)
    cores = set()
    for cpu in usable:
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.add(siblings.read_text() if siblings.exists() else str(cpu))
    return max(1, min(len(cores), _quota()))


def _quota() -> int:
    """CPUs that the control group's quota amounts to, rounded up; large where there is none."""
    file = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = (file.read_text() if file.exists() else "max 100000").partition(" ")
    return len(os.sched_getaffinity(0)) if quota == "max" else -(-int(quota) // int(period))
