"""Folders of safetensors become the GGUF files that llama.cpp's converter would write."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support import tiny_models
from tests.support.tiny_gguf import CHATML, SPECIALS, tokens
from tests.support.tiny_hf import CONFIGS, write_folder
from trunkline.core.errors import InvalidRequest
from trunkline.formats.gguf import Gguf, GgufArray
from trunkline.store.convert import ensure_gguf
from trunkline.store.resolve import is_model_folder, resolve


def convert(tmp_path: Path, model: str, kind: str = "keep", **fields: Any) -> Gguf:
    folder = write_folder(tmp_path / model, model, **fields)
    return Gguf(ensure_gguf(folder, kind, tmp_path / "cache"))


@pytest.mark.parametrize("model", CONFIGS)
def test_weights_are_the_same(tmp_path: Path, model: str) -> None:
    like = "llama" if model == "mistral" else model
    weights = tiny_models.random_weights(like)
    found = convert(tmp_path, model)
    assert {one.name for one in found.tensors} == set(weights)
    for one in found.tensors:
        right = weights[one.name]
        assert one.shape == right.shape[::-1]
        ours = found.data(one).view(np.float32).reshape(right.shape)
        np.testing.assert_allclose(ours, right, rtol=0, atol=1e-6 if "norm" in one.name else 0)


@pytest.mark.parametrize("model", CONFIGS)
def test_hyperparameters_are_the_same(tmp_path: Path, model: str) -> None:
    like = "llama" if model == "mistral" else model
    arch, more, _ = tiny_models.MODELS[like]
    found = convert(tmp_path, model)
    assert found.string("general.architecture") == arch
    for key, value in more.items():
        if key != "rope.scaling.original_context_length":
            assert found.metadata[f"{arch}.{key}"] == pytest.approx(value), key
    for key, right in (("block_count", tiny_models.layers_of(like)), ("context_length", 1024)):
        assert found.integer(f"{arch}.{key}") == right
    assert found.integer(f"{arch}.attention.key_length") == tiny_models.HEAD


def test_vocabulary(tmp_path: Path) -> None:
    found = convert(tmp_path, "qwen2")
    words = found.array("tokenizer.ggml.tokens")
    assert isinstance(words, GgufArray)
    assert words.strings() == tokens()
    kinds = found.array("tokenizer.ggml.token_type")
    assert isinstance(kinds, GgufArray)
    assert kinds.numbers().tolist() == [1] * (len(tokens()) - 3) + [3] * 3
    assert found.string("tokenizer.ggml.pre") == "qwen2"
    assert found.integer("tokenizer.ggml.eos_token_id") == tokens().index(SPECIALS[-1])
    assert found.string("tokenizer.chat_template") == CHATML


@pytest.mark.parametrize(
    ("dtype", "kind", "types"),
    [
        ("BF16", "keep", {30}),
        ("F16", "keep", {1}),
        ("BF16", "q8_0", {8}),
        ("BF16", "q4_k", {12, 14}),
    ],
)
def test_types_of_matrices(tmp_path: Path, dtype: str, kind: str, types: set[int]) -> None:
    found = convert(tmp_path, "llama", kind, dtype=dtype)
    assert {one.kind for one in found.tensors if len(one.shape) > 1} == types
    assert {one.kind for one in found.tensors if len(one.shape) == 1} == {0}
    one = next(one for one in found.tensors if one.name == "blk.0.ffn_up.weight")
    name = {8: "Q8_0", 12: "Q4_K", 30: "BF16", 1: "F16"}[one.kind]
    # Queries and keys are made anew from floats; this one is as it was, or quantized by ggml.
    right = tiny_models.quantized(tiny_models.random_weights("llama")[one.name], name)
    assert (found.data(one) == right.reshape(-1)).all()


def test_llama3_stretches_slow_frequencies(tmp_path: Path) -> None:
    scaling = {
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 256,
    }
    found = convert(tmp_path, "llama", config={"rope_scaling": scaling})
    factors = found.floats("rope_freqs.weight")
    assert factors is not None
    assert (factors[0], factors[-1]) == (1.0, 8.0)
    assert (np.diff(factors) >= 0).all()


def test_what_is_converted_is_kept_until_the_folder_changes(tmp_path: Path) -> None:
    folder, cache = write_folder(tmp_path / "model", "llama"), tmp_path / "cache"
    seen: list[float] = []
    first = ensure_gguf(folder, "q8_0", cache, seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1.0
    made = first.stat().st_mtime_ns
    assert ensure_gguf(folder, "q8_0", cache) == first
    assert first.stat().st_mtime_ns == made
    assert ensure_gguf(folder, "keep", cache) != first
    write_folder(folder, "llama", config={"max_position_embeddings": 99})
    assert ensure_gguf(folder, "q8_0", cache) != first
    assert not [path for path in cache.iterdir() if path.suffix != ".gguf"]


def test_a_folder_is_not_taken_for_another(tmp_path: Path) -> None:
    """Neither one of the same name elsewhere, nor what lay there before, however alike."""
    cache, folders = tmp_path / "cache", [tmp_path / name / "model" for name in "ab"]
    for folder in folders:
        write_folder(folder, "llama")
    weights = [folder / "model.safetensors" for folder in folders]
    data = bytearray(weights[0].read_bytes())
    data[-8:] = bytes(8)
    weights[1].write_bytes(data)
    for one in (path for folder in folders for path in folder.iterdir()):
        os.utime(one, ns=(0, 0))
    first, second = (ensure_gguf(folder, "keep", cache) for folder in folders)
    assert first.read_bytes() != second.read_bytes()
    shutil.copy2(weights[1], weights[0])
    assert weights[0].stat().st_mtime_ns == 0
    assert ensure_gguf(folders[0], "keep", cache).read_bytes() == second.read_bytes()


def test_two_convert_the_same_folder_at_once(tmp_path: Path) -> None:
    """Of one process even: both go on while the other one writes, and nothing half done is seen."""
    folder, cache = write_folder(tmp_path / "model", "llama"), tmp_path / "cache"
    both, seen = threading.Barrier(2, timeout=30), []

    def wait(_: float) -> None:
        if not both.broken and not list(cache.glob("*.gguf")):
            seen.append(len(list(cache.glob("*.gguf.*"))))
            both.wait()
            both.abort()

    def convert_one(_: int) -> bytes:
        with contextlib.suppress(threading.BrokenBarrierError):
            return ensure_gguf(folder, "q8_0", cache, wait).read_bytes()
        return ensure_gguf(folder, "q8_0", cache).read_bytes()

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(convert_one, range(2))
    assert first == second
    Gguf(next(cache.glob("*.gguf"))).close()
    assert len(list(cache.iterdir())) == 1


def test_what_a_killed_conversion_left_is_removed(tmp_path: Path) -> None:
    folder, cache = write_folder(tmp_path / "model", "llama"), tmp_path / "cache"
    cache.mkdir()
    old, new = cache / "model-keep-0.gguf.abc", cache / "model-keep-0.gguf.def"
    for path in (old, new):
        path.write_bytes(b"GGUF")
    os.utime(old, (0, 0))
    made = ensure_gguf(folder, "keep", cache)
    assert set(cache.iterdir()) == {made, new}


def test_a_conversion_that_fails_leaves_nothing(tmp_path: Path) -> None:
    folder, cache = write_folder(tmp_path / "model", "llama"), tmp_path / "cache"

    def full(_: float) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(InvalidRequest, match="No space left"):
        ensure_gguf(folder, "keep", cache, full)
    assert not list(cache.iterdir())


def test_ids_beyond_the_embedding(tmp_path: Path) -> None:
    """One is enough; nobody makes a list of all the words before it."""
    folder = write_folder(tmp_path / "model", "llama")
    whole = json.loads((folder / "tokenizer.json").read_text())
    whole["model"]["vocab"]["far"] = 1 << 60
    (folder / "tokenizer.json").write_text(json.dumps(whole))
    with pytest.raises(InvalidRequest, match="words for"):
        ensure_gguf(folder, "keep", tmp_path / "cache")


def test_resolve_takes_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path / "home"))
    folder = write_folder(tmp_path / "tiny-qwen", "qwen3")
    assert is_model_folder(folder)
    found = resolve(str(folder), quantize="q8_0")
    assert found.name == "tiny-qwen"
    assert found.path.is_relative_to(tmp_path / "home" / "converted")
    assert not is_model_folder(tmp_path)
    with pytest.raises(InvalidRequest, match="not a file"):
        resolve(str(tmp_path))


def test_sentencepiece(tmp_path: Path) -> None:
    pieces = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("▁a", -1.5, 1), ("<0x0A>", 0.0, 6)]
    data = b""
    for text, score, kind in pieces:
        body = b"\x0a" + bytes([len(text.encode())]) + text.encode()
        body += b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind])
        data += b"\x0a" + bytes([len(body)]) + body
    folder = write_folder(tmp_path / "model", "gemma2")
    (folder / "tokenizer.model").write_bytes(data + b"\x12\x02\x18\x01")
    settings = {"added_tokens_decoder": {"5": {"content": "<turn>", "special": True}}}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "tokenizer.json").unlink()
    found = Gguf(ensure_gguf(folder, "keep", tmp_path / "cache"))
    words, scores = found.array("tokenizer.ggml.tokens"), found.array("tokenizer.ggml.scores")
    assert words is not None
    assert scores is not None
    assert words.strings()[:6] == ["<unk>", "<s>", "▁a", "<0x0A>", "[PAD4]", "<turn>"]
    assert scores.numbers()[2] == -1.5
    assert words.count == scores.count == tiny_models.VOCAB
    (folder / "tokenizer.model").write_bytes(data[:-3])
    with pytest.raises(InvalidRequest, match="damaged"):
        ensure_gguf(folder, "keep", tmp_path / "cache")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"model_type": "mamba"}, "mamba"),
        ({"model_type": None}, "None"),
        ({"hidden_size": 0}, "embedding_length"),
        ({"hidden_size": "wide"}, "embedding_length"),
        ({"num_attention_heads": "x"}, "head_count"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 4}}, "dynamic"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4, "mscale": 0.7}}, "mscale"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 4, "truncate": False}}, "truncate"),
        ({"rope_scaling": {"rope_type": "linear"}}, "factor"),
        ({"quantization_config": {"bits": 4}}, "quantized already"),
        ({"num_hidden_layers": 1 << 70}, "not what was expected"),
        ({"hidden_size": 1e300}, "not what was expected"),
        (
            {
                "rope_scaling": {"rope_type": "longrope"},
                "original_max_position_embeddings": 1,
            },
            "not what was expected",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_converted_is_named(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = write_folder(tmp_path / "model", "llama", config=config)
    with pytest.raises(InvalidRequest, match=message):
        ensure_gguf(folder, "keep", tmp_path / "cache")
    assert not list((tmp_path / "cache").glob("*"))


def test_nested_without_end(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "llama")
    (folder / "config.json").write_text('{"a":' + "[" * 9000 + "]" * 9000 + "}")
    with pytest.raises(InvalidRequest, match="not what was expected"):
        ensure_gguf(folder, "keep", tmp_path / "cache")


def test_yarn(tmp_path: Path) -> None:
    scaling = {"rope_type": "yarn", "factor": 4.0, "beta_fast": 16}
    config = {"rope_scaling": {**scaling, "original_max_position_embeddings": 256}}
    folder = write_folder(tmp_path / "model", "qwen3", config=config)
    with Gguf(ensure_gguf(folder, "keep", tmp_path / "cache")) as gguf:
        prefix = "qwen3.rope.scaling."
        found = {k: v for k, v in gguf.metadata.items() if k.startswith(prefix)}
    assert found == {
        f"{prefix}type": "yarn",
        f"{prefix}factor": 4.0,
        f"{prefix}original_context_length": 256,
        f"{prefix}yarn_beta_fast": 16.0,
    }


def test_changed_bytes_are_refused_in_words(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "model", "qwen3")
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    seed = int(np.random.SeedSequence().generate_state(1)[0])
    print(f"seed {seed}")
    rng = np.random.default_rng(seed)
    head = 8 + int.from_bytes(whole[:8], "little")
    for number in range(60):
        data = bytearray(whole)
        for _ in range(3):
            data[int(rng.integers(0, head))] = int(rng.integers(32, 127))
        path.write_bytes(data[: int(rng.integers(9, len(data)))] if number % 5 == 0 else data)
        try:
            ensure_gguf(folder, "keep", tmp_path / "cache")
        except InvalidRequest:
            pass
