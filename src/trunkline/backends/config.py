"""How to reach a backend. Typed and frozen; the file's schema and reference are derived from it."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta


class Timeouts(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long to wait for a backend, in seconds. 0 = for ever."""

    connect: Annotated[float, Meta(ge=0, description="For a connection, TLS included.")] = 5.0
    first_token: Annotated[
        float, Meta(ge=0, description="From the request to the first byte of its answer.")
    ] = 300.0
    idle: Annotated[float, Meta(ge=0, description="Between two pieces of an answer.")] = 120.0
    attempt: Annotated[float, Meta(ge=0, description="For one whole try.")] = 3600.0


class Probe(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to find out whether a backend is well."""

    interval: Annotated[float, Meta(gt=0, description="Seconds between health checks.")] = 5.0
    timeout: Annotated[float, Meta(gt=0, description="Seconds that one may take.")] = 3.0


class LaunchConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How to start an engine that we run ourselves."""

    command: Annotated[
        tuple[str, ...],
        Meta(description="Program and arguments; empty = what the kind starts by default."),
    ] = ()
    model: Annotated[str, Meta(description="Model to load: a path or a name of a hub.")] = ""
    options: Annotated[
        dict[str, Any],
        Meta(
            description="Engine options by their canonical names; see `trunkline config options`."
        ),
    ] = {}
    args: Annotated[tuple[str, ...], Meta(description="Further arguments, as they are.")] = ()
    env: Annotated[dict[str, str], Meta(description="Further environment variables.")] = {}
    image: Annotated[
        str, Meta(description="Run in a container of this image, by Docker or Podman.")
    ] = ""
    start_timeout: Annotated[float, Meta(gt=0, description="Seconds until it must be healthy.")] = (
        900.0
    )
    stop_timeout: Annotated[float, Meta(gt=0, description="Seconds from SIGTERM to SIGKILL.")] = (
        30.0
    )
    on_demand: Annotated[
        bool, Meta(description="Start at the first request instead of with the server.")
    ] = False
    keep_alive: Annotated[
        float, Meta(description="Seconds without requests until it is stopped; negative = never.")
    ] = 300.0
    memory: Annotated[
        int,
        Meta(
            ge=0,
            extra={"unit": "bytes"},
            description="Memory that it needs, for the budget; 0 = estimate.",
        ),
    ] = 0


class BackendConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One server that can answer."""

    name: Annotated[str, Meta(min_length=1, description="Its name in routes, logs and metrics.")]
    kind: Annotated[str, Meta(description="What it is: vllm, openai, anthropic, ...")]
    url: Annotated[
        str, Meta(description="Its base URL; empty = the kind's own, or where it is launched.")
    ] = ""
    api_key: Annotated[
        str, Meta(description="Its key; env:NAME reads a variable. Empty = the kind's variable.")
    ] = ""
    dialect: Annotated[
        str, Meta(description="Dialect to speak, where the kind speaks several.")
    ] = ""
    models: Annotated[
        tuple[str, ...],
        Meta(description="Models to offer from here; empty = those that it lists."),
    ] = ()
    headers: Annotated[dict[str, str], Meta(description="Further header fields.")] = {}
    default_body: Annotated[
        dict[str, Any],
        Meta(
            description="Fields of bodies in which the request does not set them; also within "
            "`generationConfig`, `inferenceConfig` and `options`."
        ),
    ] = {}
    extra_body: Annotated[
        dict[str, Any], Meta(description="Fields of each body, whatever the request says.")
    ] = {}
    features: Annotated[
        dict[str, bool], Meta(description="Corrections to what the kind or the probe says it can.")
    ] = {}
    probe: Annotated[
        bool | None,
        Meta(description="Try with a few tokens what it can do; null = where that costs nothing."),
    ] = None
    unsupported: Annotated[
        Literal["refuse", "drop"],
        Meta(description="What to do with parameters that it cannot honour."),
    ] = "refuse"
    max_connections: Annotated[int, Meta(ge=1, description="Most connections to it.")] = 1024
    verify_tls: Annotated[bool, Meta(description="Check its certificate.")] = True
    timeouts: Timeouts = Timeouts()
    health: Probe = Probe()
    # Of cloud providers: region, project, deployment, api_version, ...
    provider: Annotated[
        dict[str, str], Meta(description="What a provider needs besides: region, project, ...")
    ] = {}
    launch: LaunchConfig | None = None

    def __repr__(self) -> str:
        """Without the key and whatever else may hold a secret."""
        return f"BackendConfig(name={self.name!r}, kind={self.kind!r}, url={self.url!r})"
