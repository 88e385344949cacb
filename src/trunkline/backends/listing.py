"""Lists of models, in the shapes that servers give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from trunkline.backends.kind import ListShape
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import ModelCard

# Where OpenAI-compatible servers tell the longest prompt plus output: vLLM and SGLang, Groq,
# Together and OpenRouter, Mistral, LM Studio.
_LENGTHS = (
    "max_model_len",
    "context_window",
    "context_length",
    "max_context_length",
    "loaded_context_length",
)
_MOST = 10_000


def read_models(shape: ListShape, body: bytes, owner: str) -> tuple[ModelCard, ...]:
    """The models of a list; `owner` is told where the server does not. Raises `UpstreamFailed`."""
    try:
        told = msgspec.json.decode(body)
        cards = tuple(_READERS[shape](told, owner))
    except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
        raise UpstreamFailed("the list of models cannot be read") from None
    return cards[:_MOST]


def _openai(told: Any, owner: str) -> Iterator[ModelCard]:
    for entry in told if isinstance(told, list) else told["data"]:
        length = next((entry[name] for name in _LENGTHS if isinstance(entry.get(name), int)), 0)
        meta = entry.get("meta")
        if not length and isinstance(meta, dict):
            # llama.cpp: what a slot has, else what the model was trained with.
            length = int(meta.get("n_ctx") or meta.get("n_ctx_train") or 0)
        created = entry.get("created")
        yield ModelCard(
            str(entry["id"]),
            context_length=length,
            created=created if isinstance(created, int) else 0,
            owned_by=str(entry.get("owned_by") or owner),
        )


def _ollama(told: Any, owner: str) -> Iterator[ModelCard]:
    for entry in told["models"]:
        details = entry.get("details") or {}
        yield ModelCard(
            str(entry.get("model") or entry["name"]),
            context_length=int(details.get("context_length") or 0),
            owned_by=owner,
            architecture=str(details.get("family") or ""),
            quantization=str(details.get("quantization_level") or ""),
            size=int(entry.get("size") or 0),
        )


def _tgi(told: Any, owner: str) -> Iterator[ModelCard]:
    yield ModelCard(
        str(told["model_id"]), context_length=int(told.get("max_total_tokens") or 0), owned_by=owner
    )


def _gemini(told: Any, owner: str) -> Iterator[ModelCard]:
    for entry in told["models"]:
        length = int(entry.get("inputTokenLimit") or 0)
        name = str(entry["name"]).removeprefix("models/")
        if "generateContent" in entry.get("supportedGenerationMethods", ("generateContent",)):
            yield ModelCard(name, context_length=length, owned_by=owner)


def _cohere(told: Any, owner: str) -> Iterator[ModelCard]:
    for entry in told["models"]:
        length = int(entry.get("context_length") or 0)
        yield ModelCard(str(entry["name"]), context_length=length, owned_by=owner)


def _kserve(told: Any, owner: str) -> Iterator[ModelCard]:
    for entry in told:
        if entry.get("state", "READY") == "READY":
            yield ModelCard(str(entry["name"]), context_length=0, owned_by=owner)


_READERS = {
    "openai": _openai,
    "ollama": _ollama,
    "tgi": _tgi,
    "gemini": _gemini,
    "cohere": _cohere,
    "kserve": _kserve,
}
