"""What ends a text is asked once of each file, as long as the file stays as it is."""

from __future__ import annotations

import os
import shutil
import struct
from pathlib import Path

import pytest

from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.libllama.library import library
from trunkline.libllama.model import Model
from trunkline.libllama.remembered import recall, remember


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRUNKLINE_HOME", str(tmp_path / "home"))
    return tmp_path / "home" / "vocabularies.json"


def ends(path: Path) -> frozenset[int]:
    model = Model(library(), path, vocab_only=True)
    found = model.eog()
    model.close()
    return found


def test_until_the_file_changes(tmp_path: Path, store: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    assert recall(path) is None
    assert ends(path) == {262, 264}
    known = recall(path)
    assert known is not None
    assert (known.words, known.eog) == (265, (262, 264))
    # Believed, not asked again.
    remember(path, known.words, [7])
    assert ends(path) == {7}
    write_tiny_gguf(path, specials=("<|eom_id|>",))
    assert recall(path) is None
    assert len(ends(path)) == 3
    assert store.stat().st_mode & 0o077 == 0 or store.parent.stat().st_mode & 0o077 == 0


def test_another_file_of_the_same_size_and_time(tmp_path: Path, store: Path) -> None:
    path, other = (write_tiny_gguf(tmp_path / name) for name in ("tiny.gguf", "other.gguf"))
    assert ends(path) == {262, 264}
    # Another token ends texts there.
    key = b"tokenizer.ggml.eos_token_id" + struct.pack("<I", 4)
    data = other.read_bytes()
    assert data.count(key + struct.pack("<I", 264)) == 1
    other.write_bytes(data.replace(key + struct.pack("<I", 264), key + struct.pack("<I", 260)))
    times = path.stat()
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    shutil.copy2(other, path)
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (times.st_size, times.st_mtime_ns)
    assert recall(path) is None
    assert 260 in ends(path)


@pytest.mark.parametrize("content", ["no json", '{"a": 1}', ""])
def test_a_damaged_store_is_made_again(tmp_path: Path, store: Path, content: str) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    store.parent.mkdir()
    store.write_text(content)
    assert recall(path) is None
    assert ends(path) == {262, 264}
    assert recall(path) is not None


def test_a_store_that_cannot_be_written_harms_nothing(tmp_path: Path, store: Path) -> None:
    path = write_tiny_gguf(tmp_path / "tiny.gguf")
    store.mkdir(parents=True)
    assert ends(path) == {262, 264}
    assert recall(path) is None


def test_the_oldest_is_forgotten(tmp_path: Path, store: Path) -> None:
    paths = [tmp_path / f"{number}.gguf" for number in range(258)]
    for path in paths:
        path.write_bytes(b"x")
        remember(path, 1, [0])
    assert recall(paths[1]) is None
    assert recall(paths[2]) is not None
    with pytest.raises(OSError, match="gone"):
        recall(tmp_path / "gone")
