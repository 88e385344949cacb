"""Requests and rows: how they come, end, are refused and cancelled, and in what order."""

from __future__ import annotations

import pytest

from tests.engine.fakes import EOG, Make, blocks, cells, endless, greedy, long
from tests.engine.harness import Harness
from trunkline.core.errors import ErrorInfo
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.seam import RowKey

both = pytest.mark.parametrize("make", [cells, blocks])


# Finishing ------------------------------------------------------------------------------------


@both
def test_max_tokens_ends_with_length(make: Make) -> None:
    harness = Harness(make())
    harness.add([1, 2, 3], endless(5))
    harness.run()
    outputs = harness.outputs[RowKey(0, 0)]
    assert [output.finish for output in outputs] == [None] * 4 + ["length"]


@both
def test_end_of_text_is_emitted_and_ends_with_stop(make: Make) -> None:
    harness = Harness(make())
    for seed in range(8):
        harness.add([1, 2, 3], greedy(100, seed=seed))
    harness.run()
    last = [outputs[-1] for outputs in harness.outputs.values()]
    stopped = [output for output in last if output.finish == "stop"]
    assert stopped
    assert all(output.token == EOG for output in stopped)


@both
def test_stop_ids_end_a_row_but_not_before_min_tokens(make: Make) -> None:
    harness = Harness(make())
    every = tuple(range(50))
    harness.add([1], greedy(9, stop_token_ids=every))
    harness.add([1], greedy(9, stop_token_ids=every, min_tokens=4))
    harness.run()
    assert len(harness.outputs[RowKey(0, 0)]) == 1
    assert len(harness.outputs[RowKey(1, 0)]) == 5


@both
def test_a_full_context_ends_with_length(make: Make) -> None:
    harness = Harness(make(context=40))
    harness.add(long(1, 30), endless(100))
    harness.run()
    outputs = harness.outputs[RowKey(0, 0)]
    assert len(outputs) == 10
    assert outputs[-1].finish == "length"


# Refusals -------------------------------------------------------------------------------------


@both
def test_refusals(make: Make) -> None:
    harness = Harness(make(context=40, kv_tokens=32, max_outputs=4))
    overflow = harness.add(long(1, 32), greedy())
    assert isinstance(overflow, ErrorInfo)
    assert overflow.kind == "context_overflow"
    assert "32" in overflow.message
    wide = harness.add([1], greedy(), n=5)
    assert isinstance(wide, ErrorInfo)
    assert (wide.kind, wide.param) == ("unprocessable", "n")
    empty = harness.add([], greedy())
    assert isinstance(empty, ErrorInfo)
    nothing = harness.add([1], greedy(0))
    assert isinstance(nothing, ErrorInfo)
    assert nothing.param == "max_tokens"
    assert not harness.scheduler.has_work


@both
def test_the_queue_is_bounded(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_num_seqs=2, max_queue=3))
    for number in range(2):
        harness.add([number], endless(50))
    harness.step()
    assert harness.scheduler.stats().running == 2
    for number in range(3):
        assert harness.add([number], greedy()) == number + 2
    refused = harness.add([9], greedy())
    assert isinstance(refused, ErrorInfo)
    assert refused.kind == "queue_full"
    assert refused.retry_after is not None
    assert 1 <= refused.retry_after <= 60
    harness.run()
    assert isinstance(harness.add([9], greedy()), int)


def test_no_queue_still_serves_who_has_a_seat() -> None:
    harness = Harness(cells(), SchedulerLimits(max_num_seqs=1, max_queue=0))
    assert harness.add([1], greedy()) == 0
    harness.run()
    assert harness.add([1], greedy()) == 1
    harness.run()


def test_retry_after_follows_the_pace() -> None:
    def advice(seconds: float) -> float:
        harness = Harness(cells(), SchedulerLimits(max_num_seqs=1, max_queue=8))
        harness.executor.seconds = seconds
        for number in range(30):
            harness.add([number], endless(4))
            harness.run()
        for number in range(8):
            harness.add([number], greedy())
        refused = harness.add([9], greedy())
        assert isinstance(refused, ErrorInfo)
        assert refused.retry_after is not None
        return refused.retry_after

    assert advice(0.01) == 1.0
    # Four steps of two seconds each, half of eight groups.
    assert advice(2.0) == pytest.approx(32, rel=0.2)


# Groups ---------------------------------------------------------------------------------------


@both
def test_n_rows_share_one_prefill(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 30), greedy(6, seed=3), n=4)
    harness.run()
    assert harness.scheduler.stats().prefill_tokens == 30
    rows = [[o.token for o in harness.outputs[RowKey(0, row)]] for row in range(4)]
    assert len({tuple(row) for row in rows}) > 1


@both
def test_without_forks_each_row_prefills_itself(make: Make) -> None:
    harness = Harness(make(fork=False))
    harness.add(long(1, 30), greedy(6, seed=3), n=3)
    harness.run()
    assert harness.scheduler.stats().prefill_tokens == 90


@both
def test_forks_work_where_sequences_cannot_be_cut(make: Make) -> None:
    harness = Harness(make(truncate=False))
    harness.add(long(1, 30), endless(6), n=3)
    harness.add(long(1, 30), endless(6))
    harness.run()
    stats = harness.scheduler.stats()
    assert (stats.prefill_tokens, stats.prefix_hits, stats.kv_cached) == (60, 0, 0)


@both
def test_n_with_preemption(make: Make) -> None:
    """Four rows of 60 tokens in room for 100: they are preempted singly and all come right."""
    harness = Harness(make(kv_tokens=100, context=80))
    harness.add(long(1, 20), endless(40), n=4)
    harness.run()
    assert harness.scheduler.stats().preemptions > 0
    epochs = {output.epoch for outs in harness.outputs.values() for output in outs}
    assert max(epochs) > 0


@both
def test_row_seeds_differ_and_the_first_is_the_request_s(make: Make) -> None:
    harness = Harness(make())
    harness.add([1, 2], greedy(2, seed=12345), n=3)
    harness.run()
    seeds = [harness.executor.opened[RowKey(0, row)].seed for row in range(3)]
    assert seeds[0] == 12345
    assert len(set(seeds)) == 3


@both
def test_a_leader_that_is_aborted_still_prefills_for_its_forks(make: Make) -> None:
    harness = Harness(make(max_step_tokens=16))
    harness.add(long(1, 60), endless(5), n=3)
    harness.step()
    harness.abort(0, 0)
    harness.run()
    assert RowKey(0, 0) not in harness.outputs
    assert len(harness.outputs[RowKey(0, 2)]) == 5


# Cancelling -----------------------------------------------------------------------------------


@both
def test_abort_frees_within_one_step(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 30), endless(50), n=2)
    harness.add(long(2, 30), endless(50))
    for _ in range(5):
        harness.step()
    harness.abort(0)
    harness.step()
    assert harness.scheduler.stats().sequences_in_use == 1
    harness.abort(1)
    harness.step()
    assert harness.scheduler.stats().kv_in_use == 0
    harness.run()


@both
def test_abort_of_one_row_leaves_the_others(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 10), endless(20), n=3)
    for _ in range(4):
        harness.step()
    harness.abort(0, 1)
    harness.run()
    assert len(harness.outputs[RowKey(0, 0)]) == 20
    assert len(harness.outputs[RowKey(0, 1)]) < 20
    assert len(harness.outputs[RowKey(0, 2)]) == 20


@both
def test_abort_while_waiting(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_num_seqs=1))
    harness.add([1], endless(10))
    harness.add([2], greedy())
    harness.step()
    harness.abort(1)
    harness.abort(77)
    assert harness.scheduler.stats().waiting == 0
    harness.run()
    assert harness.order == [0]


# Priorities and fairness ----------------------------------------------------------------------


@both
def test_urgent_requests_start_first(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_num_seqs=1))
    for priority in (3, 1, 2, 1):
        harness.add(long(priority, 5), endless(4), priority=priority)
    harness.run()
    assert harness.order == [1, 3, 2, 0]


@both
@pytest.mark.parametrize("short_of", ["seats", "memory"])
def test_an_urgent_arrival_preempts_the_least_urgent_last_one(make: Make, short_of: str) -> None:
    tight = {"kv_tokens": 72, "context": 64} if short_of == "memory" else {}
    seats = 2 if short_of == "seats" else 8
    harness = Harness(make(**tight), SchedulerLimits(max_num_seqs=seats))
    harness.add(long(1, 12), endless(12), priority=1)
    harness.add(long(2, 12), endless(12), priority=1)
    for _ in range(4):
        harness.step()
    assert harness.scheduler.stats().running == 2
    harness.add(long(3, 40), endless(3), priority=0)
    for _ in range(3):
        harness.step()
    assert 2 in harness.started
    assert harness.scheduler.stats().preemptions == 1
    harness.run()
    assert {output.epoch for output in harness.outputs[RowKey(0, 0)]} == {0}
    assert {output.epoch for output in harness.outputs[RowKey(1, 0)]} == {0, 1}


@both
def test_equals_do_not_preempt_each_other_for_seats(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_num_seqs=1))
    harness.add(long(1, 5), endless(20))
    harness.step()
    harness.add(long(2, 5), endless(2))
    harness.run()
    assert harness.scheduler.stats().preemptions == 0


@both
def test_tenants_share_fairly(make: Make) -> None:
    """A greedy tenant cannot hold up one that comes later; served tokens stay close."""
    harness = Harness(make(), SchedulerLimits(max_num_seqs=2, max_queue=1000))
    for number in range(40):
        harness.add(long(number, 10), endless(10), tenant="greedy")
    for _ in range(20):
        harness.step()
    for number in range(10):
        harness.add(long(100 + number, 10), endless(10), tenant="late")
    seen = len(harness.order)
    while len(harness.order) < seen + 20:
        harness.step()
    late = sum(1 for group in harness.order[seen:] if group >= 40)
    # VTC's bound, in requests of equal size: what is in the batch when the tenant arrives.
    assert 8 <= late <= 12
    harness.run()


@both
def test_idleness_earns_no_credit(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_num_seqs=1, max_queue=1000))
    harness.add([1], greedy(), tenant="idle")
    harness.run()
    for number in range(30):
        harness.add(long(number, 10), endless(10), tenant="busy")
    for _ in range(100):
        harness.step()
    seen = len(harness.order)
    for number in range(10):
        harness.add(long(100 + number, 10), endless(10), tenant="idle")
    while len(harness.order) < seen + 10:
        harness.step()
    idle = sum(1 for group in harness.order[seen:] if group >= 31)
    assert 4 <= idle <= 6
    harness.run()
