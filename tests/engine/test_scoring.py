"""Log probabilities of prompts: each token's once, in order, whatever happens to the rows."""

from __future__ import annotations

import numpy as np
import pytest

from tests.engine.fakes import Make, blocks, cells, endless, greedy, long
from tests.engine.harness import Harness
from trunkline.core.errors import ErrorInfo
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.scoring import PromptScoring
from trunkline.engine.seam import RowKey, Scored

both = pytest.mark.parametrize("make", [cells, blocks])


@both
def test_every_token_but_the_first(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 40), greedy(4), prompt_logprobs=2)
    harness.run()
    assert len(harness.scores[0]) == 39
    assert max(plan.scores for plan in harness.executor.plans) == 8


@both
def test_a_prompt_of_one_token_has_none(make: Make) -> None:
    harness = Harness(make())
    harness.add([7], greedy(4), prompt_logprobs=2)
    harness.run()
    assert harness.scores == {}


@both
def test_behind_a_position(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 40), greedy(4), prompt_logprobs=0, prompt_start=30)
    harness.run()
    assert len(harness.scores[0]) == 9
    # Only they are computed in small pieces.
    assert len(harness.executor.plans[0].chunks[0].tokens) > 30


@both
def test_nothing_is_reused_of_what_is_scored(make: Make) -> None:
    harness = Harness(make())
    page = harness.executor.capabilities.page
    for start in (None, 0, 20):
        scores = None if start is None else 0
        harness.add(long(1, 40), greedy(4), prompt_logprobs=scores, prompt_start=start or 0)
        harness.run()
    assert [harness.started[group].cached for group in range(3)] == [0, 0, 20 // page * page]


@both
def test_nobody_waits_for_a_prefix_that_it_cannot_use(make: Make) -> None:
    harness = Harness(make(kv_tokens=512), SchedulerLimits(max_step_seconds=0.001, min_chunk=4))
    harness.add(long(1, 60), greedy(4))
    harness.step()
    harness.add(long(1, 60), greedy(4), prompt_logprobs=0)
    harness.step()
    harness.step()
    assert 1 in harness.started
    harness.run()


@both
def test_others_go_on_meanwhile(make: Make) -> None:
    harness = Harness(make(kv_tokens=512))
    harness.add(long(1, 4), endless(30))
    harness.add(long(2, 90), greedy(4), prompt_logprobs=0)
    harness.add(long(3, 90), greedy(4), prompt_logprobs=0)
    while 2 not in harness.scores:
        harness.step()
    assert len(harness.outputs[RowKey(0, 0)]) > 8
    harness.run()


@both
def test_preempted_in_the_middle_of_the_prompt(make: Make) -> None:
    harness = Harness(make(kv_tokens=128))
    harness.add(long(1, 90), greedy(4), priority=1, prompt_logprobs=1)
    while len(harness.scores.get(0, ())) < 40:
        harness.step()
    harness.add(long(2, 90), greedy(4), priority=0)
    harness.run()
    assert harness.scheduler.stats().preemptions == 1
    assert len(harness.scores[0]) == 89


@both
def test_preempted_behind_the_prompt(make: Make) -> None:
    harness = Harness(make(kv_tokens=64, context=64))
    harness.add(long(1, 20), endless(40), priority=1, prompt_logprobs=0)
    while RowKey(0, 0) not in harness.outputs:
        harness.step()
    harness.add(long(2, 50), endless(10), priority=0)
    harness.run()
    assert harness.scheduler.stats().preemptions == 1


@both
def test_lost_steps(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 40), greedy(4), prompt_logprobs=1)
    for _ in range(3):
        harness.step()
        harness.executor.lose_next = True
        harness.step()
    harness.run()
    assert len(harness.scores[0]) == 39


@both
def test_cancelled_in_the_middle(make: Make) -> None:
    harness = Harness(make())
    harness.add(long(1, 90), greedy(4), prompt_logprobs=1)
    harness.step()
    harness.step()
    told = len(harness.scores[0])
    assert 0 < told < 89
    harness.abort(0)
    harness.run()
    assert len(harness.scores[0]) == told


@pytest.mark.parametrize("fork", [True, False])
@both
def test_once_for_all_rows(make: Make, fork: bool) -> None:
    harness = Harness(make(kv_tokens=512, fork=fork))
    harness.add(long(1, 40), greedy(4), n=3, prompt_logprobs=1)
    harness.run()
    assert len(harness.scores[0]) == 39


def test_an_executor_that_cannot() -> None:
    harness = Harness(cells(max_scores=0))
    refusal = harness.add([1, 2], greedy(), prompt_logprobs=0)
    assert isinstance(refusal, ErrorInfo)
    assert refusal.kind == "unsupported"


def test_what_another_row_told_is_not_told_again() -> None:
    scoring = PromptScoring(3, np.arange(10, dtype=np.int32), 0, 1)

    def scored(start: int, count: int) -> Scored:
        column = np.arange(start, start + count)
        ids = column[:, None].astype(np.int32)
        floats = column.astype(np.float32)
        ranks = column.astype(np.int32)
        return Scored(RowKey(3, 0), 0, start, floats, ranks, ids, ids.astype(np.float32))

    first, second = scoring.tell(scored(1, 4)), scoring.tell(scored(3, 5))
    assert first is not None
    assert second is not None
    assert np.frombuffer(first.logprobs, "<f4").tolist() == [1, 2, 3, 4]
    assert (second.start, np.frombuffer(second.top_ids, "<i4").tolist()) == (5, [5, 6, 7])
    assert scoring.tell(scored(2, 4)) is None
    assert not scoring.done
    assert scoring.tell(scored(8, 2)) is not None
    assert scoring.done
