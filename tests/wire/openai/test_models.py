from __future__ import annotations

import json

from trunkline.core.types import ModelCard
from trunkline.wire.openai.models import render_model, render_models

CARD = ModelCard("caboose", context_length=4096, created=1686935002, owned_by="us")


def test_a_model_has_openais_fields() -> None:
    shown = json.loads(render_model("alias", CARD))
    assert {key: shown[key] for key in ("id", "object", "created", "owned_by")} == {
        "id": "alias",
        "object": "model",
        "created": 1686935002,
        "owned_by": "us",
    }
    assert (shown["root"], shown["max_model_len"]) == ("caboose", 4096)


def test_a_list_of_models() -> None:
    shown = json.loads(render_models([("caboose", CARD), ("alias", CARD)]))
    assert shown["object"] == "list"
    assert [one["id"] for one in shown["data"]] == ["caboose", "alias"]


def test_an_unknown_context_is_null() -> None:
    assert json.loads(render_model("x", ModelCard("x", 0)))["max_model_len"] is None
