"""Base URLs as people write them: where that leads, and what a kind is there.

One rule: a URL gets the dialect's version (``/v1``) unless it ends with a version; but the path of
one for a kind that OpenAI's clients are used with (`Kind.reading` "api") stays as it is. A URL that
ends with an operation's own path is that operation's.

Sources: LiteLLM 1.106.2 (it gives OpenAI's client ``api_base`` as it is; llms/azure/common_utils,
llms/azure_ai, ``_complete_azure_ai`` in main), openai/lib/azure.py and anthropic/lib/foundry.py of
the vendors' clients, learn.microsoft.com/azure/ai-foundry (openai/api-version-lifecycle; AI Model
Inference 2024-05-01-preview), read 2026-11.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from urllib.parse import parse_qsl, quote, unquote

import msgspec
from msgspec.structs import replace

from trunkline.backends.hosted_kinds import AZURE, AZURE_VERSION
from trunkline.backends.http.origin import Base, Origin, has_version, parse_url
from trunkline.backends.kind import Kind, Reading

# Operations at whose paths a URL may end; "openai." stands for all of that dialect.
_ENDINGS: Mapping[str, re.Pattern[str]] = {
    "openai.": re.compile(r"/(chat/completions|completions|responses|embeddings)$"),
    "anthropic.": re.compile(r"/messages$"),
}
# ``/openai/v1/...`` or ``/openai/deployments/NAME/...``, and what is before it.
_AZURE = re.compile(
    r"(?P<above>.*?)/openai/(?:v1|deployments/(?P<deployment>[^/]+))"
    r"(?:/(?:chat/completions|completions|responses|embeddings))?"
)
_AZURE_V1 = {
    "openai.chat": "/openai/v1/chat/completions",
    "openai.completions": "/openai/v1/completions",
    "openai.responses": "/openai/v1/responses",
}
_CLAUDE = re.compile(
    r"(?P<above>.*?)(?:(?P<own>/anthropic)(?:/v1(?:/messages)?)?|/v1/messages)",
)
_V1 = frozenset(("v1", "preview", "latest"))
_VERSION = "api-version"
# Hosts of Microsoft's own; others may stand in front of them, with any path.
_AZURE_HOSTS = (".openai.azure.com", ".cognitiveservices.azure.com", ".services.ai.azure.com")
_OPENAI_HOSTS = _AZURE_HOSTS[:2]
_FOUNDRY_HOST = _AZURE_HOSTS[2]
# Of Foundry's own hosts, which ask for one.
_FOUNDRY_VERSION = "2024-05-01-preview"


class Address(msgspec.Struct, frozen=True):
    """Where requests go."""

    origin: Origin
    base: Base
    # As it is there: paths, credentials.
    kind: Kind
    # What fills braces in paths.
    values: Mapping[str, str]


def locate(
    kind: Kind, url: str, values: Mapping[str, str], *, own: bool, verify: bool = True
) -> Address:
    """What `url` means for `kind`; `own`: it is the kind's own. Raises ValueError as `parse_url`.

    Microsoft's URLs may end with ``?api-version=...``, which counts more than that of `values`.
    """
    values = dict(values)
    if kind.reading in _QUERIES:
        url, _, query = url.partition("?")
        given = dict(parse_qsl(query, keep_blank_values=True))
        if given.keys() - {_VERSION}:
            raise ValueError("the query of a base URL may hold api-version alone")
        values["api_version"] = given.get(_VERSION) or values.get("api_version", "")
    origin, path = parse_url(url, verify=verify)
    here = Address(origin, Base(path), kind, values)
    return here if own else _READINGS[kind.reading](here)


def _server(here: Address) -> Address:
    """Where the server stands: the dialect's version comes behind it."""
    path = _cut(here)
    return replace(here, base=Base(path, path != here.base.path and not has_version(path)))


def _api(here: Address) -> Address:
    """As OpenAI's clients take it: operations are right below."""
    path = _cut(here)
    return replace(here, base=Base(path, bool(here.base.path)))


def _cut(here: Address) -> str:
    """The path without that of an operation that the kind speaks."""
    path = here.base.path
    for dialect, ending in _ENDINGS.items():
        if any(operation.startswith(dialect) for operation in here.kind.paths):
            path = ending.sub("", path)
    return path


def _azure(here: Address) -> Address:
    """Azure OpenAI: a resource, one of its deployments, or its API without versions (v1)."""
    path, values = here.base.path, dict(here.values)
    if here.origin.host.endswith(_AZURE_HOSTS):
        path = re.sub(r"/openai$", "", path)
    found = _AZURE.fullmatch(path)
    kind, deployment = here.kind, found["deployment"] if found else None
    if deployment:
        values["deployment"] = unquote(deployment)
    elif found or values["api_version"] in _V1:
        kind = replace(kind, paths=_AZURE_V1)
    return Address(here.origin, Base(found["above"] if found else path), kind, values)


def _foundry(here: Address) -> Address:
    """Azure AI Foundry: its models, Claude among them, and Azure OpenAI's beside them."""
    path, host, kind = here.base.path, here.origin.host, here.kind
    if host.endswith(_AZURE_HOSTS):
        kind = replace(kind, auth="foundry")
    if claude := _CLAUDE.fullmatch(path):
        paths = {"anthropic.messages": f"{claude['own'] or ''}/v1/messages"}
        kind = replace(kind, paths=paths, preferred=tuple(paths), only={}, auth="foundry")
        return replace(here, base=Base(claude["above"]), kind=kind)
    if _AZURE.fullmatch(path) or host.endswith(_OPENAI_HOSTS):
        return _azure(_of_openai(replace(here, kind=kind)))
    path, version = _cut(here), here.values["api_version"]
    base, models = Base(path, whole=True), ""
    if host.endswith(_FOUNDRY_HOST):
        base, models = Base(path.removesuffix("/models")), "/models"
        version = version or _FOUNDRY_VERSION
    query = f"?{_VERSION}={quote(version, safe='')}" if version else ""
    paths = {**kind.paths, "openai.chat": f"{models}/chat/completions{query}"}
    return replace(here, base=base, kind=replace(kind, paths=paths))


def _of_openai(here: Address) -> Address:
    """What is Azure OpenAI's, although its kind is Foundry."""
    rest = ("paths", "preferred", "features", "without")
    parts = {name: getattr(AZURE, name) for name in rest}
    kind = replace(here.kind, only={}, **parts)
    version = here.values["api_version"] or AZURE_VERSION
    values = {"deployment": "{model}", **here.values, "api_version": version}
    return replace(here, kind=kind, values=values)


_READINGS: Mapping[Reading, Callable[[Address], Address]] = {
    "server": _server,
    "api": _api,
    "azure": _azure,
    "foundry": _foundry,
}
_QUERIES = frozenset(("azure", "foundry"))
