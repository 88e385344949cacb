"""Log probabilities of prompts through libllama: the same as one token at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pytest

from tests.engine.executors.test_ggml import GREEDY, PROMPT, Driver, chunk, load
from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.engine.seam import Chunk, ExecutorFailed, RowKey, Scored, Scoring


@pytest.fixture(scope="module", params=["llama", "gemma3", "mamba"])
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    driver = load(write_tiny_gguf(path, request.param))
    yield driver
    driver.executor.close()


def scoring(one: Chunk, first: int, count: int, top: int = 0) -> Chunk:
    """Score `count` tokens of the prompt, with the logits from token `first` of the chunk on."""
    begin = one.start + first + 1
    targets = np.array(PROMPT[begin : begin + count], np.int32)
    return msgspec.structs.replace(one, scoring=Scoring(first, targets, top))


def reference(driver: Driver, prompt: Sequence[int]) -> np.ndarray[tuple[int, int], np.dtype]:
    """Row p: log probabilities behind tokens [0, p], from passes of one token each."""
    row = driver.row()
    rows = []
    for position, token in enumerate(prompt):
        opened = [row] if not position else []
        driver.step([chunk(row.key, 7, [token], position, sample=True)], opened)
        logits = driver.executor._context.logits(1)[0].astype(np.float64)
        rows.append(logits - logits.max() - np.log(np.exp(logits - logits.max()).sum()))
    driver.wipe()
    return np.array(rows)


def check(scored: Scored, right: np.ndarray[tuple[int, int], np.dtype], top: int) -> None:
    for index, logprob in enumerate(scored.logprobs.tolist()):
        row = right[scored.start + index - 1]
        target = PROMPT[scored.start + index]
        assert logprob == pytest.approx(row[target], abs=2e-2)
        assert abs(int(scored.ranks[index]) - int((row >= row[target]).sum())) <= 2
        order = np.sort(row)[::-1][:top]
        assert scored.top_logprobs[index] == pytest.approx(order, abs=2e-2)
        assert row[scored.top_ids[index]] == pytest.approx(order, abs=2e-2)


def test_in_pieces_beside_a_row_that_decodes(driver: Driver) -> None:
    driver.wipe()
    right = reference(driver, PROMPT)
    other = driver.row()
    token = driver.step([chunk(other.key, 3, PROMPT, 0, sample=True)], [other]).sampled[0].token
    row = driver.row()
    answers: list[int] = []
    pieces = [(0, 7, 0), (7, 40, 0), (40, 60, 3)]
    for number, (start, end, first) in enumerate(pieces):
        last = end == len(PROMPT)
        piece = chunk(row.key, 5, PROMPT[start:end], start, sample=last)
        piece = scoring(piece, first, end - start - first - last, top=4)
        decoded = chunk(other.key, 3, [token], len(PROMPT) + number, sample=True)
        chunks = [decoded, piece] if number % 2 else [piece, decoded]
        result = driver.step(chunks, [row] if not number else [])
        token = next(one.token for one in result.sampled if one.key == other.key)
        (scored,) = result.scored
        assert (scored.key, scored.start) == (row.key, start + first + 1)
        assert scored.logprobs.shape == (end - start - first - last,)
        check(scored, right, 4)
        answers = [one.token for one in result.sampled if one.key == row.key]
        assert bool(answers) == last
    (answer,) = answers
    assert right[-1][answer] == pytest.approx(right[-1].max(), abs=2e-2)


def test_the_answer_is_the_same(driver: Driver) -> None:
    driver.wipe()
    plain = driver.generate(PROMPT, seq=1)
    driver.wipe()
    row = driver.row()
    whole = scoring(chunk(row.key, 2, PROMPT, 0, sample=True), 0, len(PROMPT) - 1)
    token = driver.step([whole], [row]).sampled[0].token
    assert [token, *driver.decode(row.key, 2, token, len(PROMPT), 12)] == plain


def test_penalties_do_not_count(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    right = reference(driver, PROMPT)
    biased = msgspec.structs.replace(
        GREEDY, repetition_penalty=2.0, logit_bias=tuple((token, 50.0) for token in PROMPT)
    )
    row = driver.row(biased)
    (scored,) = driver.step(
        [scoring(chunk(row.key, 0, PROMPT, 0, sample=True), 0, 59, top=2)], [row]
    ).scored
    check(scored, right, 2)
    driver.executor.close()


def test_more_alternatives_than_tokens(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    row = driver.row()
    (scored,) = driver.step(
        [scoring(chunk(row.key, 0, PROMPT[:3], 0), 0, 2, top=300)], [row]
    ).scored
    vocabulary = driver.executor.capabilities.vocab_size
    assert np.isfinite(scored.top_logprobs[:, :vocabulary]).all()
    assert (scored.top_logprobs[:, vocabulary:] == -np.inf).all()
    driver.executor.close()


def test_too_many_are_refused(tmp_path: Path) -> None:
    driver = load(write_tiny_gguf(tmp_path / "tiny.gguf"))
    outputs = driver.executor._context.max_outputs
    prompt = PROMPT * 6
    row = driver.row()
    targets = np.array(prompt[1 : outputs + 2], np.int32)
    one = Chunk(
        RowKey(row.key.group, 0),
        0,
        0,
        np.array(prompt, np.int32),
        0,
        (),
        None,
        Scoring(0, targets, 0),
    )
    with pytest.raises(ExecutorFailed, match="outputs"):
        driver.step([one], [row])
    driver.executor.close()
