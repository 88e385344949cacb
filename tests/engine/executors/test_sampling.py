"""Sampling is exact: frequencies match the truncated softmax, streams depend on the seed alone."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from trunkline.core.types import SamplingParams
from trunkline.engine.executors.sampling import (
    Floats,
    Sampler,
    Unsampleable,
    best_ids,
    locate,
    uniform,
)
from trunkline.engine.seam import OpenRow, RowKey, Sampled

KEY = RowKey(1, 0)
DRAWS = 4_000


def opened(
    vocab: int,
    params: SamplingParams,
    seed: int = 11,
    prompt: tuple[int, ...] = (),
    eog: frozenset[int] = frozenset(),
) -> Sampler:
    sampler = Sampler(vocab, eog)
    sampler.open(OpenRow(KEY, params, seed, np.array(prompt, np.int32)))
    return sampler


def once(logits: Floats, mask: Any = None, **options: Any) -> Sampled:
    fixed = {name: options.pop(name) for name in ("seed", "prompt", "eog") if name in options}
    sampler = opened(len(logits), SamplingParams(**options), **fixed)
    return sampler.sample(KEY, logits, mask)


def bits(vocab: int, allowed: list[int]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    flags = np.zeros(-(-vocab // 32) * 32, np.uint8)
    flags[allowed] = 1
    return np.packbits(flags, bitorder="little").view(np.uint32)


def expected(logits: Floats, params: SamplingParams) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The textbook definition, by sorting."""
    x = logits.astype(np.float64) / params.temperature
    if params.top_k > 0:
        x[x < np.sort(x)[-params.top_k]] = -np.inf
    p = np.exp(x - x.max())
    p /= p.sum()
    if params.typical_p < 1:
        surprise = -np.log(np.maximum(p, 1e-300))
        order = np.argsort(np.abs(surprise - (p * surprise).sum()), kind="stable")
        p = kept(p, order, params.typical_p)
    if params.top_p < 1:
        p = kept(p, np.argsort(-p, kind="stable"), params.top_p)
    p[p < params.min_p * p.max()] = 0
    return np.asarray(p / p.sum())


def kept(p: Any, order: Any, mass: float) -> Any:
    before = np.cumsum(p[order]) - p[order]
    out = np.zeros_like(p)
    keep = order[before < mass]
    out[keep] = p[keep]
    return out / out.sum()


@pytest.mark.parametrize("vocab", [40, 1500])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.6},
        {"temperature": 1.7, "top_p": 0.8},
        {"top_p": 0.95},
        {"top_p": 0.1},
        {"min_p": 0.1},
        {"top_p": 0.7, "min_p": 0.05},
        {"top_k": 7},
        {"top_k": 1},
        {"top_k": 20, "top_p": 0.6, "temperature": 1.3},
        {"typical_p": 0.5},
        {"typical_p": 0.8, "top_p": 0.7, "min_p": 0.02},
        {"top_k": 30, "typical_p": 0.6, "top_p": 0.9, "min_p": 0.01},
    ],
)
def test_frequencies_are_those_of_the_truncated_softmax(
    vocab: int, options: dict[str, Any]
) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 2
    params = SamplingParams(**options)
    want = expected(logits, params)
    draws = DRAWS if vocab == 40 else DRAWS // 3
    sampler = opened(vocab, params)
    found = np.zeros(vocab)
    for _ in range(draws):
        found[sampler.sample(KEY, logits, None).token] += 1
    assert not found[want == 0].any()
    # Chi-square over cells that expect five or more, the others in one; 5 sigma.
    big = want * draws >= 5
    observed = np.append(found[big], found[~big].sum())
    hoped = np.append(want[big], want[~big].sum()) * draws
    observed, hoped = observed[hoped > 0], hoped[hoped > 0]
    freedom = max(1, len(hoped) - 1)
    chi = ((observed - hoped) ** 2 / hoped).sum()
    assert chi < freedom + 5 * math.sqrt(2 * freedom) + 10


def test_uniform_numbers_are_uniform_and_independent() -> None:
    rows = np.array([[uniform(seed, draw, 0) for draw in range(300)] for seed in range(300)])
    counts = np.histogram(rows, bins=50, range=(0, 1))[0]
    hoped = rows.size / 50
    assert ((counts - hoped) ** 2 / hoped).sum() < 49 + 5 * math.sqrt(98)
    flat = rows - rows.mean()
    spread = (flat**2).mean()
    for shifted in (np.roll(flat, 1, axis=0), np.roll(flat, 1, axis=1)):
        assert abs((flat * shifted).mean() / spread) < 5 / math.sqrt(rows.size)


def test_the_stream_depends_on_the_seed_alone() -> None:
    rng = np.random.default_rng(5)
    steps = [rng.normal(size=1000).astype(np.float32) for _ in range(30)]
    params = SamplingParams(top_p=0.9)
    alone = opened(1000, params, seed=3)
    want = [alone.sample(KEY, logits, None).token for logits in steps]
    shared = opened(1000, params, seed=3)
    others = [RowKey(2, row) for row in range(3)]
    for number, other in enumerate(others):
        shared.open(OpenRow(other, params, number, np.array([], np.int32)))
    found: dict[RowKey, list[int]] = {key: [] for key in (KEY, *others)}
    for logits in steps:
        for key in (others[0], KEY, others[1], others[2]):
            found[key].append(shared.sample(key, logits, None).token)
    assert found[KEY] == want
    assert len({tuple(texts) for texts in found.values()}) == 4


def test_greedy_and_ties() -> None:
    logits = np.array([1, 5, 5, 2], np.float32)
    assert once(logits, temperature=0.0).token == 1
    assert once(logits, temperature=1e-6, top_k=3).token == 1
    # Of equal tokens at the edge of a filter all stay.
    tokens = {once(logits, top_k=1, seed=seed).token for seed in range(50)}
    assert tokens == {1, 2}
    tokens = {once(logits, top_p=0.1, seed=seed).token for seed in range(50)}
    assert tokens == {1, 2}


def test_penalties_count_as_openai_and_hf_define_them() -> None:
    logits = np.array([2.0, 1.9, -1.0, -1.1], np.float32)
    # Presence and frequency concern the output, not the prompt.
    sampler = opened(4, SamplingParams(temperature=0.0, presence_penalty=1.0), prompt=(0, 0))
    assert [sampler.sample(KEY, logits, None).token for _ in range(3)] == [0, 1, 0]
    sampler = opened(4, SamplingParams(temperature=0.0, frequency_penalty=0.3), prompt=(0,))
    assert [sampler.sample(KEY, logits, None).token for _ in range(5)] == [0, 1, 0, 1, 0]
    # Repetition: positive logits are divided, negative ones multiplied; the prompt counts.
    found = once(logits, temperature=0.0, repetition_penalty=2.0, prompt=(0, 2), logprobs=4)
    changed = np.array([1.0, 1.9, -2.0, -1.1])
    logprobs = changed - np.log(np.exp(changed).sum())
    assert found.token == 1
    assert dict(found.top) == pytest.approx(dict(enumerate(logprobs)), abs=1e-5)


def test_the_callers_logits_stay_as_they_are() -> None:
    logits = np.random.default_rng(0).normal(size=100).astype(np.float32)
    before = logits.copy()
    sampler = opened(
        100,
        SamplingParams(
            repetition_penalty=1.3, presence_penalty=0.5, logit_bias=((3, 9.0),), min_tokens=3
        ),
        prompt=(1, 2),
        eog=frozenset({4}),
    )
    for _ in range(5):
        sampler.sample(KEY, logits, bits(100, list(range(50))))
    assert np.array_equal(logits, before)


def test_bias_forces_and_forbids() -> None:
    logits = np.zeros(100, np.float32)
    assert once(logits, logit_bias=((42, 100.0), (500, 1.0))).token == 42
    bans = tuple((token, -100.0) for token in range(1, 100))
    assert once(logits, logit_bias=bans).token == 0


def test_min_tokens_holds_back_the_end() -> None:
    logits = np.array([0, 1, 9, 8], np.float32)
    params = SamplingParams(temperature=0.0, min_tokens=2, stop_token_ids=(3,))
    sampler = opened(4, params, eog=frozenset({2}))
    assert [sampler.sample(KEY, logits, None).token for _ in range(3)] == [1, 1, 2]
    # A grammar that allows nothing but the end outranks it.
    sampler = opened(4, params, eog=frozenset({2}))
    assert sampler.sample(KEY, logits, bits(4, [2])).token == 2


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_masks(temperature: float) -> None:
    logits = np.random.default_rng(1).normal(size=2000).astype(np.float32)
    for allowed in ([1999], [5, 700], list(range(1000, 2000))):
        seen = {
            once(logits, bits(2000, allowed), temperature=temperature, seed=s).token
            for s in range(20)
        }
        assert seen <= set(allowed)


def test_logprobs_are_taken_before_temperature_filters_and_masks() -> None:
    logits = np.random.default_rng(2).normal(size=3000).astype(np.float32) * 3
    exact = logits.astype(np.float64)
    exact -= exact.max() + np.log(np.exp(exact - exact.max()).sum())
    best = np.argsort(-logits)[:20]
    found = once(logits, bits(3000, [17]), temperature=0.3, top_k=5, top_p=0.5, logprobs=20)
    assert found.token == 17
    assert found.logprob == pytest.approx(exact[17], abs=1e-4)
    assert [token for token, _ in found.top] == best.tolist()
    assert [value for _, value in found.top] == pytest.approx(exact[best].tolist(), abs=1e-4)
    assert once(logits, logprobs=0).top == ()
    assert once(logits).logprob is None


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_broken_logits_are_refused(temperature: float, bad: float) -> None:
    logits = np.zeros(100, np.float32)
    logits[50] = bad
    with pytest.raises(Unsampleable, match="not numbers"):
        once(logits, temperature=temperature, logprobs=3)


def test_nothing_allowed() -> None:
    with pytest.raises(Unsampleable, match="No token is allowed"):
        once(np.zeros(100, np.float32), bits(100, []))


def test_extreme_temperatures_stay_exact() -> None:
    logits = np.array([0, 30, 29, -40], np.float32)
    assert once(logits, temperature=0.01).token == 1
    seen = {once(logits, temperature=1e6, seed=seed).token for seed in range(60)}
    assert seen == {0, 1, 2, 3}


@pytest.mark.parametrize("size", [10, 511, 512, 5000, 20_000])
@pytest.mark.parametrize("count", [1, 3, 40, 600])
def test_best_ids(size: int, count: int) -> None:
    rng = np.random.default_rng(size)
    for x in (
        rng.normal(size=size),
        rng.integers(0, 9, size),
        np.where(rng.random(size) < 0.01, 1, -np.inf),
    ):
        x = x.astype(np.float32)
        found = best_ids(x, count)
        bound = np.sort(x)[-min(count, size)]
        if bound > -np.inf:
            assert np.array_equal(found, np.flatnonzero(x >= bound))
        else:
            assert set(np.flatnonzero(x > -np.inf)) <= set(found.tolist())


@pytest.mark.parametrize("used", [[0], [1535], [511, 512], [3, 700]])
def test_locate_never_finds_a_token_without_weight(used: list[int]) -> None:
    weights = np.zeros(1536, np.float32)
    weights[used] = np.float32(0.1)
    sums = np.cumsum(weights.reshape(-1, 512).sum(axis=1), dtype=np.float64)
    for u in (0.0, 0.3, 0.5, 0.99999999, 1 - 2**-53):
        assert locate(weights, sums, u) in used
    assert locate(weights, sums, 0.0) == used[0]
    assert locate(weights, sums, 1 - 2**-53) == used[-1]


@pytest.mark.parametrize("vocab", [3, 600, 5_000])
def test_scores_are_the_softmax(vocab: int) -> None:
    logits = np.random.default_rng(vocab).normal(size=vocab).astype(np.float32) * 4
    sampler = Sampler(vocab, frozenset())
    right = logits - np.log(np.exp(logits.astype(np.float64)).sum())
    order = np.argsort(-right, kind="stable")
    for target in (0, vocab // 2, int(order[0])):
        logprob, rank, top = sampler.score(logits, target, 2)
        assert logprob == pytest.approx(right[target], abs=1e-4)
        assert order[rank - 1] == target
        assert [token for token, _ in top] == order[:2].tolist()
        assert [value for _, value in top] == pytest.approx(right[order[:2]], abs=1e-4)


def test_scores_of_what_is_no_number() -> None:
    logits = np.array([0.0, np.nan, 1.0], np.float32)
    logprob, rank, _ = Sampler(3, frozenset()).score(logits, 1, 2)
    assert math.isnan(logprob)
    assert rank == 1
    impossible = np.array([0.0, -np.inf, -np.inf], np.float32)
    logprob, rank, top = Sampler(3, frozenset()).score(impossible, 1, 3)
    assert (logprob, rank, top) == (-math.inf, 3, ((0, 0.0),))
