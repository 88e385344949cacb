"""Which backend answers: names, keys, and whether we answer at all."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

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
    # In metrics, where names are made up by clients: there must not be a series for each.
    label: str = ""

    def metric_name(self) -> str:
        """What metrics and logs call it."""
        return self.label or self.name

    def card(self) -> ModelCard:
        """What is known of it; little while it is loading."""
        for card in self.backend.models():
            if card.name == self.name:
                return card
        return ModelCard(self.name, context_length=0)

    def fingerprint(self) -> str:
        """Stable while the same model answers: OpenAI's `system_fingerprint`."""
        return _fingerprint(self.card())


def _nothing() -> None:
    """What there is to do for nobody."""


@functools.lru_cache(maxsize=64)
def _fingerprint(card: ModelCard) -> str:
    return "fp_" + hashlib.sha256(msgspec.msgpack.encode(card)).hexdigest()[:10]


class Names(Protocol):
    """Models whose names are not all known beforehand."""

    def find(self, name: str) -> ServedModel | None:
        """The model of that name, if there is one."""

    def listed(self) -> Sequence[ServedModel]:
        """Those that are known now."""


class Epoch:
    """A time in which names and keys stay what they are."""

    __slots__ = ("kept",)

    def __init__(self) -> None:
        # What nobody but this keeps, so that it ends with it.
        self.kept: list[object] = []


class Gateway:
    """Finds the backend for a name; the first model is the default."""

    def __init__(
        self, models: Sequence[ServedModel], keys: Keys, more: Sequence[Names] = ()
    ) -> None:
        # True: no new request is accepted.
        self.draining = False
        # What was found out of names and keys holds for as long as this is the same object.
        self.epoch = Epoch()
        self.keys = keys
        # How routes do, where there are some: `gateway.report.RouteReport`s.
        self.report: Callable[[], Sequence[msgspec.Struct]] | None = None
        # Called before models are replaced, for whoever has calls that their routes do not count.
        self.leaving: Callable[[], None] = _nothing
        # Every backend that is configured, by name, whether a route names it or not.
        self.backends: Callable[[], Mapping[str, Backend]] = dict
        self.serve(models, keys, more)

    def serve(self, models: Sequence[ServedModel], keys: Keys, more: Sequence[Names] = ()) -> None:
        """From now on serve these and no others; calls under way are not concerned.

        `self.keys` stays the same object. Raises `ValueError`, and changes nothing, where two
        models have one name.
        """
        by_name: dict[str, ServedModel] = {}
        for model in models:
            for name in (model.name, *model.aliases):
                other = by_name.setdefault(name, model)
                if other is not model:
                    raise ValueError(f"two models are called {name!r}")
        if models:
            for name in ("", *GENERIC_NAMES):
                by_name.setdefault(name, models[0])
        self.leaving()
        self._models = tuple(models)
        self._more = tuple(more)
        self._by_name = by_name
        self.epoch.kept.clear()
        self.epoch = Epoch()
        # Operations that some model has been seen to take.
        self._relayed: set[str] = set()
        self.keys.replace(keys)

    @property
    def models(self) -> tuple[ServedModel, ...]:
        """Every model that is known now, each name once."""
        if not self._more:
            return self._models
        found = {model.name: model for model in self._models}
        for names in self._more:
            for model in names.listed():
                if model.name not in self._by_name:
                    found.setdefault(model.name, model)
        return tuple(found.values())

    def resolve(self, name: str) -> ServedModel:
        """The model that answers to `name`; "" is the default one.

        Raises `ModelNotFound`, and `Unavailable` while draining.
        """
        if self.draining:
            raise Unavailable(_DRAINING, retry_after=_RETRY_DRAINING)
        return self._by_name.get(name) or self.find(name)

    def configured(self, name: str) -> bool:
        """Whether `name` is one of those that do not change before `epoch` does."""
        return name in self._by_name

    def find(self, name: str) -> ServedModel:
        """As `resolve`, also while draining."""
        model = self._by_name.get(name) or self._search(name)
        if model is None:
            there = ", ".join(f"`{known}`" for known, _ in self.listed()) or "none"
            raise ModelNotFound(
                f"The model `{name[:200]}` does not exist. Models here: {there}.", param="model"
            )
        return model

    def _search(self, name: str) -> ServedModel | None:
        for names in self._more:
            model = names.find(name)
            if model is not None:
                return model
        if name in ("", *GENERIC_NAMES):
            return next(iter(self.models), None)
        return None

    def relays(self, operation: str) -> bool:
        """Whether any model may take bodies of this operation as they are."""
        if self._more or operation in self._relayed:
            return True
        if any(model.backend.relays(operation) for model in self._models):
            self._relayed.add(operation)
            return True
        return False

    def names(self) -> tuple[str, ...]:
        """Every name that a model is known to answer to."""
        if not self._more:
            return tuple(self._by_name)
        return tuple(dict.fromkeys((*self._by_name, *(name for name, _ in self.listed()))))

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
