"""One gateway, two upstreams under the tests' control, for all tests of a module."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.e2e.gateway.raw_peer import Peer, listen
from tests.e2e.gateway.serving import gateway
from tests.support.server import Server

# What must never be seen outside.
KEY = "sk-upstream-secret-0123456789"
# No breaker opens unless a test is about breakers.
PATIENT = {"failures": 100_000, "least": 100_000}


class Line(NamedTuple):
    """A gateway and the two servers behind it."""

    server: Server
    first: Peer
    second: Peer


def backend(peer: Peer, **more: Any) -> dict[str, Any]:
    """A backend of the configuration; times are short, so that tests are."""
    return {
        "kind": "openai-compatible",
        "url": peer.url,
        "api_key": KEY,
        "models": ["m"],
        "probe": False,
        "timeouts": {"connect": 2, "first_token": 1, "idle": 1},
        **more,
    }


def ordered(**more: Any) -> dict[str, Any]:
    """A route that asks the second server only when the first cannot."""
    return {
        "targets": [
            {"backend": "first", "model": "m", "order": 0},
            {"backend": "second", "model": "m", "order": 1},
        ],
        "breaker": PATIENT,
        "retries": {"attempts": 1, "base": 0.05},
        **more,
    }


def alone(**more: Any) -> dict[str, Any]:
    """A route to the first server, without a second try."""
    return {"targets": ["first/m"], "breaker": PATIENT, "retries": {"attempts": 0}, **more}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """Routes `solo` (one try at the first) and `pair` (then the second)."""
    with listen() as first, listen() as second:
        speaks_messages = {"kind": "anthropic-compatible"}
        config = {
            "server": {"write_timeout": 2, "stream_keepalive": 30},
            "backends": {
                "first": backend(first),
                "second": backend(second),
                "quiet": backend(first, timeouts={"first_token": 20, "idle": 20}),
                "gone": backend(first, url="http://127.0.0.1:9"),
                "claude-1": backend(first, **speaks_messages),
                "claude-2": backend(second, **speaks_messages),
            },
            "routes": {
                "solo": alone(),
                "pair": ordered(),
                # It asks again although it was told to come much later.
                "limited": alone(retries={"attempts": 0, "retry_after": 0}),
                "quiet": alone(targets=["quiet/m"]),
                "patient": alone(retries={"attempts": 2, "base": 0.05}),
                "refusing": alone(targets=["gone/m"]),
                "messages": ordered(
                    targets=[
                        {"backend": "claude-1", "model": "m", "order": 0},
                        {"backend": "claude-2", "model": "m", "order": 1},
                    ]
                ),
            },
        }
        with gateway(tmp_path_factory.mktemp("gateway"), config) as server:
            yield Line(server, first, second)
