"""What is known of a route's models, as if it were one."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from msgspec.structs import asdict, replace

from trunkline.core.types import Backend, BackendStats, ModelCard
from trunkline.gateway.endpoint import Endpoint

# Facts that a route has when all its models have the same.
_COMMON = (
    *("created", "owned_by", "source", "architecture", "parameters", "quantization", "size"),
    *("vocab_size", "embedding_length", "chat_template"),
)


def route_card(name: str, aliases: tuple[str, ...], endpoints: Iterable[Endpoint]) -> ModelCard:
    """One card: what fits the smallest context, what all can do, what all have in common."""
    cards = [card for endpoint in endpoints if (card := _card(endpoint)) is not None]
    if not cards:
        return ModelCard(name, context_length=0, aliases=aliases)
    first = cards[0]
    able = set(first.capabilities).intersection(*(card.capabilities for card in cards))
    merged = ModelCard(
        name,
        context_length=min((one.context_length for one in cards if one.context_length), default=0),
        aliases=aliases,
        capabilities=tuple(one for one in first.capabilities if one in able),
        max_rows=sum(card.max_rows for card in cards),
    )
    facts = [asdict(card) for card in cards]
    common = {key: facts[0][key] for key in _COMMON if all(f[key] == facts[0][key] for f in facts)}
    return replace(merged, **common)


# Figures that do not add up.
_LARGEST = ("kv_usage", "ttft")


def total(backends: Sequence[Backend]) -> BackendStats:
    """Load and counters of several backends together; of shares and means, the largest."""
    merged: dict[str, Any] = {}
    for backend in backends:
        for name, value in asdict(backend.stats()).items():
            if name not in merged:
                merged[name] = value
            elif name in _LARGEST:
                merged[name] = max(merged[name], value)
            else:
                merged[name] += value
    return BackendStats(**merged)


def _card(endpoint: Endpoint) -> ModelCard | None:
    cards = endpoint.backend.models()
    return next((card for card in cards if card.name == endpoint.find_model()), None)
