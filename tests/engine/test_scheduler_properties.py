"""Whatever users, memory and executor do: nothing leaks, nothing starves, outputs are right.

The fakes check physical memory at every step, `Harness` checks the stream of outputs, and at the
end every row must have said exactly what it says alone.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from tests.engine.fakes import blocks, cells
from tests.engine.harness import Harness
from trunkline.core.errors import ErrorInfo
from trunkline.core.types import SamplingParams
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.seam import Capabilities, RowKey

# Prompts begin with parts of these, so that many share prefixes of many lengths.
STEMS = ([1] * 40, [1] * 12 + [2] * 30, [3, 1, 2] * 12)


@st.composite
def capabilities(draw: st.DrawFn) -> Capabilities:
    """Small enough that cells, sequences and seats all run short."""
    common = {
        "context": draw(st.sampled_from([24, 48, 96])),
        "kv_tokens": draw(st.sampled_from([32, 48, 64, 100, 256])),
        "max_step_tokens": draw(st.sampled_from([4, 16, 64])),
        "max_outputs": draw(st.integers(1, 8)),
        "max_scores": draw(st.sampled_from([1, 3, 64])),
        "sequences": draw(st.sampled_from([2, 3, 5, 8, 16])),
        "fork": draw(st.sampled_from([True, True, False])),
        "truncate": draw(st.sampled_from([True, True, True, False])),
    }
    if draw(st.booleans()):
        return cells(**common)
    return blocks(
        **common,
        page=draw(st.sampled_from([1, 2, 4, 8])),
        run_ahead=draw(st.sampled_from([0, 1, 1])),
    )


limits = st.builds(
    SchedulerLimits,
    max_num_seqs=st.integers(1, 8),
    max_queue=st.sampled_from([1, 8, 100]),
    max_step_seconds=st.sampled_from([0.001, 0.05, 1.0]),
    prefix_cache=st.sampled_from([True, True, True, False]),
    max_cached_tokens=st.sampled_from([None, None, 0, 20]),
    min_shared_tokens=st.sampled_from([4, 32, 1000]),
    min_chunk=st.sampled_from([1, 8]),
    min_chunk_alone=st.sampled_from([1, 16]),
    max_retries=st.just(3),
)

params = st.builds(
    SamplingParams,
    max_tokens=st.integers(1, 24),
    seed=st.integers(0, 2),
    min_tokens=st.sampled_from([0, 0, 3]),
    stop_token_ids=st.sampled_from([(), (), (7, 8)]),
    ignore_eos=st.booleans(),
)


@st.composite
def prompts(draw: st.DrawFn) -> list[int]:
    """A part of a stem and a tail of its own."""
    stem = draw(st.sampled_from(STEMS))
    head = stem[: draw(st.integers(0, len(stem)))]
    return head + draw(st.lists(st.integers(0, 3), min_size=1, max_size=10))


class Core(RuleBasedStateMachine):
    """A core under random load."""

    harness: Harness

    @initialize(capabilities=capabilities(), limits=limits)
    def start(self, capabilities: Capabilities, limits: SchedulerLimits) -> None:
        self.harness = Harness(capabilities, limits)
        self.harness.executor.seconds = 0.03

    @rule(
        prompt=prompts(),
        params=params,
        n=st.sampled_from([1, 1, 2, 3, 4]),
        priority=st.sampled_from([0, 0, 0, -1, 1]),
        tenant=st.sampled_from("ab"),
        root=st.sampled_from([b"", b"", b"", b"salt"]),
        scores=st.sampled_from([None, None, 0, 2]),
        begin=st.sampled_from([0, 0, 5, 30]),
    )
    def add(
        self,
        prompt: list[int],
        params: SamplingParams,
        n: int,
        priority: int,
        tenant: str,
        root: bytes,
        scores: int | None,
        begin: int,
    ) -> None:
        answer = self.harness.add(
            prompt,
            params,
            n=n,
            priority=priority,
            tenant=tenant,
            root=root,
            prompt_logprobs=scores,
            prompt_start=begin,
        )
        if isinstance(answer, ErrorInfo):
            expected = {"context_overflow", "queue_full", "unprocessable"}
            assert answer.kind in expected
            assert (answer.retry_after is not None) == (answer.kind == "queue_full")

    @rule(steps=st.integers(1, 6))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.harness.step()

    @precondition(lambda self: self.harness.requests)
    @rule(data=st.data(), whole=st.booleans())
    def abort(self, data: st.DataObject, whole: bool) -> None:
        group = data.draw(st.sampled_from(sorted(self.harness.requests)))
        row = -1 if whole else data.draw(st.integers(0, self.harness.requests[group].n - 1))
        self.harness.abort(group, row)

    @rule()
    def lose_a_step(self) -> None:
        self.harness.executor.lose_next = True

    @precondition(lambda self: self.harness.requests)
    @rule(data=st.data())
    def fail_a_row(self, data: st.DataObject) -> None:
        group = data.draw(st.sampled_from(sorted(self.harness.requests)))
        row = data.draw(st.integers(0, self.harness.requests[group].n - 1))
        self.harness.executor.fail_next = RowKey(group, row)

    def teardown(self) -> None:
        if hasattr(self, "harness") and not self.harness.broken:
            self.harness.executor.fail_next = None
            self.harness.run()


TestCore = Core.TestCase
TestCore.settings = settings(stateful_step_count=40)
