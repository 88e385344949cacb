"""Health, server and model metadata: the open inference protocol, REST (KServe v2, 2026-08).

Triton's own answers to health are empty; clients read the status alone, and probes too.
"""

from __future__ import annotations

import msgspec

from trunkline.core.errors import ModelNotFound
from trunkline.core.types import ModelCard

# Of every model: what changes under one name is not kept.
VERSION = "1"


class _Live(msgspec.Struct):
    live: bool


class _Ready(msgspec.Struct):
    # The specification's name and that of KServe's own server.
    live: bool
    ready: bool


class _ModelReady(msgspec.Struct):
    name: str
    ready: bool


class _Server(msgspec.Struct):
    name: str
    version: str
    extensions: list[str]


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Model(msgspec.Struct):
    name: str
    versions: list[str]
    platform: str
    inputs: list[_Tensor]
    outputs: list[_Tensor]


def check_version(model: str, version: str | None) -> None:
    """Raise `ModelNotFound` for a version that there is not; None = any."""
    if version not in (None, VERSION):
        problem = (
            f"Request for unknown model: '{model}' version {version} is not found; "
            f"there is version {VERSION}."
        )
        raise ModelNotFound(problem, param="version")


def render_live() -> bytes:
    """`GET /v2/health/live`, with status 200."""
    return msgspec.json.encode(_Live(True))


def render_ready(*, ready: bool) -> bytes:
    """`GET /v2/health/ready`, with status 200 or 503."""
    return msgspec.json.encode(_Ready(ready, ready))


def render_model_ready(name: str, *, ready: bool) -> bytes:
    """`GET /v2/models/{model}[/versions/{version}]/ready`, with status 200 or 503."""
    return msgspec.json.encode(_ModelReady(name, ready))


def render_server(version: str) -> bytes:
    """`GET /v2`; `version` is ours."""
    return msgspec.json.encode(_Server("trunkline", version, ["generate"]))


def render_model(name: str, card: ModelCard) -> bytes:
    """`GET /v2/models/{model}[/versions/{version}]`, under the name that was asked for."""
    return msgspec.json.encode(
        _Model(
            name,
            [VERSION],
            f"trunkline_{card.architecture}" if card.architecture else "trunkline",
            [_Tensor("text_input", "BYTES", [1])],
            [_Tensor("text_output", "BYTES", [1])],
        )
    )
