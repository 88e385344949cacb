"""`GET /v1/models` and `GET /v1/models/{id}`.

`id`, `object`, `created` and `owned_by` are OpenAI's; `root` (the model's own name) and
`max_model_len` are vLLM's and what many tools read the context length from.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import msgspec

from trunkline.core.types import ModelCard
from trunkline.wire.openai.answers import encoder


class _Model(msgspec.Struct):
    id: str
    object: Literal["model"]
    created: int
    owned_by: str
    root: str
    parent: None
    max_model_len: int | None


class _List(msgspec.Struct):
    object: Literal["list"]
    data: list[_Model]


def _model(name: str, card: ModelCard) -> _Model:
    length = card.context_length or None
    return _Model(name, "model", card.created, card.owned_by, card.name, None, length)


def render_model(name: str, card: ModelCard) -> bytes:
    """One model, under the name that was asked for."""
    return encoder.encode(_model(name, card))


def render_models(entries: Iterable[tuple[str, ModelCard]]) -> bytes:
    """All models: (name, card of the model behind it)."""
    return encoder.encode(_List("list", [_model(name, card) for name, card in entries]))
