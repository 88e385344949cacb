"""From a configuration to a backend that answers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import msgspec

from trunkline.backends.address import Address, locate
from trunkline.backends.auth.gcp import GcpAuth, ServiceAccount, read_service_account
from trunkline.backends.auth.schemes import Auth, Fields, FixedAuth
from trunkline.backends.auth.secrets import Secret, find_key, resolve
from trunkline.backends.auth.sigv4 import SigV4Auth, find_credentials
from trunkline.backends.config import BackendConfig
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.fetch import fetch
from trunkline.backends.http.origin import Base, Origin, parse_url
from trunkline.backends.http.pool import Pool, PoolLimits
from trunkline.backends.kind import Kind, Value
from trunkline.backends.kinds import find_kind
from trunkline.backends.remote import RemoteBackend
from trunkline.backends.site import Site, checked
from trunkline.backends.watch import Watcher
from trunkline.core.errors import InvalidRequest
from trunkline.wire.client import Speaker

# Connections that checks have for themselves.
_WATCH = PoolLimits(max_connections=2, max_waiting=16, connect=3.0)
_TOKEN = PoolLimits(max_connections=1)
_TOKEN_TIMEOUT = 15.0
# Ollama's own variable may hold "0.0.0.0:11434", where it listens.
_EVERYWHERE = "0.0.0.0"  # noqa: S104 - recognised, not bound
# Locations of Vertex AI that are several regions: their hosts are called otherwise.
_REGIONS = re.compile(r"//(us|eu)-aiplatform\.")


class Unusable(ValueError):
    """A configuration that no backend can be made of; it never repeats a secret."""

    def __init__(self, name: str, field: str, problem: str) -> None:
        """`field` of the backend called `name`, such as "provider.project", is wrong."""
        super().__init__(f"backend {name!r}, {field}: {problem}")
        self.field = field
        self.problem = problem


class Remote(msgspec.Struct, frozen=True):
    """A backend and what keeps it up to date."""

    backend: RemoteBackend
    watcher: Watcher
    # All that are its own, of the client that it was made with.
    pools: tuple[Pool, ...]

    async def close(self, client: HttpClient) -> None:
        """Stop watching, and close every connection."""
        await self.watcher.close()
        for pool in self.pools:
            await client.drop(pool)


def connect(
    config: BackendConfig,
    client: HttpClient,
    speakers: Mapping[str, Speaker],
    environ: Mapping[str, str],
) -> Remote:
    """The backend that `config` describes. Nothing is sent before `watcher.start`.

    Raises ValueError as `check`.
    """
    kind, values, key, last = _read(config, environ)
    place = _address(kind, config, values, environ)
    kind, origin, base = place.kind, place.origin, place.base
    try:
        auth = make_auth(kind, config, key, values, environ, client)
    except ValueError as error:
        raise Unusable(config.name, "api_key", str(error)) from None
    missing = "" if auth is not None else _missing(kind)
    auth = auth or FixedAuth("none", None)
    limits = PoolLimits(max_connections=config.max_connections, connect=config.timeouts.connect)
    main = Site(client.pool(origin, config.name, limits), base, auth, kind.headers, last)
    side = Site(client.pool(origin, config.name, _WATCH), base, auth, kind.headers, last)
    backend = RemoteBackend(config, kind, main, speakers, client.ticker, place.values, missing)
    metrics = _metrics_site(kind, config, origin, side, client)
    sites = (main, side) if metrics is None else (main, side, metrics)
    pools = tuple({site.pool: None for site in sites})
    return Remote(backend, Watcher(backend, side, metrics), pools)


def check(config: BackendConfig, environ: Mapping[str, str]) -> None:
    """Raises ValueError, mostly `Unusable`, where `config` is not complete or refers to a variable
    that is not set. What is launched has no address yet.
    """
    kind, values, key, _ = _read(config, environ)
    if config.launch is None:
        _address(kind, config, values, environ)
    _metrics_port(kind, config)
    if kind.auth == "gcp":
        try:
            _service_account(key, values, environ)
        except ValueError as error:
            raise Unusable(config.name, "api_key", str(error)) from None


def _read(
    config: BackendConfig, environ: Mapping[str, str]
) -> tuple[Kind, dict[str, str], Secret | None, dict[str, str]]:
    """The kind, what fills braces, the key, and header fields that can be sent."""
    kind = find_kind(config.kind)
    values = provider_values(kind, config, environ)
    try:
        key = find_key(config.api_key, kind.key_variables, environ)
    except ValueError as error:
        raise Unusable(config.name, "api_key", str(error)) from None
    try:
        last = {name: resolve(value, environ) for name, value in config.headers.items()}
        checked(last)
    except ValueError as error:
        raise Unusable(config.name, "headers", str(error)) from None
    except InvalidRequest as error:
        raise Unusable(config.name, "headers", error.message) from None
    return kind, values, key, last


def _address(
    kind: Kind, config: BackendConfig, values: Mapping[str, str], environ: Mapping[str, str]
) -> Address:
    try:
        url, own = base_url(kind, config, values, environ), _filled(kind.url, values)
        same = url.rstrip("/") == own.rstrip("/")
        return locate(kind, url, values, own=same, verify=config.verify_tls)
    except Unusable:
        raise
    except ValueError as error:
        raise Unusable(config.name, "url", str(error)) from None


def provider_values(
    kind: Kind, config: BackendConfig, environ: Mapping[str, str]
) -> dict[str, str]:
    """What fills the braces of URL and paths. Raises ValueError where something is missing."""
    values = {name: resolve(value, environ) for name, value in config.provider.items()}
    for value in kind.values:
        if not values.get(value.name):
            found = next((environ[name] for name in value.variables if environ.get(name)), "")
            values[value.name] = found or value.default
        if not values[value.name]:
            raise Unusable(config.name, f"provider.{value.name}", _must_be_given(value))
    return values


def base_url(
    kind: Kind, config: BackendConfig, values: Mapping[str, str], environ: Mapping[str, str]
) -> str:
    """The URL given, else that of the environment, else the kind's own."""
    url = resolve(config.url, environ) if config.url else ""
    if not url:
        url = next((environ[name] for name in kind.url_variables if environ.get(name)), kind.url)
        if url and "://" not in url and not url.startswith("unix:"):
            url = f"http://{url.replace(_EVERYWHERE, '127.0.0.1')}"
            url = url if ":" in url.removeprefix("http://") else f"{url}:{kind.port}"
    if not url:
        raise Unusable(config.name, "url", f"it must be given for {kind.title}")
    return _filled(url, values)


def _filled(url: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        url = url.replace(f"{{{name}}}", value)
    # Vertex's location "global" has no host of its own.
    url = url.replace("//global-aiplatform.", "//aiplatform.")
    return _REGIONS.sub(r"//aiplatform.\1.rep.", url)


def make_auth(
    kind: Kind,
    config: BackendConfig,
    key: Secret | None,
    values: Mapping[str, str],
    environ: Mapping[str, str],
    client: HttpClient,
) -> Auth | None:
    """How requests show who sends them; None = a key is needed and there is none.

    Raises ValueError where the credentials cannot be used.
    """
    if kind.auth == "sigv4":
        credentials = find_credentials(key, values, environ)
        if credentials is not None:
            return SigV4Auth(credentials, values["region"], "bedrock")
        return None if key is None else FixedAuth("bearer", key)
    if kind.auth == "gcp":
        return _gcp(key, values, environ, client)
    if key is None and kind.hosted and kind.auth != "none":
        return None
    return FixedAuth(kind.auth, key)


def _gcp(
    key: Secret | None, values: Mapping[str, str], environ: Mapping[str, str], client: HttpClient
) -> Auth:
    """A token that is given; else of a service account's file; else of the metadata server."""
    if _is_token(key):
        return FixedAuth("bearer", key)
    return GcpAuth(Exchange(client).ask, _service_account(key, values, environ))


def _is_token(key: Secret | None) -> bool:
    return key is not None and not key.reveal().startswith("{")


def _service_account(
    key: Secret | None, values: Mapping[str, str], environ: Mapping[str, str]
) -> ServiceAccount | None:
    """The one whose file is the key, or is named; None: none is. Raises ValueError."""
    if _is_token(key):
        return None
    text = key.reveal().encode() if key is not None else b""
    path = values.get("credentials") or environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    if not text and path:
        try:
            text = Path(path).read_bytes()
        except OSError as error:
            raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    return read_service_account(text) if text else None


class Exchange:
    """Asks token endpoints, which are not the backend's own host."""

    def __init__(self, client: HttpClient) -> None:
        self._client = client

    async def ask(self, method: str, url: str, fields: Fields, body: bytes) -> tuple[int, bytes]:
        """One request with a connection of its own. Raises `TrunklineError`."""
        origin, path = parse_url(url)
        pool = self._client.pool(origin, origin.host, _TOKEN)
        try:
            site = Site(pool, Base(), FixedAuth("none", None))
            head = site.head(method, path or "/", fields, body)
            response = await fetch(pool, head, body, timeout=_TOKEN_TIMEOUT)
        finally:
            await self._client.drop(pool)
        return response.head.status, response.body


def _metrics_site(
    kind: Kind, config: BackendConfig, origin: Origin, side: Site, client: HttpClient
) -> Site | None:
    """Where the load is told: the server itself, or another port of its host."""
    if kind.metrics is None:
        return None
    port = _metrics_port(kind, config)
    if not port:
        return side
    other = msgspec.structs.replace(origin, port=port, tls=False)
    return Site(client.pool(other, config.name, _WATCH), Base(), FixedAuth("none", None))


def _metrics_port(kind: Kind, config: BackendConfig) -> int:
    """0 = the server's own."""
    given = config.provider.get("metrics_port", "")
    if given and not given.isdecimal():
        raise Unusable(config.name, "provider.metrics_port", "it must be a number")
    return int(given) if given else kind.metrics.port if kind.metrics is not None else 0


def _must_be_given(value: Value) -> str:
    variables = " or ".join(value.variables)
    return f"it must be given, or {variables} be set" if variables else "it must be given"


def _missing(kind: Kind) -> str:
    variables = " or ".join(kind.key_variables)
    if kind.auth == "sigv4":
        variables = "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or " + variables
    return f"there is no key for {kind.title}: give api_key, or set {variables}"
