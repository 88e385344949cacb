"""LiteLLM's `config.yaml` as it is (docs.litellm.ai/docs/proxy/configs).

What it means for us: the entries of one `model_name` are the targets of one route; entries that
differ in model alone share a backend; settings hold for every route. What we do not have is noted
with its place, and does not stop anything; only a server that would be open although its file
closes it is refused.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Mapping as Environ
from pathlib import Path

import msgspec

from trunkline.gateway.config import Fallbacks, Retries, RouteConfig, Target
from trunkline.gateway.wildcard import match
from trunkline.server.config import ServerConfig
from trunkline.server.file.config import FileConfig, Loaded
from trunkline.server.file.document import MAX_BYTES, Mapping, Scalar, Sequence, parse
from trunkline.server.file.litellm_models import WELL_KNOWN, Deployment, Deployments
from trunkline.server.file.litellm_settings import MAX_RETRIES, read_settings
from trunkline.server.file.problems import FileError, Place, Problem
from trunkline.server.file.section import Report, Section
from trunkline.server.file.variables import MissingVariable, Variables

_DATABASE = "nothing is kept in a database of LiteLLM's; left out"
_GENERAL_REASONS = {
    "database_url": _DATABASE,
    "database_connection_pool_limit": _DATABASE,
    "store_model_in_db": "models come from this file alone; left out",
    "alerting": "alerts are not sent; use /metrics",
    "custom_auth": "Python code of LiteLLM is not run; left out",
    "background_health_checks": "backends are checked in any case, and never by billing tokens",
    "health_check_interval": "set `health.interval` of a backend in trunkline.yaml",
}
_TOP_REASONS = {
    "guardrails": "guardrails are not supported, and left out: requests are NOT checked by them",
    "mcp_servers": "MCP servers are not supported, and left out",
}


def read_litellm(
    root: Mapping, path: str, environ: Environ[str, str], repeated: list[Problem]
) -> Loaded:
    """The configuration that a tree means. Raises `FileError`.

    `repeated`: keys that are there twice. The last one counts, as for PyYAML, which LiteLLM uses.
    """
    root, files = _with_includes(root, path, repeated)
    environ = _with_variables(root, environ)
    report = Report(Variables(environ, litellm=True))
    top = Section(root, root.place, report)
    top.take("environment_variables")
    for problem in repeated:
        report.note(problem.place, f"{problem.message}; the last one counts")
    settings = read_settings(top.section("router_settings"), top.section("litellm_settings"))
    keys, server = _general(top.section("general_settings"), environ)
    deployments = Deployments(settings, environ, report)
    credentials = _credentials(top)
    found = [
        deployment
        for node in top.items("model_list")
        for deployment in deployments.read(Section(node, node.place, report), credentials)
    ]
    top.rest(_TOP_REASONS)
    made = _Routes(found, deployments, root.place)
    routes = made.build()
    entries = top.items("model_list")
    if not entries:
        report.note(root.place, "there is no model_list, or it is empty: no model is served")
    elif not routes:
        report.note(root.place, "no entry of model_list can be served: no model is served")
    if report.problems:
        raise FileError(report.problems)
    config = FileConfig(
        server=server,
        keys=keys,
        backends=deployments.backends(),
        routes=routes,
        hidden=made.hidden(),
    )
    notes = tuple(sorted(report.notes))
    return Loaded(path=path, format="litellm", config=config, notes=notes, files=files)


def _with_includes(
    root: Mapping, path: str, repeated: list[Problem]
) -> tuple[Mapping, tuple[str, ...]]:
    """The tree with the files that `include` names: lists grow, everything else is replaced."""
    node = root.entries.get("include")
    items = node.items if isinstance(node, Sequence) else ()
    files = [path]
    merged = dict(root.entries)
    for item in items:
        if not isinstance(item, Scalar):
            raise FileError([Problem(item.place, "expected the path of a file")])
        name = str(Path(path).parent / item.text)
        files.append(name)
        other = _included(name, item.place, repeated)
        for key, value in other.entries.items():
            mine = merged.get(key)
            if isinstance(mine, Sequence) and isinstance(value, Sequence):
                value = Sequence(mine.place, (*mine.items, *value.items))
            merged[key] = value
    merged.pop("include", None)
    return Mapping(root.place, merged, root.keys), tuple(files)


def _included(name: str, place: Place, repeated: list[Problem]) -> Mapping:
    try:
        with open(name, "rb") as stream:
            other = parse(stream.read(MAX_BYTES + 1), name, repeated)
    except OSError as error:
        message = f"{name} cannot be read: {error.strerror or error}"
        raise FileError([Problem(place, message)]) from error
    if not isinstance(other, Mapping):
        raise FileError([Problem(other.place, "expected a mapping")])
    return other


def _with_variables(root: Mapping, environ: Environ[str, str]) -> Environ[str, str]:
    """The environment with what `environment_variables` adds to it."""
    node = root.entries.get("environment_variables")
    found = dict(environ)
    variables = Variables(environ, litellm=True)
    for name, value in node.entries.items() if isinstance(node, Mapping) else ():
        if isinstance(value, Scalar) and not value.is_null:
            try:
                found[name] = variables.resolve(value).text
            except MissingVariable:
                # Whoever refers to it is told.
                found.pop(name, None)
    return found


def _general(general: Section, environ: Environ[str, str]) -> tuple[tuple[str, ...], ServerConfig]:
    """Client keys, and the options of the server that LiteLLM's file has."""
    node = general.take("master_key")
    key = environ.get("LITELLM_MASTER_KEY", "") if node is None else ""
    if isinstance(node, Scalar):
        try:
            key = general.report.variables.resolve(node).text
        except MissingVariable as error:
            general.report.problem(node.place, f"{error}; else the server would be open to all")
    if node is not None and not key.strip() and not general.report.problems:
        general.report.problem(node.place, "expected a key: the server would be open to all")
    server = ServerConfig()
    size = general.whole("max_request_size_mb")
    if size:
        server = msgspec.structs.replace(server, max_body=size << 20)
    general.rest(_GENERAL_REASONS)
    return ((key,) if key.strip() else ()), server


def _credentials(top: Section) -> dict[str, Mapping]:
    found = {}
    for node in top.items("credential_list"):
        section = Section(node, node.place, top.report)
        name, values = section.text("credential_name"), section.take("credential_values")
        if name and isinstance(values, Mapping):
            found[name] = values
    return found


class _Routes:
    """Routes of the groups, of wildcards, and of fallbacks that are no group."""

    def __init__(self, found: Iterable[Deployment], deployments: Deployments, place: Place) -> None:
        self._deployments = deployments
        self._settings = deployments.settings
        self._report = deployments.report
        self._place = place
        self._groups: dict[str, list[Deployment]] = {}
        for deployment in found:
            self._groups.setdefault(deployment.group, []).append(deployment)
        self._routes: dict[str, RouteConfig] = {}

    def build(self) -> tuple[RouteConfig, ...]:
        """All of them, in the file's order."""
        aliases = self._aliases()
        for group, members in self._groups.items():
            self._routes[group] = self._route(group, members, aliases.get(group, ()))
        self._add_well_known()
        known = {name for route in self._routes.values() for name in (route.name, *route.aliases)}
        for route in list(self._routes.values()):
            fallbacks = self._fallbacks(route, known)
            self._routes[route.name] = msgspec.structs.replace(route, fallbacks=fallbacks)
        return tuple(self._routes.values())

    def hidden(self) -> tuple[str, ...]:
        """Aliases of the routes that are not listed."""
        aliases = [alias for route in self._routes.values() for alias in route.aliases]
        return tuple(alias for alias in aliases if alias in self._settings.hidden)

    def _aliases(self) -> dict[str, tuple[str, ...]]:
        found: dict[str, tuple[str, ...]] = {}
        for alias, group in self._settings.aliases.items():
            if group not in self._groups or "*" in group:
                self._note(f"model_group_alias: no group is called {group!r}; left out")
            elif alias in self._groups:
                self._note(f"model_group_alias: {alias!r} is a group itself; left out")
            else:
                found[group] = (*found.get(group, ()), alias)
        return found

    def _add_well_known(self) -> None:
        """Routes for bare names of models where a group has all models of their provider.

        Whatever answers to such a name otherwise is left alone.
        """
        for prefix, patterns in WELL_KNOWN.items():
            whole = self._routes.get(f"{prefix}/*")
            for name in patterns if whole is not None else ():
                if whole is None or any(
                    match(other, name) or other == name for other in self._routes
                ):
                    continue
                targets = tuple(
                    msgspec.structs.replace(target, model=target.model.replace("*", name, 1))
                    for target in whole.targets
                )
                changed = msgspec.structs.replace(whole, name=name, aliases=(), targets=targets)
                self._routes[name] = changed

    def _route(
        self, group: str, members: list[Deployment], aliases: tuple[str, ...]
    ) -> RouteConfig:
        settings = self._settings
        return RouteConfig(
            name=group,
            aliases=aliases,
            targets=tuple(_weighted(members)),
            strategy=settings.strategy,
            retries=self._retries(group, members),
            breaker=settings.breaker,
        )

    def _retries(self, group: str, members: list[Deployment]) -> Retries:
        """Those of the group's own policy, else of its entries, else of all groups."""
        settings = self._settings
        attempts = settings.group_retries.get(group)
        own = {one.retries for one in members} - {None}
        if attempts is None and own and not settings.policy:
            wanted = [
                settings.retries.attempts if one.retries is None else one.retries for one in members
            ]
            attempts = min(max(wanted), MAX_RETRIES)
            if len(set(wanted)) > 1:
                message = f"num_retries: one number holds for all of {group!r}: {attempts}"
                self._report.note(members[0].place, message)
        if attempts is None:
            return settings.retries
        return msgspec.structs.replace(settings.retries, attempts=attempts)

    def _fallbacks(self, route: RouteConfig, known: set[str]) -> Fallbacks:
        found = {}
        names = (route.name, *route.aliases)
        for kind, table in self._settings.fallbacks.items():
            wanted = next((table[name] for name in names if name in table), table.get("*", ()))
            found[kind] = tuple(
                name for name in wanted if name not in names and self._is_there(name, known)
            )
        return Fallbacks(**found)

    def _is_there(self, name: str, known: set[str]) -> bool:
        """Whether a fallback can be asked; a `provider/model` outside the list gets a route."""
        if name in known or any(match(group, name) is not None for group in self._groups):
            return True
        target = self._deployments.of_name(name, self._place)
        if target is None:
            self._note(f"fallbacks: {name!r} is neither a group nor provider/model; left out")
            return False
        known.add(name)
        self._routes[name] = RouteConfig(
            name=name,
            targets=(target,),
            retries=self._settings.retries,
            breaker=self._settings.breaker,
        )
        return True

    def _note(self, message: str) -> None:
        self._report.note(self._place, message)


def _weighted(members: list[Deployment]) -> list[Target]:
    """Targets with LiteLLM's weights: `weight` if any has one, else rpm, else tpm, else equal."""
    for metric in range(3):
        weights = [member.weights[metric] for member in members]
        if any(weights):
            return [
                msgspec.structs.replace(member.target, weight=weight)
                for member, weight in zip(members, weights, strict=True)
            ]
    return [member.target for member in members]
