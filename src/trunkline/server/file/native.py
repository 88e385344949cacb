"""Reads `trunkline.yaml`: the long form, typed, and what must hold between its parts."""

from __future__ import annotations

import re
import typing
from collections.abc import Mapping as Environ

import msgspec

from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.backends.connect import Unusable, check
from trunkline.backends.kinds import KINDS
from trunkline.gateway.config import Fallbacks, RouteConfig
from trunkline.residency.commands import command
from trunkline.residency.engine_options import UnknownOption, check_options
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import EngineEntry, FileConfig, ResidencyConfig
from trunkline.server.file.document import Mapping, Node, Scalar, Sequence
from trunkline.server.file.names import complete
from trunkline.server.file.problems import FileError, Place, Problem, nearest
from trunkline.server.file.reader import Reader
from trunkline.server.file.short_forms import Expanded, answered, expand
from trunkline.server.file.variables import Variables
from trunkline.wire.client import Feature

_FEATURES: tuple[str, ...] = typing.get_args(Feature)
_HAS_SCHEME = re.compile(r".*://|unix:")
SECTIONS = ("server", "keys", "engines", "backends", "residency", "routes", "hidden", "defaults")


def read_native(root: Node, environ: Environ[str, str]) -> FileConfig:
    """The configuration that a tree means. Raises `FileError` with every problem in it."""
    reader = Reader(Variables(environ))
    if not isinstance(root, Mapping):
        raise FileError([Problem(root.place, f"expected a mapping with {', '.join(SECTIONS)}")])
    for name in root.entries:
        if name not in SECTIONS:
            message = f"no section is called {name!r}; {nearest(name, SECTIONS)}"
            reader.complain(root.key_place(name), message)
    expanded = expand(root, reader)
    place = root.place
    server = reader.struct(ServerConfig, root.entries.get("server", Mapping(place)))
    keys = _keys(root, reader)
    engines = [reader.struct(EngineEntry, node) for node in expanded.engines]
    backends = [reader.struct(BackendConfig, node) for node in expanded.backends]
    residency = reader.struct(ResidencyConfig, root.entries.get("residency", Mapping(place)))
    routes = [_route(node, reader) for node in expanded.routes]
    reader.check()
    config = FileConfig(
        server=server or ServerConfig(),
        keys=keys,
        engines=tuple(engine for engine in engines if engine),
        backends=tuple(complete(backend, environ) for backend in backends if backend),
        residency=residency or ResidencyConfig(),
        routes=tuple(route for route in routes if route),
        hidden=_hidden(root, reader),
    )
    _Checks(config, expanded, reader, environ).run(root)
    reader.check()
    return config


def _keys(root: Mapping, reader: Reader) -> tuple[str, ...]:
    """The client keys. An empty one is refused: a server meant to be closed must not be open."""
    node = root.entries.get("keys")
    if node is None:
        return ()
    found = reader.struct(_Keys, Mapping(root.place, {"keys": node}))
    keys = found.keys if found is not None else ()
    if found is not None and (not keys or not all(key.strip() for key in keys)):
        reader.complain(node.place, "expected a list of keys, none of them empty; or leave it out")
    return keys


def _hidden(root: Mapping, reader: Reader) -> tuple[str, ...]:
    node = root.entries.get("hidden")
    found = reader.struct(_Hidden, Mapping(root.place, {} if node is None else {"hidden": node}))
    return found.hidden if found is not None else ()


class _Keys(msgspec.Struct, frozen=True):
    keys: tuple[str, ...]


class _Hidden(msgspec.Struct, frozen=True):
    hidden: tuple[str, ...] = ()


def _route(node: Mapping, reader: Reader) -> RouteConfig | None:
    """A route, which does not fall back to itself where the defaults would have it do so."""
    route = reader.struct(RouteConfig, node)
    if route is None:
        return None
    own = (route.name, *route.aliases)
    fallbacks = {}
    for kind, names in msgspec.structs.asdict(route.fallbacks).items():
        is_default = place_of(node, "fallbacks", kind).path.startswith("defaults.")
        fallbacks[kind] = tuple(name for name in names if not (is_default and name in own))
    return msgspec.structs.replace(route, fallbacks=Fallbacks(**fallbacks))


class _Checks:
    """What must hold between the parts of a configuration."""

    def __init__(
        self, config: FileConfig, nodes: Expanded, reader: Reader, environ: Environ[str, str]
    ) -> None:
        self._config = config
        self._nodes = nodes
        self._reader = reader
        self._environ = environ
        self._backends = {backend.name: backend for backend in config.backends}
        self._engines = {engine.name for engine in config.engines}

    def run(self, root: Mapping) -> None:
        """Add a problem for everything that does not hold."""
        for backend, node in zip(self._config.backends, self._nodes.backends, strict=True):
            self._backend(backend, node)
        names = self._route_names()
        for route, node in zip(self._config.routes, self._nodes.routes, strict=True):
            self._targets(route, node)
            self._references(route, node, names)
        aliases = {alias for route in self._config.routes for alias in route.aliases}
        for index, name in enumerate(self._config.hidden):
            if name not in aliases:
                message = f"no route has an alias {name!r}; {nearest(name, aliases)}"
                self._reader.complain(place_of(root, "hidden", index), message)
        if not (self._config.routes or self._config.backends or self._config.engines):
            message = "nothing to serve: name at least one of engines, backends or routes"
            self._reader.complain(root.place, message)

    def _backend(self, backend: BackendConfig, node: Mapping) -> None:
        kind = KINDS[backend.kind]
        if not (backend.url or kind.url or backend.launch):
            message = f"{kind.title} has no URL of its own; give `url`, or `launch` to start it"
            self._reader.complain(node.place, message)
        elif backend.url and not _HAS_SCHEME.match(backend.url):
            message = f"expected a URL such as http://{backend.url.split('/')[0]}:8000"
            self._reader.complain(place_of(node, "url"), message)
        else:
            self._connects(backend, node)
        # A dialect, or one operation of it: "openai", "openai.chat".
        spoken = {name for path in kind.paths for name in (path, path.partition(".")[0])}
        if backend.dialect and backend.dialect not in spoken:
            message = f"{kind.title} speaks no {backend.dialect!r}; "
            message += nearest(backend.dialect, sorted(spoken))
            self._reader.complain(place_of(node, "dialect"), message)
        for name in backend.features:
            if name not in _FEATURES:
                message = f"no feature is called {name!r}; {nearest(name, _FEATURES)}"
                self._reader.complain(place_of(node, "features", name), message)
        if backend.launch is not None:
            self._launches(backend.kind, backend.launch, node)

    def _launches(self, kind: str, launch: LaunchConfig, node: Mapping) -> None:
        for name, value in launch.options.items():
            try:
                check_options(kind, {name: value})
            except UnknownOption as error:
                self._reader.complain(place_of(node, "launch", "options", name), str(error))
        try:
            command(kind, msgspec.structs.replace(launch, options={}))
        except ValueError as error:
            self._reader.complain(place_of(node, "launch"), str(error))

    def _connects(self, backend: BackendConfig, node: Mapping) -> None:
        """What only the backend itself would find wrong."""
        try:
            check(backend, self._environ)
        except Unusable as error:
            place = place_of(node, *error.field.split("."))
            named = place.path.endswith(f".{error.field}")
            said = error.problem if named else f"{error.field}: {error.problem}"
            self._reader.complain(place, said)

    def _route_names(self) -> set[str]:
        names: dict[str, Place] = {}
        for route, node in zip(self._config.routes, self._nodes.routes, strict=True):
            for index, name in enumerate((route.name, *route.aliases)):
                place = place_of(node, "aliases", index - 1) if index else place_of(node, "name")
                if name in names:
                    line = names[name].line
                    message = f"the name {name!r} is taken already, at line {line}"
                    self._reader.complain(place, message)
                names.setdefault(name, place)
        return set(names)

    def _targets(self, route: RouteConfig, node: Mapping) -> None:
        for index, target in enumerate(route.targets):
            backend = self._backends.get(target.backend)
            if backend is None:
                if target.backend not in self._engines:
                    known = nearest(target.backend, (*self._backends, *self._engines))
                    place = place_of(node, "targets", index, "backend")
                    message = f"no backend is called {target.backend!r}; {known}"
                    self._reader.complain(place, message)
            elif target.model and backend.models and target.model not in backend.models:
                place = place_of(node, "targets", index, "model")
                message = f"{backend.name!r} lists no model {target.model!r}; "
                self._reader.complain(place, message + nearest(target.model, backend.models))

    def _references(self, route: RouteConfig, node: Mapping, names: set[str]) -> None:
        # What an open backend offers is known only when it has been asked.
        is_open = bool(self._config.open_backends())
        lists = msgspec.structs.asdict(route.fallbacks)
        used: list[tuple[tuple[str | int, ...], str]] = [
            (("fallbacks", kind, index), name)
            for kind, others in lists.items()
            for index, name in enumerate(others)
        ]
        if route.shadow is not None:
            used.append((("shadow", "route"), route.shadow.route))
        for path, name in used:
            place = place_of(node, *path)
            if name in (route.name, *route.aliases):
                self._reader.complain(place, f"{name!r} is this route itself; name another")
            elif not is_open and not answered(name, names):
                message = f"no route is called {name!r}; {nearest(name, names)}"
                self._reader.complain(place, message)


def place_of(node: Node, *path: str | int) -> Place:
    """Where the field at `path` stands, or the nearest thing around it that is there."""
    for step in path:
        below: Node | None = None
        match node:
            case Mapping(entries=entries) if isinstance(step, str):
                below = entries.get(step)
            case Sequence(items=items) if isinstance(step, int) and step < len(items):
                below = items[step]
            case Scalar() if isinstance(step, int):
                # One value that stands for a list of one.
                below = node
        if below is None:
            break
        node = below
    return node.place
