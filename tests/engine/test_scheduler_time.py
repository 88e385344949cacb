"""Time: the budget of a step, and steps that run ahead."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.fakes import blocks, cells, endless, greedy, long
from tests.engine.harness import Harness
from trunkline.engine.frames import AddGroup
from trunkline.engine.scheduler import Scheduler, SchedulerLimits
from trunkline.engine.seam import PLACEHOLDER, RowKey, Sampled, StepPlan, StepResult, Ticket

# Time -----------------------------------------------------------------------------------------


class Machine:
    """An executor with a price list instead of a memory."""

    def __init__(self, limits: SchedulerLimits, per_token: float, per_row: float) -> None:
        capabilities = cells(
            kv_tokens=1 << 16, context=1 << 15, max_step_tokens=2048, max_outputs=64, sequences=64
        )
        self.scheduler = Scheduler(capabilities, limits, lambda: 0.0)
        self.per_token, self.per_row = per_token, per_row
        self.groups = 0

    def add(self, prompt: int, output: int) -> None:
        """A request that shares nothing."""
        data = np.full(prompt, self.groups, "<i4").tobytes()
        group = AddGroup(self.groups, data, 1, endless(output), 0, "", b"", 0.0)
        assert self.scheduler.add(group) is None
        self.groups += 1

    def step(self) -> tuple[StepPlan, float]:
        """One step: the plan and its seconds."""
        plan = self.scheduler.plan()
        assert plan is not None
        sizes = [len(chunk.tokens) for chunk in plan.chunks]
        seconds = 0.005 + sum(
            self.per_row if size == 1 else size * self.per_token for size in sizes
        )
        sampled = tuple(Sampled(key, 1) for chunk in plan.chunks for key in chunk.sample)
        self.scheduler.update(StepResult(plan.step, sampled, seconds))
        return plan, seconds


@pytest.mark.parametrize("per_token", [1e-5, 5e-4, 2e-3])
def test_steps_keep_the_time_budget_beside_decoding_rows(per_token: float) -> None:
    machine = Machine(SchedulerLimits(max_step_seconds=0.25), per_token, per_row=0.01)
    for _ in range(4):
        machine.add(40, 2000)
    for number in range(30):
        if number % 3 == 0:
            machine.add(2000, 4)
        machine.step()
    # It has learned: now measure.
    machine.add(8000, 1)
    steps = [machine.step() for _ in range(20)]
    assert max(seconds for _, seconds in steps) < 0.25 * 1.15
    mixed = [plan for plan, _ in steps if plan.tokens > len(plan.chunks)]
    full = min(2048, (0.25 - 0.005 - 0.05) / per_token)
    assert max(plan.tokens for plan in mixed) > 0.7 * full


def test_prefill_alone_takes_large_chunks_in_grains() -> None:
    machine = Machine(SchedulerLimits(max_step_seconds=0.25), per_token=0.01, per_row=0.01)
    machine.add(3000, 1)
    sizes = [machine.step()[0].tokens for _ in range(8)]
    assert min(sizes) >= 256
    assert all(size % 32 == 0 for size in sizes)


def test_prefill_never_stops_however_slow_decoding_is() -> None:
    machine = Machine(SchedulerLimits(max_step_seconds=0.01), per_token=0.01, per_row=1.0)
    for _ in range(3):
        machine.add(10, 500)
    for _ in range(20):
        machine.step()
    machine.add(320, 1)
    sizes = [machine.step()[0].tokens - 3 for _ in range(10)]
    assert min(sizes) >= 32


def test_chunks_stay_within_what_a_pass_takes() -> None:
    harness = Harness(blocks(max_step_tokens=24, context=128))
    harness.executor.seconds = 1e-4
    for number in range(6):
        harness.add(long(number, 70), endless(20))
    harness.run()
    assert max(plan.tokens for plan in harness.executor.plans) == 24


# Running ahead --------------------------------------------------------------------------------


def test_a_decoding_row_runs_ahead_and_its_surplus_is_dropped() -> None:
    harness = Harness(blocks())
    harness.add([1, 2, 3], endless(6))
    harness.add([1, 2, 4], greedy(100, stop_token_ids=tuple(range(50)), min_tokens=3))
    harness.run()
    surplus = [
        chunk
        for plan in harness.executor.plans
        for chunk in plan.chunks
        if chunk.tokens[0] == PLACEHOLDER
    ]
    assert surplus
    # A length is foreseen, a stop is not: one token too many was computed, none was sent.
    draws = {
        key: sum(key in c.sample for p in harness.executor.plans for c in p.chunks)
        for key in harness.outputs
    }
    assert draws[RowKey(0, 0)] == len(harness.outputs[RowKey(0, 0)]) == 6
    assert draws[RowKey(1, 0)] == len(harness.outputs[RowKey(1, 0)]) + 1 == 5


def test_no_more_plans_than_may_be_under_way() -> None:
    for capabilities in (cells(), blocks(), blocks(run_ahead=0)):
        scheduler = Harness(capabilities).scheduler
        data = np.array([1, 2, 3], "<i4").tobytes()
        scheduler.add(AddGroup(0, data, 1, endless(9), 0, "", b"", 0.0))
        for _ in range(capabilities.run_ahead + 1):
            assert scheduler.plan() is not None
        assert scheduler.plan() is None


@pytest.mark.parametrize("page", [1, 4])
@pytest.mark.parametrize("steps", range(2, 10))
def test_what_an_aborted_row_computed_ahead_is_not_kept(page: int, steps: int) -> None:
    harness = Harness(blocks(page=page))
    harness.add(long(1, 10), endless(50))
    for _ in range(steps):
        harness.step()
    plan = harness.scheduler.plan()
    assert plan is not None
    harness.executor.launch(plan)
    harness.abort(0)
    while harness.executor.under_way:
        ticket = Ticket(harness.executor.under_way[0].step)
        harness.scheduler.update(harness.executor.collect(ticket))
        harness.scheduler.check()
    assert harness.scheduler.stats().kv_in_use == 0


def test_memory_waits_for_the_plan_that_refers_to_it() -> None:
    harness = Harness(blocks())
    harness.add(long(1, 20), endless(50))
    for _ in range(4):
        harness.step()
    used = harness.scheduler.stats().kv_in_use
    assert harness.executor.under_way
    harness.abort(0)
    assert harness.scheduler.stats().kv_in_use == used
    harness.step()
    assert harness.scheduler.stats().kv_in_use == 0
    harness.run()
