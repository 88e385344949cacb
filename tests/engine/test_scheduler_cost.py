"""The cost model finds the machine's prices, and the budget keeps to them."""

from __future__ import annotations

import random

import pytest

from trunkline.engine.cost import CostModel, StepBudget, attended

# Seconds per step, prefill token, decoding row, attended entry: a fast GPU, a laptop, a slow CPU.
MACHINES = [(0.004, 2e-5, 1e-4, 1e-9), (0.02, 3e-3, 0.012, 2e-7), (0.1, 0.03, 0.1, 2e-6)]


def drive(model: CostModel, prices: tuple[float, ...], steps: int, noise: float = 0.05) -> None:
    """Mixed steps."""
    rng = random.Random(1)
    a, b, c, d = prices
    for _ in range(steps):
        prefill = rng.choice([0, 0, 32, 128, 512])
        rows = rng.randint(0 if prefill else 1, 16)
        seen = attended(prefill, rng.randint(0, 2000)) + rows * rng.randint(10, 2000)
        seconds = a + b * prefill + c * rows + d * seen
        model.observe(prefill, rows, seen, seconds * rng.uniform(1 - noise, 1 + noise))


@pytest.mark.parametrize("prices", MACHINES)
def test_it_learns_any_machine(prices: tuple[float, ...]) -> None:
    model = CostModel()
    drive(model, prices, 150)
    a, b, c, d = prices
    for prefill, rows in [(0, 8), (256, 0), (64, 8)]:
        seen = attended(prefill, 500) + rows * 500
        expected = a + b * prefill + c * rows + d * seen
        assert model.seconds(prefill, rows, seen) == pytest.approx(expected, rel=0.2)


def test_what_is_not_seen_is_not_forgotten() -> None:
    model = CostModel()
    drive(model, MACHINES[1], 150)
    before = model.prefill_seconds(256, 0)
    for _ in range(3000):
        model.observe(0, 4, 4000, 0.02 + 4 * 0.012 + 4000 * 2e-7)
    assert model.prefill_seconds(256, 0) == pytest.approx(before, rel=0.2)


def test_one_hiccup_changes_little_and_a_new_pace_is_learned() -> None:
    model = CostModel()
    drive(model, MACHINES[1], 200)
    before = model.seconds(128, 4, 10_000)
    model.observe(128, 4, 10_000, 60.0)
    assert model.seconds(128, 4, 10_000) < 1.5 * before
    drive(model, tuple(3 * price for price in MACHINES[1]), 400)
    assert model.seconds(128, 4, 10_000) == pytest.approx(3 * before, rel=0.3)


@pytest.mark.parametrize("prices", [*MACHINES, (0.012, 0.0048, 0.016, 4e-7)])
def test_the_first_chunk_of_all_is_no_gamble(prices: tuple[float, ...]) -> None:
    """Decoding rows do not pay for what is not known yet; soon it is, and chunks are as usual."""
    a, b, c, d = prices
    model = CostModel()
    chunks: list[int] = []
    steps: list[float] = []
    for _ in range(10):
        model.observe(0, 4, 400, a + 4 * c + 400 * d)
    for _ in range(6):
        left = StepBudget(model, 0.19 - model.seconds(0, 4, 400), 2048, 16, 16)
        chunks.append(left.chunk(10_000, 0))
        seen = attended(chunks[-1], 0) + 400
        steps.append(a + b * chunks[-1] + 4 * c + seen * d)
        model.observe(chunks[-1], 4, seen, steps[-1])
    assert max(steps) < 0.2 or chunks == [16] * 6
    assert chunks[-1] >= min(2048, 0.75 * (0.19 - a - 4 * c) / b - 16)


@pytest.mark.parametrize("span", [0, 1000, 100_000])
def test_tokens_and_seconds_are_inverse(span: int) -> None:
    model = CostModel()
    drive(model, MACHINES[1], 100)
    tokens = model.prefill_tokens(0.5, span)
    assert model.prefill_seconds(tokens, attended(tokens, span)) <= 0.5
    more = tokens + 1
    assert model.prefill_seconds(more, attended(more, span)) > 0.5 * 0.99
    assert model.prefill_tokens(-1.0, span) == 0


def budget(seconds: float, tokens: int = 2048, least: int = 32) -> StepBudget:
    """With one millisecond per token, as is well known."""
    model = CostModel()
    drive(model, (2e-3, 1e-3, 2e-3, 1e-8), 150, noise=0)
    return StepBudget(model, seconds, tokens, least, 32)


def test_chunks_are_whole_grains_without_crumbs() -> None:
    assert budget(0.11).chunk(1000, 0) == 96
    # The rest would be a crumb: it comes along.
    assert budget(0.11).chunk(110, 0) == 110
    assert budget(0.11).chunk(20, 0) == 20
    assert budget(10.0, tokens=50).chunk(1000, 0) == 50


def test_only_the_first_chunk_is_guaranteed() -> None:
    short = budget(0.0)
    assert short.chunk(1000, 0) == 32
    short.spend(32, 0)
    assert short.chunk(1000, 0) == 0
    rest = budget(0.11)
    rest.spend(96, 0)
    assert rest.chunk(1000, 0) == 0
    assert rest.chunk(3, 0) == 3
