"""The short forms of `trunkline.yaml`, turned into the long ones before anything is read.

    backends: {openai: , box: "http://box:8000/v1"}      name: kind or URL; nothing = name is kind,
                                                         else a URL alone speaks OpenAI's dialect
    engines:  [caboose, {name: big, model: big.gguf}]     a model, or name: model
    routes:   {gpt-4o: openai/gpt-4o}                     name: target, targets, or a route
    defaults: {backend: {...}, engine: {...}, route: {...}}

A target is `backend`, `backend/model`, or `provider/model` of a provider that the file does not
name; that one becomes a backend with the provider's defaults. Everything keeps its place in the
file, so that errors point at what was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.gateway.config import RouteConfig
from trunkline.gateway.strategies import ALIASES
from trunkline.gateway.wildcard import match
from trunkline.server.file.config import EngineEntry
from trunkline.server.file.document import Mapping, Node, Scalar, Sequence, overlay
from trunkline.server.file.names import (
    ProviderModel,
    UnknownProvider,
    kind_of,
    model_name,
    parse_name,
    provider_names,
)
from trunkline.server.file.problems import Place, nearest
from trunkline.server.file.reader import Reader

# Fields that belong to one of them and can have no default for all.
OWN_FIELDS: dict[type[msgspec.Struct], tuple[str, ...]] = {
    BackendConfig: ("name", "kind", "url", "api_key", "models", "launch"),
    EngineEntry: ("name", "model"),
    RouteConfig: ("name", "aliases", "targets"),
}
DEFAULTS: dict[str, type[msgspec.Struct]] = {
    "backend": BackendConfig,
    "engine": EngineEntry,
    "route": RouteConfig,
}
# What a backend is of which nothing but a URL is said: what most servers speak.
_KIND_OF_A_URL = "openai-compatible"


class Expanded(msgspec.Struct, frozen=True):
    """The sections in their long form."""

    backends: tuple[Mapping, ...]
    engines: tuple[Mapping, ...]
    routes: tuple[Mapping, ...]


def answered(name: str, routes: Iterable[str]) -> bool:
    """Whether one of the routes of these names, which may hold `*`, answers to `name`."""
    return any(route == name or match(route, name) is not None for route in routes)


def expand(root: Mapping, reader: Reader) -> Expanded:
    """The long form. What cannot be understood is a problem of `reader`, and left out."""
    return _Expander(root, reader).expand()


class _Expander:
    def __init__(self, root: Mapping, reader: Reader) -> None:
        self._root = root
        self._reader = reader
        self._backends: dict[str, Mapping] = {}
        self._engines: dict[str, Mapping] = {}
        self._defaults = self._read_defaults()

    def expand(self) -> Expanded:
        for node in self._section("engines", self._engine):
            self._named(node, self._engines)
        for node in self._section("backends", self._backend):
            self._named(node, self._backends)
        routes = self._section("routes", self._route)
        names = {name for route in routes for name in self._names(route)}
        routes += self._fallback_routes(names, routes)
        routes += self._implied(names, routes)
        return Expanded(
            _over(self._defaults["backend"], self._backends.values()),
            _over(self._defaults["engine"], self._engines.values()),
            _over(self._defaults["route"], routes),
        )

    # Sections

    def _section(
        self, name: str, entry: Callable[[Scalar | None, Node], Mapping | None]
    ) -> list[Mapping]:
        node = self._root.entries.get(name)
        found: list[Mapping | None] = []
        match node:
            case None:
                pass
            case Sequence(items=items):
                found = [entry(None, item) for item in items]
            case Mapping(entries=entries):
                found = [
                    entry(Scalar(node.key_place(key), key, plain=False), value)
                    for key, value in entries.items()
                ]
            case Scalar() if not node.is_null:
                self._reader.complain(node.place, "expected a list, or a mapping by name")
        return [mapping for mapping in found if mapping is not None]

    def _read_defaults(self) -> dict[str, Mapping]:
        node = self._root.entries.get("defaults", Mapping(self._root.place))
        found = {name: Mapping(node.place) for name in DEFAULTS}
        if not isinstance(node, Mapping):
            if not (isinstance(node, Scalar) and node.is_null):
                self._reader.complain(node.place, "expected backend, engine and route")
            return found
        for name, value in node.entries.items():
            if name not in DEFAULTS:
                message = f"no defaults are called {name!r}; {nearest(name, DEFAULTS)}"
                self._reader.complain(node.key_place(name), message)
                continue
            kind = DEFAULTS[name]
            if isinstance(value, Mapping):
                value = _with_strategy(value)
            found[name] = self._reader.fields(kind, value, OWN_FIELDS[kind]) or found[name]
        return found

    # Backends and engines

    def _backend(self, key: Scalar | None, node: Node) -> Mapping | None:
        text_alone = isinstance(node, Scalar)
        if isinstance(node, Scalar):
            node = self._backend_of_text(key, node)
        if not isinstance(node, Mapping):
            self._reader.complain(node.place, "expected a backend: a mapping, a kind or a URL")
            return None
        node = self._with_name(key, node)
        kind = node.entries.get("kind")
        if kind is None and (name := self._name(node)) and kind_of(name):
            kind = Scalar(node.place, name, plain=False)
        if kind is None and text_alone and "url" in node.entries:
            kind = Scalar(node.place, _KIND_OF_A_URL, plain=False)
        if isinstance(kind, Scalar) and not kind.is_null:
            return self._with_kind(node, kind)
        if kind is None:
            message = f"the field 'kind' is missing; there are: {', '.join(provider_names())}"
            self._reader.complain(node.place, message)
            return None
        return node

    def _backend_of_text(self, key: Scalar | None, node: Scalar) -> Mapping:
        text = self._reader.text(node) or ""
        if "://" in text:
            return Mapping(node.place, {"url": node})
        if node.is_null:
            return Mapping(node.place)
        kind = Mapping(node.place, {"kind": node})
        return kind if key is not None else kind.with_entry("name", node)

    def _with_kind(self, node: Mapping, kind: Scalar) -> Mapping | None:
        text = self._reader.text(kind)
        if text is None:
            return None
        name = kind_of(text)
        if name is None:
            self._reader.complain(kind.place, f"no kind is called {text!r}; {_nearest_kind(text)}")
            return None
        return node.with_entry("kind", Scalar(kind.place, name, plain=False))

    def _engine(self, key: Scalar | None, node: Node) -> Mapping | None:
        if isinstance(node, Scalar):
            node = Mapping(node.place, {} if node.is_null else {"model": node})
        if not isinstance(node, Mapping):
            self._reader.complain(node.place, "expected an engine: a mapping or a model")
            return None
        node = self._with_name(key, node)
        name, model = node.entries.get("name"), node.entries.get("model")
        if model is None and name is not None:
            return node.with_entry("model", name)
        if name is None and isinstance(model, Scalar) and (text := self._reader.text(model)):
            return node.with_entry("name", Scalar(model.place, model_name(text), plain=False))
        return node

    def _with_name(self, key: Scalar | None, node: Mapping) -> Mapping:
        if key is None:
            return node
        if "name" in node.entries:
            place = node.key_place("name")
            self._reader.complain(place, f"the name is there already: {key.text!r}; leave it out")
        return node.with_entry("name", key)

    def _named(self, node: Mapping, section: dict[str, Mapping]) -> None:
        """File a backend or engine under its name, which must be its own."""
        name = self._name(node)
        if name is None:
            # Read all the same, so that what is missing is said.
            section[f"\0{len(section)}"] = node
            return
        other = self._engines.get(name) or self._backends.get(name)
        if other is not None:
            message = f"{name!r} is there already, at line {other.place.line}"
            self._reader.complain(node.entries["name"].place, message)
            return
        section[name] = node

    def _name(self, node: Mapping) -> str | None:
        name = node.entries.get("name")
        return self._reader.text(name) if isinstance(name, Scalar) else None

    # Routes

    def _route(self, key: Scalar | None, node: Node) -> Mapping | None:
        if isinstance(node, Scalar | Sequence):
            node = Mapping(node.place, {"targets": node})
        node = self._with_name(key, _with_strategy(node))
        targets = node.entries.get("targets")
        if targets is None:
            message = "the field 'targets' is missing: which backends answer, as backend/model"
            self._reader.complain(node.place, message)
            return None
        items = targets.items if isinstance(targets, Sequence) else (targets,)
        if isinstance(targets, Scalar) and targets.is_null:
            items = ()
        found = [target for item in items if (target := self._target(item)) is not None]
        if not items:
            self._reader.complain(targets.place, "expected at least one target: backend/model")
        return node.with_entry("targets", Sequence(targets.place, tuple(found)))

    def _target(self, node: Node) -> Node | None:
        if isinstance(node, Mapping):
            model = node.entries.get("model")
            if "backend" in node.entries or not isinstance(model, Scalar):
                return node
            named = self._target(model)
            return None if named is None else overlay(node, named)
        if not isinstance(node, Scalar):
            return node
        text = self._reader.text(node)
        if text is None:
            return None
        backend, _, model_text = text.partition("/")
        if backend not in self._backends and backend not in self._engines:
            try:
                found = parse_name(text)
            except UnknownProvider as error:
                known = nearest(backend, (*self._backends, *self._engines))
                self._reader.complain(
                    node.place, f"no backend is called {backend!r} ({known}) and {error}"
                )
                return None
            backend, model_text = self._provider(found, node.place), found.model
        entries: dict[str, Node] = {"backend": Scalar(node.place, backend, plain=False)}
        if model_text:
            entries["model"] = Scalar(node.place, model_text, plain=False)
        return Mapping(node.place, entries)

    def _provider(self, found: ProviderModel, place: Place) -> str:
        """Name of the backend of a provider that the file only mentions."""
        provider = found.provider
        name = "-".join((found.kind, *provider.values(), *found.dialect.split(".")[1:]))
        if name not in self._backends:
            texts = {"name": name, "kind": found.kind, "dialect": found.dialect}
            entries: dict[str, Node] = {
                field: Scalar(place, text, plain=False) for field, text in texts.items() if text
            }
            if provider:
                more = {
                    field: Scalar(place, value, plain=False) for field, value in provider.items()
                }
                entries["provider"] = Mapping(place, dict(more))
            self._backends[name] = Mapping(place, entries)
        return name

    def _names(self, route: Mapping) -> list[str]:
        """The route's name and its aliases."""
        aliases = route.entries.get("aliases")
        items = aliases.items if isinstance(aliases, Sequence) else (aliases,)
        nodes = (route.entries.get("name"), *items)
        return [node.text for node in nodes if isinstance(node, Scalar)]

    def _fallback_routes(self, names: set[str], routes: list[Mapping]) -> list[Mapping]:
        """Routes for the `provider/model` names that fallbacks mention; `names` grows by them."""
        found = []
        for route in (self._defaults["route"], *routes):
            fallbacks = route.entries.get("fallbacks")
            lists = fallbacks.entries.values() if isinstance(fallbacks, Mapping) else ()
            for node in lists:
                for item in node.items if isinstance(node, Sequence) else (node,):
                    if not isinstance(item, Scalar) or answered(item.text, names):
                        continue
                    prefix, slash, _ = item.text.partition("/")
                    if not slash or not (prefix in self._backends or kind_of(prefix)):
                        continue
                    target = self._target(item)
                    if target is not None:
                        names.add(item.text)
                        name = Scalar(item.place, item.text, plain=False)
                        targets = Sequence(item.place, (target,))
                        found.append(Mapping(item.place, {"name": name, "targets": targets}))
        return found

    def _implied(self, names: set[str], routes: list[Mapping]) -> list[Mapping]:
        """Routes for the engines and the listed models that no route names."""
        routed = {backend for route in routes for backend in self._routed(route)}
        offers: dict[str, list[tuple[Place, str, str]]] = {}
        for name, node in self._engines.items():
            if name not in routed:
                offers.setdefault(name, []).append((node.place, name, ""))
        for name, node in self._backends.items():
            if name not in routed:
                for place, model in self._models(node):
                    offers.setdefault(model, []).append((place, name, model))
        return [
            _implied_route(model, targets)
            for model, targets in offers.items()
            if model not in names and not model.startswith("\0")
        ]

    def _routed(self, route: Mapping) -> list[str]:
        targets = route.entries.get("targets")
        items = targets.items if isinstance(targets, Sequence) else ()
        return [
            backend.text
            for item in items
            if isinstance(item, Mapping)
            and isinstance(backend := item.entries.get("backend"), Scalar)
        ]

    def _models(self, node: Mapping) -> list[tuple[Place, str]]:
        models = node.entries.get("models")
        items = models.items if isinstance(models, Sequence) else (models,)
        return [
            (item.place, text)
            for item in items
            if isinstance(item, Scalar) and not item.is_null and (text := self._reader.text(item))
        ]


def _over(base: Mapping, nodes: Iterable[Mapping]) -> tuple[Mapping, ...]:
    """Each node over the same defaults."""
    merged = (overlay(base, node) for node in nodes)
    return tuple(node for node in merged if isinstance(node, Mapping))


def _implied_route(model: str, offers: list[tuple[Place, str, str]]) -> Mapping:
    targets: list[Node] = []
    for place, backend, name in offers:
        entries: dict[str, Node] = {"backend": Scalar(place, backend, plain=False)}
        if name:
            entries["model"] = Scalar(place, name, plain=False)
        targets.append(Mapping(place, entries))
    place = offers[0][0]
    return Mapping(
        place,
        {"name": Scalar(place, model, plain=False), "targets": Sequence(place, tuple(targets))},
    )


def _with_strategy(node: Mapping) -> Mapping:
    """Another router's name of a strategy turned into ours."""
    strategy = node.entries.get("strategy")
    if isinstance(strategy, Scalar) and strategy.text in ALIASES:
        name = ALIASES[strategy.text]
        return node.with_entry("strategy", Scalar(strategy.place, name, plain=False))
    return node


def _nearest_kind(text: str) -> str:
    return nearest(text, provider_names(), most=60)
