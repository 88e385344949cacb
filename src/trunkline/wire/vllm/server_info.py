"""`GET /load` and `GET /version` (vLLM's docs/serving/online_serving, 2026).

`GET` and `POST /ping` answer as `/health`: an empty body.
"""

from __future__ import annotations

import msgspec

from trunkline.core.types import BackendStats


class _Load(msgspec.Struct):
    server_load: int


class _Version(msgspec.Struct):
    version: str


def render_load(stats: BackendStats) -> bytes:
    """Requests under way: those that run and those that wait."""
    return msgspec.json.encode(_Load(stats.running + stats.waiting))


def render_version(version: str) -> bytes:
    """Ours."""
    return msgspec.json.encode(_Version(version))
