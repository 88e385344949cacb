"""Tokens that the native engine draws have the frequencies of the filtered softmax."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.engine.executors.real import Driver, load_real
from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.core.types import SamplingParams
from trunkline.engine.executors.native import NativeExecutor
from trunkline.engine.executors.sampling import Sampler
from trunkline.engine.seam import OpenRow, RowKey, Sampled

DRAWS = 6_000


@pytest.fixture(scope="module")
def executor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeExecutor]:
    path = write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")
    found = load_real("native", path)
    assert isinstance(found, NativeExecutor)
    yield found
    found.close()


def frequencies(
    executor: NativeExecutor, logits: np.ndarray[Any, Any], params: SamplingParams
) -> np.ndarray[Any, Any]:
    """Of tokens, over rows with seeds of their own."""
    keys = [RowKey(1, number) for number in range(DRAWS)]
    for number, key in enumerate(keys):
        executor._sampler.open(OpenRow(key, params, number * 7919, np.array([1], np.int32)))
    drawn = executor._draw([(key, logits) for key in keys])
    assert list(drawn) == list(range(DRAWS))
    for key in keys:
        executor._sampler.close(key)
    return np.bincount([one.token for one in drawn.values()], minlength=len(logits)) / DRAWS


def expected(logits: np.ndarray[Any, Any], params: SamplingParams) -> np.ndarray[Any, Any]:
    """The textbook definition, by sorting."""
    p = np.exp((logits.astype(np.float64) - logits.max()) / params.temperature)
    p /= p.sum()
    order = np.argsort(-p, kind="stable")
    above = np.cumsum(p[order]) - p[order]
    if params.top_p < 1:
        p[order[above >= params.top_p]] = 0.0
    p[p < params.min_p * p.max()] = 0.0
    return np.asarray(p / p.sum())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"top_p": 0.95},
        {"top_p": 0.3},
        {"top_p": 1e-6},
        {"min_p": 0.2},
        {"temperature": 1.7, "top_p": 0.8, "min_p": 0.05},
    ],
    ids=str,
)
def test_frequencies(executor: NativeExecutor, options: dict[str, float]) -> None:
    params = SamplingParams(**{"temperature": 1.0, **options})  # type: ignore[arg-type]
    size = executor.capabilities.vocab_size
    logits = np.random.default_rng(11).normal(0, 2.0, size).astype(np.float32)
    found, right = frequencies(executor, logits, params), expected(logits, params)
    assert not found[right == 0].any(), "a token outside the filters"
    # Deviations of a binomial; 5 of them, for 265 tokens.
    bound = 5 * np.sqrt(right * (1 - right) / DRAWS) + 1e-3
    assert (np.abs(found - right) < bound).all()


def test_a_flat_row_with_top_p(executor: NativeExecutor) -> None:
    """Equals at the edge stay together."""
    flat = np.zeros(executor.capabilities.vocab_size, np.float32)
    found = frequencies(executor, flat, SamplingParams(temperature=1.0, top_p=0.5))
    assert (found > 0).all()


def test_what_is_no_number_is_left_to_the_sampler(executor: NativeExecutor) -> None:
    key = RowKey(9, 0)
    executor._sampler.open(
        OpenRow(key, SamplingParams(temperature=1.0), 1, np.array([1], np.int32))
    )
    logits = np.zeros(executor.capabilities.vocab_size, np.float32)
    logits[3] = np.nan
    assert executor._draw([(key, logits)]) == {}
    executor._sampler.close(key)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("told", [None, 0, 1, 7, 200])
def test_the_best_token_and_log_probabilities_are_the_samplers(
    executor: NativeExecutor, told: int | None, seed: int
) -> None:
    """Ties too: the first comes before the others."""
    size = executor.capabilities.vocab_size
    values = np.random.default_rng(seed).normal(0, 3.0, size).round(seed)
    logits = values.astype(np.float32)
    params = SamplingParams(temperature=0.0, logprobs=told)
    keys = [RowKey(2, 0), RowKey(2, 1)]
    for key in keys:
        executor._sampler.open(OpenRow(key, params, 1, np.array([1], np.int32)))
    found = executor._draw([(keys[0], logits)])[0]
    right = executor._sampler.sample(keys[1], logits, None)
    for key in keys:
        executor._sampler.close(key)
    assert found.token == right.token == int(logits.argmax())
    assert [token for token, _ in found.top] == [token for token, _ in right.top]
    if told is None:
        assert found.logprob is None
    else:
        assert found.logprob == pytest.approx(right.logprob, abs=1e-5)
        assert [p for _, p in found.top] == pytest.approx([p for _, p in right.top], abs=1e-5)


def test_a_drawn_token_has_its_log_probability_without_temperature(
    executor: NativeExecutor,
) -> None:
    key = RowKey(3, 0)
    params = SamplingParams(temperature=0.5, top_p=0.9, logprobs=2)
    executor._sampler.open(OpenRow(key, params, 5, np.array([1], np.int32)))
    logits = np.random.default_rng(4).normal(0, 2.0, executor.capabilities.vocab_size)
    found = executor._draw([(key, logits.astype(np.float32))])[0]
    executor._sampler.close(key)
    right = logits - np.log(np.exp(logits).sum())
    assert found.logprob == pytest.approx(right[found.token], abs=1e-4)
    assert found.top[0][1] == pytest.approx(right.max(), abs=1e-4)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 1.0, "top_k": 5},
        {"temperature": 1.0, "typical_p": 0.5},
        {"temperature": 1.0, "logit_bias": ((3, 1.0),)},
        {"temperature": 1.0, "repetition_penalty": 1.2},
        {"temperature": 1.0, "min_tokens": 2},
        {"temperature": 1.0, "infill": True},
    ],
    ids=str,
)
def test_all_else_is_the_samplers_work(options: dict[str, Any]) -> None:
    sampler = Sampler(300, frozenset({7}))
    key = RowKey(1, 0)
    sampler.open(OpenRow(key, SamplingParams(**options), 1, np.array([1], np.int32)))
    assert sampler.plain_draw(key) is None


def test_a_neighbours_mask_changes_nothing(
    executor: NativeExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A seed reproduces beside a row with a grammar, too: token and log probabilities, all bits."""
    driver, prompt = Driver(executor), np.arange(1, 30, dtype=np.int32)
    params = SamplingParams(temperature=1.0, top_p=0.9, logprobs=3)
    words = -(-executor.capabilities.vocab_size // 32)
    masks = np.full((3, words), 0xFFFFFFFF, np.uint32)
    masks[1] = 1 << 7
    sample = executor._sampler.sample
    asked: list[RowKey] = []
    # Of the second row of each step.
    second: list[RowKey] = []

    def watch(key: RowKey, *arguments: Any) -> Sampled:
        asked.append(key)
        return sample(key, *arguments)

    monkeypatch.setattr(executor._sampler, "sample", watch)
    found = []
    for given in (None, masks):
        rows = [OpenRow(driver.key(), params, 41 + number, prompt) for number in range(3)]
        second.append(rows[1].key)
        chunks = [
            driver.chunk(row.key, seq, prompt.tolist(), 0, sample=True)
            for seq, row in enumerate(rows)
        ]
        result = driver.step(chunks, rows, masks=given)
        found.append([(one.token, one.logprob, one.top) for one in result.sampled])
        driver.step(close=[row.key for row in rows])
    assert asked == second[1:]
    alone, beside = found
    assert beside[1][0] % 32 == 7
    assert (beside[0], beside[2]) == (alone[0], alone[2])
