"""A row's logits are the same bits, whoever shares its batch and however its prompt was cut."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.real import Driver, Real, load_real
from tests.support.tiny_models import MODELS, write_model
from trunkline.core.types import SamplingParams
from trunkline.engine.seam import CopyBlock, OpenRow

GREEDY = SamplingParams(temperature=0.0)
CASES = [(model, "F32") for model in MODELS] + [
    *[("llama", kind) for kind in ("F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q5_K", "Q6_K")],
    *[("gemma2", "Q8_0"), ("qwen3moe", "Q4_K")],
]


@pytest.fixture(scope="module", params=CASES, ids="-".join)
def driver(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Driver]:
    model, kind = request.param
    path = write_model(tmp_path_factory.mktemp("models") / "model.gguf", model, kind)
    executor = load_real("native", path)
    yield Driver(executor, each=16)
    executor.close()


@pytest.fixture
def rng() -> np.random.Generator:
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    return np.random.default_rng(seed)


def text(rng: np.random.Generator, count: int) -> list[int]:
    found: list[int] = rng.integers(0, 256, count).tolist()
    return found


def logits_alone(driver: Driver, prompt: list[int], seq: int = 0) -> np.ndarray:
    """Behind the whole prompt, computed in one pass with nobody else."""
    row = OpenRow(driver.key(), GREEDY, 1, np.array(prompt, np.int32))
    driver.step([driver.chunk(row.key, seq, prompt, 0, sample=True)], [row])
    found: np.ndarray = driver.logits()[0]
    return found


def equal(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool((ours.view(np.uint32) == theirs.view(np.uint32)).all())


def test_cut_anyhow(driver: Driver, rng: np.random.Generator) -> None:
    prompt = text(rng, int(rng.integers(60, 200)))
    right = logits_alone(driver, prompt)
    for _ in range(4):
        cuts = sorted(rng.choice(len(prompt) - 1, int(rng.integers(1, 9)), replace=False) + 1)
        row = OpenRow(driver.key(), GREEDY, 1, np.array(prompt, np.int32))
        seq, opened = int(rng.integers(1, 20)), [row]
        for start, end in zip([0, *cuts], [*cuts, len(prompt)], strict=True):
            last = end == len(prompt)
            driver.step([driver.chunk(row.key, seq, prompt[start:end], start, sample=last)], opened)
            opened = []
        assert equal(driver.logits()[0], right), f"cut at {cuts}"


def test_whoever_shares_the_batch(driver: Driver, rng: np.random.Generator) -> None:
    """Rows that decode beside others and beside pieces of prompts, in any order."""
    prompts = [text(rng, int(rng.integers(1, 90))) for _ in range(12)]
    right = [logits_alone(driver, prompt) for prompt in prompts]
    rows = [OpenRow(driver.key(), GREEDY, 1, np.array(p, np.int32)) for p in prompts]
    # Some have all but the last token in memory already.
    known = [len(p) - 1 if rng.random() < 0.5 else 0 for p in prompts]
    begun = [i for i in range(12) if known[i]]
    before = [driver.chunk(rows[i].key, i, prompts[i][: known[i]], 0) for i in begun]
    driver.step(before, rows)
    order = rng.permutation(12).tolist()
    chunks = [
        driver.chunk(rows[i].key, i, prompts[i][known[i] :], known[i], sample=True) for i in order
    ]
    driver.step(chunks)
    found = driver.logits(12)
    assert all(equal(found[place], right[i]) for place, i in enumerate(order))


def test_shared_blocks_and_copies(driver: Driver, rng: np.random.Generator) -> None:
    """Rows whose first blocks are the same ones, and a fork's copy of a partial block."""
    stem = text(rng, 80)
    tails = [text(rng, int(rng.integers(1, 30))) for _ in range(6)]
    right = [logits_alone(driver, stem + tail, 30) for tail in tails]
    row = OpenRow(driver.key(), GREEDY, 1, np.array(stem, np.int32))
    driver.step([driver.chunk(row.key, 0, stem, 0)], [row])
    chunks, copies = [], []
    for number, tail in enumerate(tails):
        # Two whole blocks are shared; the third, half full, is copied.
        own = [(number + 1) * driver.each + place for place in range(5)]
        copies.append(CopyBlock(2, own[0]))
        chunks.append(driver.chunk(driver.key(), 0, tail, 80, sample=True, table=[0, 1, *own]))
    rows = [OpenRow(chunk.key, GREEDY, 1, np.array(stem, np.int32)) for chunk in chunks]
    driver.step(chunks, rows, copies)
    found = driver.logits(len(tails))
    assert all(equal(ours, theirs) for ours, theirs in zip(found, right, strict=True))


@pytest.mark.parametrize("kind", ["F32", "F16", "Q8_0", "Q4_K"])
def test_whatever_number_of_threads(tmp_path: Path, kind: str, rng: np.random.Generator) -> None:
    path = write_model(tmp_path / "model.gguf", "qwen3", kind)
    prompt = text(rng, 300)
    found = []
    for threads in (1, 2, 3, 5):
        executor: Real = load_real("native", path, threads=threads)
        found.append(logits_alone(Driver(executor, each=16), prompt))
        executor.close()
    assert all(equal(one, found[0]) for one in found)


def test_long_prompts_go_in_parts(tmp_path: Path, rng: np.random.Generator) -> None:
    """More tokens in a step than the engine computes together."""
    path = write_model(tmp_path / "model.gguf", "gemma3", "Q8_0")
    executor = load_real("native", path)
    driver = Driver(executor, each=32)
    prompt = text(rng, 1000)
    whole = logits_alone(driver, prompt)
    row = OpenRow(driver.key(), GREEDY, 1, np.array(prompt, np.int32))
    for start in range(0, 1000, 100):
        piece = prompt[start : start + 100]
        chunk = driver.chunk(row.key, 1, piece, start, sample=start == 900)
        driver.step([chunk], [] if start else [row])
    assert equal(driver.logits()[0], whole)
    executor.close()


def test_what_lay_in_a_block_before_does_not_matter(
    tmp_path: Path, rng: np.random.Generator
) -> None:
    """Not even where it is no number: a row that fails spoils no other."""
    path = write_model(tmp_path / "model.gguf", "llama", "F32")
    executor = load_real("native", path)
    driver = Driver(executor)
    prompt = text(rng, 70)
    right = logits_alone(driver, prompt)
    # Token 5 of this copy has an embedding that is no number.
    broken = load_real("native", write_model(tmp_path / "nan.gguf", "llama", nan=True))
    other = Driver(broken)
    row = OpenRow(other.key(), GREEDY, 1, np.array([5] * 90, np.int32))
    result = other.step([other.chunk(row.key, 0, [5] * 90, 0, sample=True)], [row])
    assert "not numbers" in result.failed[0].error.message
    clean = [token for token in prompt if token != 5]
    expected = logits_alone(driver, clean)
    assert equal(logits_alone(other, clean), expected)
    assert not equal(expected, right) or clean == prompt
    executor.close()
    broken.close()
