"""Files with bytes changed at random: they load and compute, or are refused in words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.real import Driver
from tests.support.tiny_models import write_model
from trunkline.core.errors import TrunklineError
from trunkline.core.types import SamplingParams
from trunkline.engine.config import EngineConfig
from trunkline.engine.executors import native
from trunkline.engine.seam import OpenRow

# Values that break arithmetic when nobody looks.
NASTY = (0, 1, 0x7F, 0x80, 0xFF)
ROUNDS = 120


def config(path: Path) -> EngineConfig:
    return EngineConfig(
        name="bad", model=str(path), threads=1, ctx_size=64, kv_memory=1 << 20, executor="native"
    )


def survive(path: Path) -> bool:
    """True: it loaded, and computed a step."""
    try:
        executor = native.load(config(path), lambda _: None)
    except TrunklineError:
        return False
    driver = Driver(executor, each=2)
    row = OpenRow(driver.key(), SamplingParams(temperature=0.0), 1, np.array([1], np.int32))
    driver.step([driver.chunk(row.key, 0, [1, 2, 3], 0, sample=True)], [row])
    executor.close()
    return True


def regions(data: bytes) -> tuple[range, range]:
    """Hyperparameters, and descriptions of tensors: all that the vocabulary leaves of the head."""
    words = data.index(b"tokenizer.ggml.model")
    tensors = data.index(b"token_embd.weight")
    end = data.rindex(b"output_norm.weight") + 64
    return range(24, words), range(tensors - 8, end)


@pytest.mark.parametrize("model", ["llama", "qwen3moe", "phi3", "gemma3"])
def test_changed_bytes(tmp_path: Path, model: str) -> None:
    whole = write_model(tmp_path / "whole.gguf", model, "Q8_0").read_bytes()
    parts = regions(whole)
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    path, loaded = tmp_path / "bad.gguf", 0
    for _ in range(ROUNDS // 4):
        data = bytearray(whole)
        part = parts[int(rng.integers(2))]
        for _ in range(int(rng.integers(1, 4))):
            place = int(rng.integers(part.start, part.stop))
            data[place] = int(rng.choice(NASTY)) if rng.random() < 0.5 else int(rng.integers(256))
        path.write_bytes(data)
        loaded += survive(path)
    assert loaded < ROUNDS // 4


def test_changed_weights_compute(tmp_path: Path) -> None:
    """Weights are numbers, whatever they are: no byte of them makes anything but numbers."""
    whole = write_model(tmp_path / "whole.gguf", "llama", "Q4_K").read_bytes()
    start = regions(whole)[1].stop + 64
    rng = np.random.default_rng(1)
    data = np.frombuffer(whole, np.uint8).copy()
    data[start:] = rng.integers(0, 256, len(data) - start)
    path = tmp_path / "noise.gguf"
    path.write_bytes(data.tobytes())
    assert survive(path)


def test_cut_short(tmp_path: Path) -> None:
    whole = write_model(tmp_path / "whole.gguf", "qwen2", "Q8_0").read_bytes()
    path = tmp_path / "cut.gguf"
    for end in np.random.default_rng(2).integers(0, len(whole) - 32, 20).tolist():
        path.write_bytes(whole[:end])
        assert not survive(path)


@pytest.mark.parametrize(
    "keys",
    [
        {"attention.head_count": 0},
        {"attention.head_count": 1 << 30},
        {"attention.head_count_kv": 3},
        {"attention.key_length": 0},
        {"attention.key_length": 0, "attention.value_length": 0},
        {"rope.dimension_count": 31},
        {"rope.dimension_count": 1 << 20},
        {"rope.freq_base": float("nan")},
        {"rope.freq_base": -4.0},
        {"block_count": 4000},
        {"expert_count": 1 << 20, "expert_used_count": 1 << 20},
        {"feed_forward_length": 1 << 31},
        {"attention.layer_norm_rms_epsilon": float("inf")},
    ],
    ids=str,
)
def test_impossible_hyperparameters(tmp_path: Path, keys: dict[str, int | float]) -> None:
    assert not survive(write_model(tmp_path / "bad.gguf", "llama", keys=keys))


@pytest.mark.parametrize(
    "keys",
    [
        {"rope.scaling.yarn_beta_fast": -1.0},
        {"rope.scaling.yarn_beta_slow": 0.0},
        {"rope.scaling.factor": -4.0},
        {"rope.scaling.factor": float("inf")},
        {"rope.freq_base": 1.0},
        {"rope.scaling.yarn_ext_factor": 0.5},
    ],
    ids=str,
)
def test_impossible_scaling(tmp_path: Path, keys: dict[str, float]) -> None:
    text = {"rope.scaling.type": "yarn"}
    assert not survive(write_model(tmp_path / "bad.gguf", "llama", keys=keys, text=text))
