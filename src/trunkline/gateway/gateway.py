"""Which backend answers: names, keys, and whether we answer at all."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Sequence

import msgspec

from trunkline.core.errors import ModelNotFound, Unavailable
from trunkline.core.types import Backend, Health, ModelCard
from trunkline.gateway.keys import Keys

# Names of the default model in clients that ask their user for none.
GENERIC_NAMES = ("default", "local-model", "tgi")

_DRAINING = "the server is shutting down; try another one, or again later"
_RETRY_DRAINING = 5.0


class ServedModel(msgspec.Struct, frozen=True):
    """A model and its names."""

    # The model's own name, as `Request.model` has it.
    name: str
    backend: Backend
    # Further names, which are listed too.
    aliases: tuple[str, ...] = ()

    def card(self) -> ModelCard:
        """What is known of it; little while it is loading."""
        for card in self.backend.models():
            if card.name == self.name:
                return card
        return ModelCard(self.name, context_length=0)

    def fingerprint(self) -> str:
        """Stable while the same model answers: OpenAI's `system_fingerprint`."""
        return _fingerprint(self.card())


@functools.lru_cache(maxsize=64)
def _fingerprint(card: ModelCard) -> str:
    return "fp_" + hashlib.sha256(msgspec.msgpack.encode(card)).hexdigest()[:10]


class Gateway:
    """Finds the backend for a name; the first model is the default."""

    def __init__(self, models: Sequence[ServedModel], keys: Keys) -> None:
        self.models = tuple(models)
        self.keys = keys
        # True: no new request is accepted.
        self.draining = False
        self._by_name: dict[str, ServedModel] = {}
        for model in self.models:
            for name in (model.name, *model.aliases):
                other = self._by_name.setdefault(name, model)
                if other is not model:
                    raise ValueError(f"two models are called {name!r}")
        if self.models:
            for name in ("", *GENERIC_NAMES):
                self._by_name.setdefault(name, self.models[0])

    def resolve(self, name: str) -> ServedModel:
        """The model that answers to `name`; "" is the default one.

        Raises `ModelNotFound`, and `Unavailable` while draining.
        """
        if self.draining:
            raise Unavailable(_DRAINING, retry_after=_RETRY_DRAINING)
        return self.find(name)

    def find(self, name: str) -> ServedModel:
        """As `resolve`, also while draining."""
        model = self._by_name.get(name)
        if model is None:
            there = ", ".join(f"`{known}`" for known, _ in self.listed()) or "none"
            raise ModelNotFound(
                f"The model `{name[:200]}` does not exist. Models here: {there}.", param="model"
            )
        return model

    def relays(self, operation: str) -> bool:
        """Whether any model takes bodies of this operation as they are."""
        return any(model.backend.relays(operation) for model in self.models)

    def names(self) -> tuple[str, ...]:
        """Every name that a model answers to."""
        return tuple(self._by_name)

    def listed(self) -> list[tuple[str, ServedModel]]:
        """Names to show, without the generic ones."""
        return [(name, model) for model in self.models for name in (model.name, *model.aliases)]

    def health(self) -> dict[str, Health]:
        """State of each model, by its own name."""
        return {model.name: model.backend.health() for model in self.models}

    def can_serve(self) -> bool:
        """Whether any model can answer now."""
        return any(health.state == "ready" for health in self.health().values())

    def ready(self) -> bool:
        """Whether new requests should be sent here."""
        return not self.draining and self.can_serve()
