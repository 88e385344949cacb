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


# Limits that a server that hangs soon meets, and one that answers does not on a busy machine.
SHORT = {"connect": 2, "first_token": 1.5, "idle": 1.5}


def backend(peer: Peer, **more: Any) -> dict[str, Any]:
    """A backend of the configuration; times are short, so that tests are."""
    return {
        "kind": "openai-compatible",
        "url": peer.url,
        "api_key": KEY,
        "models": ["m"],
        "probe": False,
        "timeouts": SHORT,
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


def configuration(first: Peer, second: Peer, **server: Any) -> dict[str, Any]:
    """Routes `solo` (one try at the first), `pair` (then the second), and others."""
    speaks_messages = {"kind": "anthropic-compatible"}
    speaks_responses = {"kind": "openai"}
    continues = {"features": {"continue_final_message": True}}
    orders = ({"model": "m", "order": 0}, {"model": "m", "order": 1})

    def both(one: str, other: str) -> dict[str, Any]:
        return {"targets": [{"backend": one, **orders[0]}, {"backend": other, **orders[1]}]}

    return {
        "server": {"write_timeout": 2, **server},
        "backends": {
            "first": backend(first),
            "second": backend(second),
            "quiet": backend(first, timeouts={"first_token": 20, "idle": 20}),
            "streamless": backend(first, features={"stream": False}),
            "gone": backend(first, url="http://127.0.0.1:9"),
            "claude-1": backend(first, **speaks_messages, **continues),
            "claude-2": backend(second, **speaks_messages, **continues),
            "going-1": backend(first, **continues),
            "going-2": backend(second, **continues),
            "openai-1": backend(first, **speaks_responses, **continues),
            "openai-2": backend(second, **speaks_responses, **continues),
        },
        "routes": {
            "solo": alone(),
            "pair": ordered(),
            # Nobody waits because a target said so.
            "limited": alone(retries={"attempts": 0, "retry_after": 0}),
            "quiet": alone(targets=["quiet/m"]),
            "queued": alone(targets=[{"backend": "quiet", "model": "m", "max_parallel": 1}]),
            "patient": alone(retries={"attempts": 2, "base": 0.05}),
            "slow-retry": alone(retries={"attempts": 1, "base": 0.6}),
            "streamless": alone(targets=["streamless/m"]),
            "refusing": alone(targets=["gone/m"]),
            "messages": ordered(**both("claude-1", "claude-2")),
            "going-on": ordered(**both("going-1", "going-2")),
            "responses": ordered(**both("openai-1", "openai-2")),
            "mixed": ordered(**both("first", "claude-2")),
            "turned": alone(targets=["second/m"]),
            "renamed": alone(),
            "turns": alone(targets=["first/m", "claude-2/m"], strategy="round_robin"),
        },
    }


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """With comments in silent streams only after a long time."""
    with listen() as first, listen() as second:
        config = configuration(first, second, stream_keepalive=30)
        with gateway(tmp_path_factory.mktemp("gateway"), config) as server:
            yield Line(server, first, second)


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """With comments in silent streams soon."""
    with listen() as first, listen() as second:
        config = configuration(first, second, stream_keepalive=0.1)
        with gateway(tmp_path_factory.mktemp("lively"), config) as server:
            yield Line(server, first, second)
