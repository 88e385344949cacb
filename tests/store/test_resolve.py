"""From a name or a path to a model file."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.core.errors import InvalidRequest, ModelNotFound
from trunkline.store import resolve as resolve_module
from trunkline.store.resolve import ModelFile, bundled_models, resolve


@pytest.fixture
def box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A box with one bundled model, `wagon`."""
    folder = tmp_path / "box"
    folder.mkdir()
    (folder / "wagon.gguf").write_bytes(b"GGUF....")
    monkeypatch.setattr(resolve_module, "_BUNDLED", folder)
    return folder


def test_bundled_name(box: Path) -> None:
    assert bundled_models() == {"wagon": box / "wagon.gguf"}
    assert resolve("wagon") == ModelFile("wagon", box / "wagon.gguf", bundled=True)


def test_a_bundled_name_wins_over_a_file_of_that_name(
    box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wagon").write_text("something else")
    monkeypatch.chdir(tmp_path)
    assert resolve("wagon").path == box / "wagon.gguf"


def test_path(box: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "My Model-q8_0.gguf"
    file.write_bytes(b"GGUF\3\0\0\0")
    assert resolve(str(file)) == ModelFile("My Model-q8_0", file)
    monkeypatch.chdir(tmp_path)
    assert resolve("./My Model-q8_0.gguf") == ModelFile("My Model-q8_0", file)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/My Model-q8_0.gguf") == ModelFile("My Model-q8_0", file)


def test_unknown_name_lists_what_there_is(box: Path) -> None:
    with pytest.raises(ModelNotFound, match=r"no model 'gpt'; in the box: wagon; .*GGUF"):
        resolve("gpt")


def test_folder(box: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="is not a file"):
        resolve(str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"GGU", b"PK\3\4 and so on"])
def test_wrong_magic(box: Path, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(content)
    with pytest.raises(InvalidRequest, match=r"model\.gguf is not a GGUF file"):
        resolve(str(file))


def test_rules_are_any_file(box: Path, tmp_path: Path) -> None:
    file = tmp_path / "rules.json"
    file.write_text("{}")
    assert resolve(str(file), "rules") == ModelFile("rules", file)
    with pytest.raises(ModelNotFound, match="no model 'wagon'"):
        resolve("wagon", "rules")
