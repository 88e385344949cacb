"""`GET /v1/models` and `GET /v1/models/{id}`, for clients that send an `anthropic-version`.

Shapes: the official client's `types/model_info.py`, `types/model_list_params.py` and `SyncPage` of
its `pagination.py` (anthropic 2.11, read 2026-11-21).
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from typing import Literal
from urllib.parse import parse_qsl

import msgspec

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ModelCard

_DEFAULT_LIMIT = 20
_MAX_LIMIT = 1000

_encoder = msgspec.json.Encoder()


class _Model(msgspec.Struct, tag_field="type", tag="model"):
    id: str
    display_name: str
    created_at: str
    max_input_tokens: int | None
    max_tokens: int | None
    lifecycle: Literal["active"] = "active"
    capabilities: None = None
    line: None = None
    deprecated_at: None = None
    retires_at: None = None


class _Page(msgspec.Struct):
    data: list[_Model]
    first_id: str | None
    last_id: str | None
    has_more: bool


def render_model(name: str, card: ModelCard) -> bytes:
    """One model, under the name that was asked for."""
    return _encoder.encode(_model(name, card))


def render_models(entries: Iterable[tuple[str, ModelCard]], query: str = "") -> bytes:
    """A page of models: (name, card of the model behind it).

    `query` is the request's, undecoded: `limit`, and `after_id` or `before_id`. Raises
    `InvalidRequest` where it makes no sense.
    """
    wanted = dict(parse_qsl(query))
    limit = _limit(wanted.get("limit"))
    models = [_model(name, card) for name, card in entries]
    names = [model.id for model in models]
    if "before_id" in wanted:
        end = _position(names, wanted, "before_id")
        begin = max(0, end - limit)
        more = begin > 0
    else:
        begin = _position(names, wanted, "after_id") + 1 if "after_id" in wanted else 0
        end = begin + limit
        more = end < len(names)
    page = models[begin:end]
    first, last = (page[0].id, page[-1].id) if page else (None, None)
    return _encoder.encode(_Page(page, first, last, more))


def _model(name: str, card: ModelCard) -> _Model:
    created = dt.datetime.fromtimestamp(card.created, dt.UTC)
    length = card.context_length or None
    return _Model(name, name, created.strftime("%Y-%m-%dT%H:%M:%SZ"), length, length)


def _limit(given: str | None) -> int:
    if given is None:
        return _DEFAULT_LIMIT
    # isdecimal alone also accepts other scripts' digits.
    if given.isascii() and given.isdecimal() and len(given) <= 4 and 1 <= int(given) <= _MAX_LIMIT:
        return int(given)
    raise InvalidRequest(f"limit: Input should be from 1 to {_MAX_LIMIT}", param="limit")


def _position(names: list[str], wanted: Mapping[str, str], param: str) -> int:
    name = wanted[param]
    if name not in names:
        raise InvalidRequest(f"{param}: there is no model {name[:64]!r}", param=param)
    return names.index(name)
