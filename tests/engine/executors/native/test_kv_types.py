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
from trunkline.engine.seam import OpenRow

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
