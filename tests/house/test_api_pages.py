"""docs/api is what scripts/docs.py writes."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts import docs


def test_no_page_is_stale() -> None:
    assert docs.stale() == [], "run scripts/docs.py"


def test_what_is_stale_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docs, "FOLDER", tmp_path)
    assert docs.stale() == sorted(docs.pages())
    for name, text in docs.pages().items():
        (tmp_path / name).write_text(text)
    assert docs.stale() == []
    (tmp_path / "tgi.md").write_text("old")
    (tmp_path / "gone.md").write_text("old")
    assert docs.stale() == ["gone.md", "tgi.md"]
