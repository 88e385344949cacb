"""Every architecture and every type of weights against llama.cpp, with the same GGUF file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.engine.executors.real import Driver, Real, load_real
from tests.support.tiny_models import MODELS, TYPES, write_model
from trunkline.core.types import SamplingParams
from trunkline.engine.seam import Chunk, OpenRow, Scoring

PROMPT = [int(t) for t in np.random.default_rng(3).integers(0, 256, 100)]


def all_logits(executor: Real, prompt: list[int], decoded: int) -> np.ndarray:
    """Logits behind every token of the prompt but the last `decoded` of it in one pass, behind
    those one by one; shape (tokens, vocab), centred.
    """
    driver = Driver(executor)
    row = OpenRow(driver.key(), SamplingParams(temperature=0.0), 1, np.array(prompt, np.int32))
    first = len(prompt) - decoded
    one = driver.chunk(row.key, 0, prompt[:first], 0, sample=True)
    targets = np.array(prompt[1:first], np.int32)
    scored = Chunk(one.key, 0, 0, one.tokens, 0, one.sample, one.blocks, Scoring(0, targets, 0))
    driver.step([scored], [row])
    found = [driver.logits(first)]
    for position in range(first, len(prompt)):
        driver.step(
            [driver.chunk(row.key, 0, prompt[position : position + 1], position, sample=True)]
        )
        found.append(driver.logits())
    logits: np.ndarray = np.concatenate(found).astype(np.float64)
    centred: np.ndarray = logits - logits.mean(axis=1, keepdims=True)
    return centred


def errors(path: Path, right: Path) -> dict[str, float]:
    """Of each executor, with the model at `path`: the relative error of a row of logits, in the
    median. The float model at `right`, computed by llama.cpp, says what is right.
    """
    (theirs,) = logits_of(right, "ggml")
    found = {}
    for name, logits in zip(("native", "ggml"), logits_of(path, "native", "ggml"), strict=True):
        error = np.sqrt(((logits - theirs) ** 2).mean(axis=1)) / theirs.std()
        found[name] = float(np.median(error))
    return found


def logits_of(path: Path, *names: str) -> list[np.ndarray]:
    """Of each of these executors."""
    found = []
    for name in names:
        executor = load_real(name, path)
        found.append(all_logits(executor, PROMPT, 12))
        executor.close()
    assert found[0].std() > 0.1
    return found


def difference(path: Path) -> np.ndarray:
    """Of both executors' logits, relative, of each row."""
    ours, theirs = logits_of(path, "native", "ggml")
    error: np.ndarray = np.sqrt(((ours - theirs) ** 2).mean(axis=1)) / theirs.std()
    return error


@pytest.mark.parametrize("model", MODELS)
def test_floats(tmp_path: Path, model: str) -> None:
    assert difference(write_model(tmp_path / "model.gguf", model)).max() < 0.02


@pytest.mark.parametrize("kind", [kind for kind in TYPES if kind != "F32"])
def test_types(tmp_path: Path, kind: str) -> None:
    """Both round activations to 8 bits, each in its own way; neither is further from the truth."""
    path = write_model(tmp_path / "model.gguf", "llama", kind)
    found = errors(path, write_model(tmp_path / "right.gguf", "llama", kind, restore=True))
    assert found["native"] < 1.1 * found["ggml"], found
    assert found["native"] < 0.05, found


def test_mixed_file(tmp_path: Path) -> None:
    """As Q4_K_M has them."""
    types = {"attn_v.weight": "Q6_K", "ffn_down.weight": "Q6_K", "output.weight": "Q6_K"}
    path = write_model(tmp_path / "model.gguf", "qwen2", "Q4_K", types=types)
    right = write_model(tmp_path / "right.gguf", "qwen2", "Q4_K", types=types, restore=True)
    found = errors(path, right)
    assert found["native"] < 1.1 * found["ggml"], found
    assert found["native"] < 0.08, found


@pytest.mark.parametrize("model", ["phi3", "gemma3", "mixtral", "qwen3moe"])
def test_types_elsewhere(tmp_path: Path, model: str) -> None:
    """Where two experts are nearly as good, either may be chosen: not in most rows."""
    error = difference(write_model(tmp_path / "model.gguf", model, "Q8_0"))
    assert np.quantile(error, 0.8) < 0.05


def test_linear_scaling(tmp_path: Path) -> None:
    path = write_model(tmp_path / "model.gguf", "qwen3", keys={"rope.scaling.factor": 4.0})
    assert difference(path).max() < 0.02


YARN = {"rope.scaling.type": "yarn"}


@pytest.mark.parametrize(
    ("model", "keys"),
    [
        ("qwen3", {"rope.scaling.factor": 4.0}),
        ("llama", {"rope.scaling.factor": 8.0, "rope.scaling.original_context_length": 64}),
        ("qwen2", {"rope.scaling.factor": 2.0, "rope.scaling.original_context_length": 32}),
        ("granite", {"rope.scaling.factor": 1.0, "rope.scaling.original_context_length": 512}),
    ],
)
def test_yarn(tmp_path: Path, model: str, keys: dict[str, float]) -> None:
    path = write_model(tmp_path / "model.gguf", model, keys=keys, text=YARN)
    assert difference(path).max() < 0.02


def test_none_is_not_scaled(tmp_path: Path) -> None:
    text = {"rope.scaling.type": "none"}
    path = write_model(tmp_path / "m.gguf", "llama", keys={"rope.scaling.factor": 4.0}, text=text)
    assert difference(path).max() < 0.02
