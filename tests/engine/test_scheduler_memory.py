"""What the scheduler does with the KV manager: prefixes, followers, shortage, failures."""

from __future__ import annotations

import pytest

from tests.engine.fakes import FakeCells, Make, blocks, cells, endless, greedy, long
from tests.engine.harness import Harness
from trunkline.engine.frames import AddGroup
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.seam import RowKey, StepResult

both = pytest.mark.parametrize("make", [cells, blocks])


# Prefixes -------------------------------------------------------------------------------------


@both
def test_a_prompt_is_found_again_but_for_its_last_token(make: Make) -> None:
    harness = Harness(make())
    page = harness.executor.capabilities.page
    for _ in range(2):
        harness.add(long(1, 40), greedy(4))
        harness.run()
    assert harness.started[0].cached == 0
    assert harness.started[1].cached == 39 // page * page


@both
def test_output_is_found_again_too(make: Make) -> None:
    harness = Harness(make())
    prompt = long(1, 20)
    harness.add(prompt, endless(21))
    harness.run()
    said = [output.token for output in harness.outputs[RowKey(0, 0)]]
    harness.add([*prompt, *said, 5, 6], greedy(4))
    harness.run()
    assert harness.started[1].cached == 40


@both
def test_roots_keep_apart(make: Make) -> None:
    harness = Harness(make())
    for root in (b"a", b"b", b"a"):
        harness.add(long(1, 40), greedy(4), root=root)
        harness.run()
    assert [harness.started[g].cached > 0 for g in range(3)] == [False, False, True]


@both
def test_prefix_cache_off(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(prefix_cache=False))
    for _ in range(2):
        harness.add(long(1, 40), greedy(4), n=2)
        harness.run()
    stats = harness.scheduler.stats()
    assert (stats.prefix_hits, stats.kv_cached, stats.prefill_tokens) == (0, 0, 80)


@both
def test_a_shared_prefix_is_prefilled_once(make: Make) -> None:
    """The issue's case: 16 requests with a shared prefix of 1,024 tokens, four at a time."""
    capabilities = make(context=2048, kv_tokens=8192, max_step_tokens=512)
    harness = Harness(capabilities, SchedulerLimits(max_num_seqs=4))
    shared = long(1, 1024)
    for number in range(16):
        harness.add([*shared, 900 + number, *long(number + 2, 20)], endless(8))
    harness.run()
    tails = 16 * 21
    assert harness.scheduler.stats().prefill_tokens == 1024 + tails
    # In order, and the first step of the followers comes when the prefix is there.
    assert harness.order == list(range(16))


@both
def test_followers_go_on_when_their_leader_vanishes(make: Make) -> None:
    limits = SchedulerLimits(min_chunk_alone=32, max_step_seconds=1e-6)
    harness = Harness(make(context=500, kv_tokens=1024), limits)
    harness.add(long(1, 300), greedy(4))
    harness.add(long(1, 310), greedy(4))
    for _ in range(3):
        harness.step()
    assert harness.scheduler.stats().waiting == 1
    assert harness.scheduler.stats().running == 1
    harness.abort(0)
    harness.run()
    assert harness.started[1].cached >= 32


def test_an_urgent_follower_does_not_wait_for_a_patient_leader() -> None:
    limits = SchedulerLimits(min_chunk_alone=32, max_step_seconds=1e-6)
    harness = Harness(cells(context=500, kv_tokens=1024), limits)
    harness.add(long(1, 300), greedy(4), priority=1)
    harness.step()
    harness.add(long(1, 310), greedy(4), priority=0)
    harness.step()
    assert harness.scheduler.stats().running == 2
    harness.run()


@both
def test_the_cache_can_be_capped(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_cached_tokens=20))
    for number in range(4):
        harness.add(long(number, 40), greedy(4))
        harness.run()
        assert harness.scheduler.stats().kv_cached <= 20


# Memory ---------------------------------------------------------------------------------------


def test_sequence_ids_run_short_before_cells() -> None:
    harness = Harness(cells(sequences=4, kv_tokens=4096))
    for number in range(12):
        harness.add(long(number, 20), greedy(4), n=1 + number % 3)
    harness.run()
    stats = harness.scheduler.stats()
    assert stats.sequences_cached == 4
    assert isinstance(harness.executor, FakeCells)
    assert harness.executor.most_sequences == 4
    assert harness.executor.most_cells < 200


def test_cells_run_short_before_sequence_ids() -> None:
    harness = Harness(cells(sequences=200, kv_tokens=120))
    for number in range(12):
        harness.add(long(number, 20), greedy(4), n=1 + number % 3)
    harness.run()
    assert isinstance(harness.executor, FakeCells)
    assert harness.executor.most_cells > 100
    assert harness.executor.most_sequences < 20


@both
def test_the_oldest_gets_on_when_memory_is_short(make: Make) -> None:
    harness = Harness(make(kv_tokens=64, context=64), SchedulerLimits(max_num_seqs=4))
    for number in range(4):
        harness.add(long(number, 8), endless(40))
    ends: list[int] = []
    while harness.step():
        ends += [key.group for key in harness.finished if key.group not in ends]
    harness.run()
    assert harness.scheduler.stats().preemptions > 0
    assert ends == [0, 1, 2, 3]


# Failures -------------------------------------------------------------------------------------


@both
def test_one_row_s_failure_is_its_group_s_alone(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 10), endless(10), n=2)
    harness.add(long(2, 10), endless(10))
    for _ in range(3):
        harness.step()
    harness.executor.fail_next = RowKey(0, 1)
    harness.run()
    assert list(harness.failed) == [0]
    assert RowKey(1, 0) in harness.finished


@both
def test_a_lost_step_is_computed_again(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 10), endless(10), n=2)
    harness.add(long(2, 10), endless(10))
    for _ in range(3):
        harness.step()
    harness.executor.lose_next = True
    harness.run()
    assert not harness.failed
    assert {key.group for key in harness.finished} == {0, 1}


@both
def test_a_step_that_is_always_lost_fails_in_the_end(make: Make) -> None:
    harness = Harness(make(), SchedulerLimits(max_retries=2))
    harness.add(long(1, 10), endless(10))
    for _ in range(20):
        harness.executor.lose_next = True
        if not harness.step():
            break
    assert harness.failed[0].kind == "internal"
    assert "3 times" in harness.failed[0].message
    harness.executor.lose_next = False
    harness.run()


def test_a_sample_that_never_comes_fails_the_request() -> None:
    scheduler = Harness(cells()).scheduler
    scheduler.add(AddGroup(0, b"\1\0\0\0", 1, greedy(), 0, "", b"", 0.0))
    plan = scheduler.plan()
    assert plan is not None
    outcome = scheduler.update(StepResult(plan.step, (), 0.1))
    assert [failed.group for failed in outcome.failed] == [0]
    scheduler.check()


def test_steps_are_collected_in_order() -> None:
    scheduler = Harness(blocks()).scheduler
    scheduler.add(AddGroup(0, b"\1\0\0\0", 1, greedy(), 0, "", b"", 0.0))
    plan = scheduler.plan()
    assert plan is not None
    with pytest.raises(ValueError, match="step 7"):
        scheduler.update(StepResult(7, (), 0.1))
