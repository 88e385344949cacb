from __future__ import annotations

import datetime as dt
import json

import pytest

from tests.wire.ollama.support import golden, same_shape
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ModelCard
from trunkline.wire.ollama.models import (
    decode_show,
    render_ps,
    render_show,
    render_tags,
    render_version,
)
from trunkline.wire.ollama.names import find_name, full_name, short_name

CARD = ModelCard(
    "caboose",
    4096,
    created=1_700_000_000,
    architecture="llama",
    parameters=3_904_512,
    quantization="F16",
    size=7_810_784,
    vocab_size=4096,
    embedding_length=256,
    chat_template="{{ messages }}",
    capabilities=("completion", "chat", "tools", "thinking"),
    source="caboose",
)


def test_tags() -> None:
    ours = json.loads(render_tags([("caboose", CARD), ("mine:q8", CARD)]))
    same_shape(ours, golden("tags.json"))
    first, second = ours["models"]
    assert (first["name"], second["model"]) == ("caboose:latest", "mine:q8")
    assert first["capabilities"] == ["completion", "tools", "thinking"]
    assert first["details"]["parameter_size"] == "3.90M"
    assert len(bytes.fromhex(first["digest"])) == 32
    assert json.loads(render_tags([])) == {"models": []}


def test_ps() -> None:
    ours = json.loads(render_ps([("caboose", CARD, 123, 1_700_000_000.25), ("b", CARD, 0, None)]))
    same_shape(ours, golden("ps.json"))
    assert [one["size"] for one in ours["models"]] == [123, CARD.size]
    assert ours["models"][0]["context_length"] == 4096
    leaves, stays = (dt.datetime.fromisoformat(one["expires_at"]) for one in ours["models"])
    assert leaves.timestamp() == 1_700_000_000.25
    # Ollama's own client says "Forever" of what is so far away.
    assert stays.year - leaves.year > 100


def test_show() -> None:
    ours = json.loads(render_show("caboose:latest", CARD))
    assert ours["model_info"] == {
        "general.architecture": "llama",
        "general.basename": "caboose",
        "general.parameter_count": 3_904_512,
        "llama.context_length": 4096,
        "llama.embedding_length": 256,
        "llama.vocab_size": 4096,
    }
    assert ours["details"]["quantization_level"] == "F16"
    assert ours["template"] == CARD.chat_template
    assert "FROM caboose" in ours["modelfile"]
    assert ours["modified_at"] == "2023-11-14T22:13:20Z"


def test_show_of_a_model_that_says_nothing() -> None:
    ours = json.loads(render_show("x", ModelCard("x", 0)))
    assert ours["model_info"] == {"general.architecture": "unknown", "general.basename": "x"}
    assert ours["capabilities"] == []


def test_whom_show_asks_about() -> None:
    assert decode_show(b'{"model": "a", "name": "b", "verbose": true}') == "a"
    assert decode_show(b'{"name": "b"}') == "b"
    with pytest.raises(InvalidRequest, match="model is required"):
        decode_show(b"{}")
    with pytest.raises(InvalidRequest, match="missing request body"):
        decode_show(b"")


def test_version_is_one_that_editors_accept() -> None:
    version = json.loads(render_version())["version"]
    assert tuple(map(int, version.split("."))) >= (0, 6, 4)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("caboose", "caboose"),
        ("caboose:latest", "caboose"),
        ("caboose:LATEST", "caboose"),
        ("library/caboose:latest", "caboose"),
        ("registry.ollama.ai/library/caboose", "caboose"),
        ("https://registry.ollama.ai/library/caboose:latest", "caboose"),
        ("caboose:q8", "caboose:q8"),
        ("me/caboose:latest", "me/caboose"),
        ("", ""),
    ],
)
def test_short_names(name: str, expected: str) -> None:
    assert short_name(name) == expected


def test_full_names() -> None:
    assert full_name("caboose") == "caboose:latest"
    assert full_name("caboose:q8") == "caboose:q8"
    assert full_name("host:5000/me/caboose") == "host:5000/me/caboose:latest"


def test_finding_names() -> None:
    known = ("Caboose", "caboose", "other:latest", "m:q8")
    assert find_name("caboose", known) == "caboose"
    assert find_name("caboose:latest", known) == "Caboose"
    assert find_name("OTHER", known) == "other:latest"
    assert find_name("m", known) is None
    assert find_name("M:Q8", known) == "m:q8"
