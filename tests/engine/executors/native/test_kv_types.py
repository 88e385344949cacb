"""Types of the KV cache: what they take, what they cost in exactness, and that they stay invariant.

Relative errors of a row of logits against llama.cpp with an f16 cache, in the median, as measured
with these models: see `LIMITS`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.native.test_architectures import PROMPT, all_logits
from tests.engine.executors.real import Driver, KvType, load_real
from tests.support.tiny_models import HEAD, KV_HEADS, layers_of, write_model
from trunkline.core.types import SamplingParams
from trunkline.engine.seam import CopyBlock, OpenRow

LIMITS: dict[KvType, float] = {"f16": 0.002, "bf16": 0.012, "int8": 0.03}


def logits(executor: str, path: Path, kv: KvType) -> np.ndarray:
    loaded = load_real(executor, path, kv=kv)
    found = all_logits(loaded, PROMPT, 12)
    loaded.close()
    return found


def error(ours: np.ndarray, right: np.ndarray) -> float:
    return float(np.median(np.sqrt(((ours - right) ** 2).mean(axis=1)) / right.std()))


@pytest.mark.parametrize("model", ["llama", "gemma2", "qwen3"])
def test_errors(tmp_path: Path, model: str) -> None:
    """Bytes cost no more exactness than llama.cpp's (Q8_0) do."""
    path = write_model(tmp_path / "model.gguf", model)
    right = logits("ggml", path, "f16")
    found = {kv: error(logits("native", path, kv), right) for kv in LIMITS}
    theirs = error(logits("ggml", path, "int8"), right)
    print(model, found, theirs)
    assert all(found[kv] < limit for kv, limit in LIMITS.items()), found
    assert found["int8"] < 1.2 * theirs, (found, theirs)
    assert found["f16"] < found["int8"]


@pytest.mark.parametrize(
    ("kv", "each"), [("f16", 4 * HEAD), ("bf16", 4 * HEAD), ("int8", 2 * HEAD + 8)]
)
def test_what_they_take(tmp_path: Path, kv: KvType, each: int) -> None:
    executor = load_real("native", write_model(tmp_path / "model.gguf", "llama"), kv=kv)
    assert executor.capabilities.kv_bytes_per_token == layers_of("llama") * KV_HEADS * each
    executor.close()


@pytest.mark.parametrize("kv", ["bf16", "int8"])
def test_cut_anyhow(tmp_path: Path, kv: KvType) -> None:
    """The same bits, in one pass or in pieces."""
    executor = load_real("native", write_model(tmp_path / "model.gguf", "qwen3"), kv=kv)
    driver = Driver(executor)
    prompt = np.array(PROMPT, np.int32)
    found = []
    for seq, cuts in enumerate(([], [1, 40, 99], [33])):
        row = OpenRow(driver.key(), SamplingParams(temperature=0.0), 1, prompt)
        opened = [row]
        for start, end in zip([0, *cuts], [*cuts, len(PROMPT)], strict=True):
            chunk = driver.chunk(row.key, seq, PROMPT[start:end], start, sample=end == len(PROMPT))
            driver.step([chunk], opened)
            opened = []
        found.append(driver.logits()[0].view(np.uint32))
    assert all((one == found[0]).all() for one in found)
    executor.close()


@pytest.mark.parametrize("kv", ["bf16", "int8"])
def test_shared_blocks_and_copies(tmp_path: Path, kv: KvType) -> None:
    """A prefix that rows share, and a fork's copy of a block that is half full: the same bits."""
    executor = load_real("native", write_model(tmp_path / "model.gguf", "qwen3"), kv=kv)
    driver = Driver(executor)
    stem, greedy = PROMPT[:80], SamplingParams(temperature=0.0)
    tails = [PROMPT[80 + number : 90 + number] for number in range(4)]
    right = []
    for tail in tails:
        row = OpenRow(driver.key(), greedy, 1, np.array([*stem, *tail], np.int32))
        driver.step([driver.chunk(row.key, 9, [*stem, *tail], 0, sample=True)], [row])
        right.append(driver.logits()[0].view(np.uint32))
    row = OpenRow(driver.key(), greedy, 1, np.array(stem, np.int32))
    driver.step([driver.chunk(row.key, 0, stem, 0)], [row])
    # Two blocks of 32 are shared; the third has 16 positions of the stem.
    own = [driver.each * (number + 1) for number in range(len(tails))]
    chunks = [
        driver.chunk(driver.key(), 0, tail, 80, sample=True, table=[0, 1, block])
        for tail, block in zip(tails, own, strict=True)
    ]
    rows = [OpenRow(chunk.key, greedy, 1, np.array(stem, np.int32)) for chunk in chunks]
    driver.step(chunks, rows, [CopyBlock(2, block) for block in own])
    found = driver.logits(len(tails)).view(np.uint32)
    assert all((ours == theirs).all() for ours, theirs in zip(found, right, strict=True))
    assert len({one.tobytes() for one in right}) == len(tails)
    executor.close()
