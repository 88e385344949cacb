"""What is read of a model's file: each part as soon as it is there, and what is wrong in words."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.tiny_gguf import CHATML, write_tiny_gguf
from trunkline.core.errors import InvalidRequest
from trunkline.engine.config import EngineConfig
from trunkline.engine.front import known_vocabulary, model_file


def config(path: Path, **fields: str) -> EngineConfig:
    return EngineConfig(name="m", model=str(path), **fields)  # type: ignore[arg-type]


def test_head_and_tokenizer(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    reading = model_file.begin(config(path))
    head, tokenizer = reading.head.result(20), reading.tokenizer.result(20)
    assert head.template == CHATML
    assert head.facts is not None
    assert head.facts.vocab_size == tokenizer.vocab_size == 265
    assert tokenizer.eog == {262, 264}


def test_a_vocabulary_that_is_known_begins_at_once(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    assert known_vocabulary.begin(config(path)) is None
    first = model_file.begin(config(path)).tokenizer.result(20)
    vocabulary = known_vocabulary.begin(config(path))
    assert vocabulary is not None
    again = model_file.begin(config(path), vocabulary).tokenizer.result(20)
    assert again.eog == first.eog
    text = "a b c <|im_end|>"
    found = again.encode(text, add_special=True, parse_special=True)
    assert found == first.encode(text, add_special=True, parse_special=True)
    path.write_bytes(path.read_bytes()[:-500])
    assert known_vocabulary.begin(config(path)) is None
    path.unlink()
    assert known_vocabulary.begin(config(path)) is None


@pytest.mark.parametrize("content", [b"x" * 100, None])
def test_both_results_say_what_is_wrong(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "bad.gguf"
    if content is not None:
        path.write_bytes(content)
    reading = model_file.begin(config(path))
    for future in (reading.head, reading.tokenizer):
        with pytest.raises(InvalidRequest, match=r"bad\.gguf"):
            future.result(20)


def test_a_template_that_cannot_be_read(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    reading = model_file.begin(config(path, chat_template=str(tmp_path / "none.jinja")))
    with pytest.raises(InvalidRequest, match=r"none\.jinja"):
        reading.head.result(20)
