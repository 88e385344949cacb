from __future__ import annotations

import numpy as np
import pytest

from trunkline.core.types import SamplingParams
from trunkline.engine.executors.infill_sampling import keep
from trunkline.engine.executors.sampling import Sampler
from trunkline.engine.seam import OpenRow, RowKey

PIECES = {1: b"in", 2: b"int", 3: b"integer", 4: b"x", 5: b"", 9: b""}
EOG = frozenset({9})


def kept(**p: float) -> list[int]:
    """Tokens t1, t2, ... with their probabilities: those that may be drawn."""
    ids = [int(name[1:]) for name in p]
    flags = keep(ids, np.array(list(p.values())), EOG, PIECES.__getitem__)
    return [token for token, flag in zip(ids, flags, strict=True) if flag]


def test_an_end_that_is_not_unlikely_is_taken() -> None:
    assert kept(t4=0.85, t9=0.15) == [9]


def test_a_rare_end_stays_possible() -> None:
    assert kept(t4=0.9, t1=0.09, t9=0.01) == [4, 9]


def test_tokens_that_begin_alike_are_one() -> None:
    assert kept(t4=0.3, t2=0.19, t1=0.18, t3=0.18, t5=0.15) == [4, 2]
    # The most probable has all of it, so that it is above a half.
    assert kept(t4=0.25, t2=0.2, t1=0.19, t3=0.19, t5=0.17) == [2]


def test_nothing_likely_ends_the_text() -> None:
    assert kept(t4=0.19, t5=0.18) == []


@pytest.mark.parametrize(("banned", "token"), [(False, 9), (True, 4)])
def test_a_row_ends_where_it_may(banned: bool, token: int) -> None:
    sampler = Sampler(300, EOG)
    key = RowKey(1, 0)
    params = SamplingParams(infill=True, min_tokens=1 if banned else 0)
    sampler.open(OpenRow(key, params, 1, np.array([], np.int32)))
    logits = np.zeros(300, np.float32)
    logits[4], logits[9] = 0.5, -3.0
    assert sampler.sample(key, logits, None).token == token
