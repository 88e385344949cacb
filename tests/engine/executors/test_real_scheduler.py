"""The scheduler over executors that really compute: what rows say is what they say alone.

The native engine is batch-invariant, so texts drawn at temperature 1 are equal too. llama.cpp is
not; greedy texts of a model whose logits are far apart are equal all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.real import Driver, Real, RealHarness, load_real
from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.core.types import SamplingParams
from trunkline.engine.scheduler import SchedulerLimits
from trunkline.engine.seam import OpenRow, RowKey

STEM = [int(t) for t in np.random.default_rng(5).integers(0, 256, 150)]
# Cells of the pool; the model takes 256 bytes of KV per token, and llama.cpp 1,024 for its mask.
SMALL = {"ggml": 512 * (256 + 1024), "native": 512 * 256}


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("models") / "tiny.gguf")


@pytest.fixture(params=["ggml", "native"])
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def pair(name: str, path: Path) -> Iterator[tuple[Real, Real]]:
    """Two of them: a small pool that 512 tokens fill, and one that is asked what is right."""
    both = load_real(name, path, kv_memory=SMALL[name]), load_real(name, path)
    yield both
    for one in both:
        one.close()


def params(name: str, count: int, seed: int = 0) -> SamplingParams:
    temperature = 1.0 if name == "native" else 0.0
    return SamplingParams(
        max_tokens=count, temperature=temperature, seed=seed, top_p=0.95, ignore_eos=True
    )


def test_prefixes_are_shared_and_rows_fork(name: str, pair: tuple[Real, Real]) -> None:
    harness = RealHarness(*pair)
    harness.add(STEM[:120], params(name, 12), n=3)
    harness.step()
    harness.step()
    for cut in (120, 96, 40):
        harness.add([*STEM[:cut], cut % 7, 3, 9], params(name, 10, cut))
    harness.run()
    hits = harness.scheduler.stats().prefix_hits
    assert hits >= 2


def test_preempted_rows_say_the_same(name: str, pair: tuple[Real, Real]) -> None:
    harness = RealHarness(*pair)
    rng = np.random.default_rng(7)
    for number in range(8):
        prompt = rng.integers(0, 256, 60).tolist()
        harness.add(prompt, params(name, 60, number))
    harness.run()
    starts = [chunk for plan in harness.executor.plans for chunk in plan.chunks if not chunk.start]
    assert len(starts) > 8, "nobody was preempted"


def test_cancelled_rows_free_their_memory(name: str, pair: tuple[Real, Real]) -> None:
    harness = RealHarness(*pair)
    for number in range(4):
        harness.add(STEM[: 30 + number], params(name, 100, number), n=2)
    for _ in range(5):
        harness.step()
    harness.abort(0)
    harness.abort(2, 1)
    harness.abort(3)
    harness.run()
    assert len(harness.finished) == 3


def test_random_load(name: str, pair: tuple[Real, Real]) -> None:
    """Fresh each run; the seed is in the message of a failure."""
    seed = int(np.random.SeedSequence().entropy % 2**32)  # type: ignore[operator]
    rng = np.random.default_rng(seed)
    limits = SchedulerLimits(max_num_seqs=16, max_step_seconds=0.02, min_shared_tokens=32)
    harness = RealHarness(*pair, limits)
    try:
        for number in range(30):
            head = STEM[: int(rng.integers(0, 120))]
            tail = rng.integers(0, 256, int(rng.integers(1, 20))).tolist()
            count = int(rng.integers(1, 25))
            harness.add(head + tail, params(name, count, number), n=int(rng.integers(1, 4)))
            for _ in range(int(rng.integers(0, 6))):
                harness.step()
            if rng.random() < 0.2:
                harness.abort(int(rng.integers(0, number + 1)))
        harness.run()
    except AssertionError as error:
        raise AssertionError(f"seed {seed}") from error


@pytest.mark.parametrize(("name", "rows"), [("ggml", 256), ("native", 512)], indirect=["name"])
def test_many_sequences(name: str, rows: int, path: Path) -> None:
    executor, second = load_real(name, path), load_real(name, path)
    # No bound of time: all have a place before the first one ends.
    limits = SchedulerLimits(max_num_seqs=rows, max_step_seconds=600.0)
    harness = RealHarness(executor, second, limits)
    for number in range(rows):
        harness.add(STEM[number % 5 : number % 5 + 9], params(name, 3, number % 7))
    most = 0
    while harness.step():
        most = max(most, len(harness.executor.plans[-1].chunks))
    assert most > rows * 3 // 4
    assert len(harness.finished) == rows
    for number in range(0, rows, 37):
        harness.verify(RowKey(number, 0))
    executor.close()
    second.close()


def test_masks(name: str, path: Path) -> None:
    """Rows with a mask say allowed tokens alone, their neighbours what they would say anyway."""
    executor = load_real(name, path)
    driver = Driver(executor)
    words = -(-executor.capabilities.vocab_size // 32)
    greedy = SamplingParams(temperature=0.0)
    prompt = np.array(STEM[:20], np.int32)
    rows = [OpenRow(driver.key(), greedy, 1, prompt) for _ in range(3)]
    chunks = [driver.chunk(row.key, seq, STEM[:20], 0, sample=True) for seq, row in enumerate(rows)]
    free = driver.step(chunks, rows).sampled[0].token
    masks = np.full((3, words), 0xFFFFFFFF, np.uint32)
    masks[1] = 0
    masks[1, 2] = 1 << 5
    chunks = [driver.chunk(row.key, seq, [free], 20, sample=True) for seq, row in enumerate(rows)]
    found = [one.token for one in driver.step(chunks, masks=masks).sampled]
    assert found[1] == 2 * 32 + 5
    assert found[0] == found[2]
    executor.close()
