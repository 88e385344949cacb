from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from trunkline.core.errors import InternalError
from trunkline.core.types import PromptToken, PromptTokens, Request, TextInput
from trunkline.engine.frames import PromptScores
from trunkline.engine.front.prompt_report import PromptReport
from trunkline.text.byte_tokenizer import ByteTokenizer

PROMPT = list("né!".encode())


def report(
    *, show: bool = False, logprobs: int | None = None, start: int = 0, ids: Sequence[int] = PROMPT
) -> PromptReport:
    request = Request(
        id="r",
        model="m",
        input=TextInput("x"),
        show_prompt=show,
        prompt_logprobs=logprobs,
        prompt_logprobs_start=start,
    )
    return PromptReport(request, ByteTokenizer(), ids)


def scores(
    start: int, values: Sequence[float], top: Sequence[Sequence[float]] = ()
) -> PromptScores:
    ids = [[65 + place for place in range(len(row))] for row in top]
    return PromptScores(
        1,
        start,
        np.array(values, "<f4").tobytes(),
        np.arange(1, len(values) + 1, dtype="<i4").tobytes(),
        np.array(ids, "<i4").tobytes(),
        np.array(top, "<f4").tobytes(),
    )


def tokens(events: Sequence[object]) -> list[PromptToken]:
    found: list[PromptToken] = []
    for event in events:
        assert isinstance(event, PromptTokens)
        found += event.tokens
    return found


def test_nothing_unasked() -> None:
    assert report().started() == []


def test_the_whole_prompt_at_once() -> None:
    found = tokens(report(show=True).started())
    assert [one.token_id for one in found] == PROMPT
    assert b"".join(one.data for one in found).decode() == "né!"
    assert found[1].token == "�"
    assert all(one.logprob is None and one.rank == 0 and one.top == () for one in found)


def test_the_first_token_has_nothing_before_it() -> None:
    made = report(logprobs=2)
    assert tokens(made.started()) == [PromptToken("n", b"n", ord("n"))]
    first = tokens(made.scored(scores(1, [-0.5, -1.5], [[-0.25, -0.5], [-1, float("-inf")]])))
    assert [one.token_id for one in first] == PROMPT[1:3]
    assert [one.logprob for one in first] == [-0.5, -1.5]
    assert [one.rank for one in first] == [1, 2]
    assert first[0].top == (("A", b"A", 65, -0.25), ("B", b"B", 66, -0.5))
    # Where there are no more alternatives.
    assert first[1].top == (("A", b"A", 65, -1.0),)
    (last,) = tokens(made.scored(scores(3, [-2.0], [[-1, -2]])))
    assert last.token == "!"


def test_without_alternatives() -> None:
    made = report(logprobs=0)
    made.started()
    assert [one.top for one in tokens(made.scored(scores(1, [-1.0] * 3)))] == [()] * 3


def test_from_a_position_on() -> None:
    made = report(logprobs=0, start=2)
    assert [one.logprob for one in tokens(made.started())] == [None] * 3
    assert [one.token for one in tokens(made.scored(scores(3, [-2.0])))] == ["!"]


def test_one_token() -> None:
    assert len(tokens(report(logprobs=5, ids=[65]).started())) == 1


@pytest.mark.parametrize("start", [1, 3])
def test_what_is_lost_or_doubled_is_a_fault(start: int) -> None:
    made = report(logprobs=0)
    made.started()
    made.scored(scores(1, [-1.0]))
    with pytest.raises(InternalError, match="lost"):
        made.scored(scores(start, [-1.0]))
