"""Every word for thinking, to a stand-in that refuses what Google's models refuse."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.upstreams.server import Upstream, start
from tests.wire.speaking import asking, chat, terms
from trunkline.wire.gemini.client import GENERATE

MODELS = (
    "gemini-2.0-flash",
    "gemini-2.5-pro",
    "gemini-2.5-flash",
    "gemini-2.5-flash-lite",
    "gemini-3-pro-preview",
    "gemini-3-flash-preview",
    "gemini-3.1-pro-preview",
    "gemini-4-argon",
)
EFFORTS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
ASKED: tuple[dict[str, Any], ...] = (
    {},
    *({"reasoning_effort": one} for one in EFFORTS),
    *({"enable_thinking": True, "thinking_budget": one} for one in (0, 1, 1024, 100_000)),
    {"enable_thinking": True},
    {"enable_thinking": False},
)


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with start("gemini") as running:
        yield running


@pytest.mark.parametrize("model", MODELS)
def test_no_model_refuses_what_is_sent(upstream: Upstream, model: str) -> None:
    with httpx.Client(timeout=30, headers={"x-goog-api-key": "k"}) as client:
        for variables in ASKED:
            request = asking(chat("x", template_kwargs=variables))
            outgoing = GENERATE.encode(request, terms(model=model))
            answer = client.post(upstream.url + outgoing.path, content=outgoing.body)
            assert answer.status_code == 200, (variables, answer.text)
