"""A tiny random model through GGUF and back to safetensors."""

from __future__ import annotations

import dataclasses
import importlib
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("tokenizers")
gguf = pytest.importorskip("gguf")
layout = importlib.import_module("caboose.layout")
files = importlib.import_module("caboose.files")
model = importlib.import_module("caboose.model")
tokenizer = importlib.import_module("caboose.tokenizer")
export = importlib.import_module("caboose.export")
converter = importlib.import_module("gguf_to_safetensors")
random_model = importlib.import_module("make_random_model")

VOCABULARY = 420


def _shape() -> Any:
    return layout.Shape(
        architecture="llama",
        vocab=VOCABULARY,
        hidden=64,
        feed_forward=96,
        layers=2,
        heads=4,
        kv_heads=2,
        head_dim=32,
        context=128,
        rope_theta=10_000.0,
        norm_eps=1e-5,
    )


def _safetensors(path: Path) -> dict[str, Any]:
    data = path.read_bytes()
    (size,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + size])
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            begin, end = (8 + size + offset for offset in entry["data_offsets"])
            found[name] = np.frombuffer(data[begin:end], np.float16).reshape(entry["shape"])
    return found


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any, dict[str, Any]]:
    """A GGUF of random weights, the model that it was written from, and its tokenizer."""
    path = tmp_path_factory.mktemp("export") / "tiny.gguf"
    _, data = tokenizer.train_tokenizer(3, count=200, size=VOCABULARY, spaced=20)
    tiny = model.Llama(_shape())
    tiny.reset(3)
    export.export(path, _shape(), tiny, data)
    return path, tiny, data


def test_weights_come_back(exported: tuple[Path, Any, dict[str, Any]], tmp_path: Path) -> None:
    """Every tensor, in transformers' names and row order, exact in float16."""
    path, tiny, _ = exported
    converter.convert(path, tmp_path)
    found = _safetensors(tmp_path / "model.safetensors")
    state = {f"model.{name}": value.numpy() for name, value in tiny.state_dict().items()}
    assert found.keys() == state.keys()
    for name, value in state.items():
        np.testing.assert_array_equal(found[name], value.astype(np.float16), err_msg=name)


def test_tokenizer_comes_back(exported: tuple[Path, Any, dict[str, Any]], tmp_path: Path) -> None:
    """The rebuilt tokenizer.json encodes as the trained one does."""
    tokenizers = pytest.importorskip("tokenizers")
    path, _, data = exported
    converter.convert(path, tmp_path)
    before = tokenizers.Tokenizer.from_str(json.dumps(data))
    after = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "<|im_start|>user\nWhat's 123 + 4é? 世界 🚂\n\n  x<|im_end|><tool_call>{}</tool_call>"
    ids = before.encode(text).ids
    assert after.encode(text).ids == ids
    assert after.decode(ids, skip_special_tokens=False) == text
    config = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    assert config["eos_token"] == "<|im_end|>"
    assert "<tool_call>" in config["chat_template"]


def test_metadata(exported: tuple[Path, Any, dict[str, Any]]) -> None:
    """Special tokens are CONTROL, the tags of tool calls and thoughts USER_DEFINED."""
    source = converter.Source(exported[0])
    tokens = source.key("tokenizer.ggml.tokens")
    types = dict(zip(tokens, source.key("tokenizer.ggml.token_type"), strict=True))
    assert types["<|im_end|>"] == types["<|endoftext|>"] == gguf.TokenType.CONTROL
    assert types["<think>"] == types["</tool_call>"] == gguf.TokenType.USER_DEFINED
    assert tokens[source.key("tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    assert source.key("tokenizer.ggml.bos_token_id") is None
    assert source.key("tokenizer.ggml.add_bos_token") is False
    assert source.key("general.name") == "caboose"


@pytest.mark.parametrize("architecture", ["llama", "qwen3"])
def test_random_model_in_both_forms(
    architecture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GGUF and safetensors of a random model hold the same weights; the vocabulary is full."""
    text = Path(str(random_model.__file__)).read_text(encoding="utf-8")
    monkeypatch.setattr(random_model, "_stdlib_sources", lambda: iter([text]))
    published = next(
        p for p in random_model.MODELS.values() if p.shape.architecture == architecture
    )
    small = dataclasses.replace(published.shape, vocab=900, hidden=64, feed_forward=96, layers=1)
    published = dataclasses.replace(published, shape=small)
    data = random_model.train_tokenizer(published, learnt=400)
    path = tmp_path / "small.gguf"
    random_model.write_random_gguf(path, published, data, seed=1, weight_type="BF16")
    source = converter.Source(path)
    assert len(source.key("tokenizer.ggml.tokens")) == 900
    weights = random_model.random_weights(small, 1)
    for spec in layout.tensor_specs(small):
        np.testing.assert_array_equal(source.weight(spec), weights(spec), err_msg=spec.gguf_name)
    random_model.write_hf(tmp_path, published, data, seed=1)
    assert (tmp_path / "model.safetensors").stat().st_size > 2 * layout.parameter_count(small)
