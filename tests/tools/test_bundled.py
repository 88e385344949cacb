"""The bundled caboose.gguf is what its card says."""

from __future__ import annotations

import hashlib
import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.caboose import examined

BUNDLED = Path(__file__).resolve().parents[2] / "src/trunkline/models_bundled"


@pytest.fixture(scope="module")
def card() -> dict[str, Any]:
    """The card beside the model."""
    text = (BUNDLED / "caboose.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


def test_card_describes_this_file(card: dict[str, Any]) -> None:
    """Size, hash and the limits that the project promises."""
    data = (BUNDLED / "caboose.gguf").read_bytes()
    assert hashlib.sha256(data).hexdigest() == card["sha256"]
    assert len(data) == card["bytes"] <= 12_000_000
    assert 2_000_000 <= card["parameters"] <= 8_000_000
    assert card["context"] == 4096


@examined
def test_card_shows_a_passed_exam(card: dict[str, Any]) -> None:
    """The figures measured on this very file meet the thresholds."""
    evaluation = card["evaluation"]
    families = evaluation["families"]
    assert families["JSON parses"]["right"] >= 0.95
    assert families["tool calls match"]["right"] >= 0.95
    assert families["sums below 100"]["right"] >= 0.90
    assert evaluation["stops_by_itself"] >= 0.99
    assert all(row["count"] >= 150 for row in families.values())


def test_template_and_shape_are_those_of_the_tools(card: dict[str, Any]) -> None:
    """The file carries today's chat template and architecture."""
    pytest.importorskip("gguf")
    pytest.importorskip("torch")
    converter = importlib.import_module("gguf_to_safetensors")
    source = converter.Source(BUNDLED / "caboose.gguf")
    template = importlib.import_module("caboose.template").CHAT_TEMPLATE
    assert source.key("tokenizer.chat_template") == template
    assert converter.read_shape(source) == importlib.import_module("caboose.model").SHAPE
