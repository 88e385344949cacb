"""Routing as it is seen from outside: who answers, what is said of it, and what never gets out."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.conftest import KEY, PATIENT, Line, backend
from tests.e2e.gateway.raw_peer import Answer, Conversation, listen, say
from tests.e2e.gateway.serving import DIALECTS, gateway, health, post, targets, wait_idle

CLIENT_KEY = "sk-client-secret-9876543210"
CHAT = DIALECTS["openai.chat"]
# Nothing here waits for a limit but a shadow, which nobody waits for.
LONG = {"connect": 10, "first_token": 30, "idle": 30}
FALLBACKS = ["other", "long", "lenient", "spare"]


def failing(status: int, message: str, code: str = "") -> Answer:
    """An error in OpenAI's words."""

    async def fails(talk: Conversation) -> None:
        error = {"message": message, "type": "invalid_request_error", "code": code or None}
        talk.respond(json.dumps({"error": error}).encode(), status=status)

    return fails


def saying(*pieces: str) -> Answer:
    async def says(talk: Conversation) -> None:
        await say(talk, *pieces)

    return says


def both(**more: Any) -> dict[str, Any]:
    return {"targets": ["first/m", "second/m"], "breaker": PATIENT, **more}


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    once = {"retries": {"attempts": 0}, "breaker": PATIENT}
    with listen() as first, listen() as second:
        config = {
            "keys": [CLIENT_KEY],
            "backends": {
                "first": backend(
                    first, timeouts=LONG, headers={"x-secret": "sk-header-secret-555"}
                ),
                "second": backend(second, timeouts=LONG, models=[*FALLBACKS, "m"]),
                "shadow": backend(second, models=["shadow"]),
            },
            "routes": {
                "kinds": {
                    "targets": ["first/m"],
                    "fallbacks": {
                        "error": ["other"],
                        "context_window": ["long"],
                        "content_policy": ["lenient"],
                        "rate_limit": ["spare"],
                    },
                    **once,
                },
                "other": {"targets": [{"backend": "second", "model": "other"}], **once},
                "long": {"targets": [{"backend": "second", "model": "long"}], **once},
                "lenient": {"targets": [{"backend": "second", "model": "lenient"}], **once},
                "spare": {"targets": [{"backend": "second", "model": "spare"}], **once},
                "hedged": {
                    "targets": [
                        {"backend": "first", "model": "m", "order": 0},
                        {"backend": "second", "model": "m", "order": 1},
                    ],
                    "hedge": {"after": 0.15},
                    **once,
                },
                "split": {
                    "targets": [
                        {"backend": "first", "model": "m", "arm": "a", "weight": 1},
                        {"backend": "second", "model": "m", "arm": "b", "weight": 1},
                    ],
                    **once,
                },
                "weighted": {
                    "targets": [
                        {"backend": "first", "model": "m", "weight": 4},
                        {"backend": "second", "model": "m", "weight": 1},
                    ],
                    **once,
                },
                "turns": both(strategy="round_robin"),
                "shadowed": {"targets": ["first/m"], "shadow": {"route": "shadow"}, **once},
                "fragile": {
                    "targets": ["first/m"],
                    "retries": {"attempts": 0},
                    "breaker": {"failures": 2, "cooldown": 4},
                },
            },
        }
        with gateway(tmp_path_factory.mktemp("routing"), config) as server:
            yield Line(server, first, second)


def ask(line: Line, model: str, *, stream: bool = False, **more: Any) -> httpx.Response:
    body = CHAT.body(model, stream=stream) | more
    return post(line.server, CHAT.path, body, authorization=f"Bearer {CLIENT_KEY}")


KINDS = [
    (failing(500, "out of memory"), "other"),
    (failing(400, "This model's maximum context length is 10 tokens."), "long"),
    (failing(400, "Rejected by our content policy", "content_filter"), "lenient"),
    (failing(429, "slow down"), "spare"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("answer", "expected"), KINDS, ids=[one for _, one in KINDS])
def test_fallback_by_kind(line: Line, answer: Answer, expected: str, stream: bool) -> None:
    line.first.play(answer)
    line.second.play(saying("well"))
    response = ask(line, "kinds", stream=stream)
    assert response.status_code == 200, response.text
    assert line.second.talks[-1].asked["model"] == expected
    assert response.headers["x-trunkline-backend"] == "second"
    assert response.headers["x-trunkline-model"] == expected
    assert response.headers["x-trunkline-fallbacks"] == "1"
    assert response.headers["x-trunkline-retries"] == "0"
    assert float(response.headers["server-timing"].removeprefix("ttfb;dur=")) > 0
    # The client goes on calling it as it did.
    assert "kinds" in response.text
    # What it said of its limits is over for the next test.
    time.sleep(0.2)


def test_a_request_that_is_wrong_for_one_may_be_right_for_the_fallback(line: Line) -> None:
    time.sleep(0.3)
    line.first.play(failing(400, "messages: must not be a list of ducks"))
    line.second.play(saying("well"))
    response = ask(line, "kinds")
    assert response.status_code == 200
    assert response.headers["x-trunkline-backend"] == "second"
    # Where it is wrong for all, its own model's words are told.
    line.second.play(failing(400, "no geese, either"))
    response = ask(line, "kinds")
    assert response.status_code == 400
    assert "ducks" in response.json()["error"]["message"]
    assert response.headers["x-trunkline-fallbacks"] == "1"


def test_hedging_cancels_the_loser(line: Line) -> None:
    async def hangs(talk: Conversation) -> None:
        await talk.hang()

    line.first.play(hangs)
    line.second.play(saying("second wins"))
    response = ask(line, "hedged", stream=True)
    assert CHAT.text(response.content, stream=True) == "second wins"
    assert response.headers["x-trunkline-backend"] == "second"
    line.first.wait_gone(1)
    reports = wait_idle(line.server, key=CLIENT_KEY)
    assert reports["hedged: first/m"]["cancelled"] == 1
    assert not reports["hedged: first/m"]["failures"]


def test_hedging_keeps_the_first_where_that_is_faster_after_all(line: Line) -> None:
    async def is_a_little_slow(talk: Conversation) -> None:
        await asyncio.sleep(0.3)
        await say(talk, "first wins")

    async def hangs(talk: Conversation) -> None:
        await talk.hang()

    line.first.play(is_a_little_slow)
    line.second.play(hangs)
    response = ask(line, "hedged")
    assert response.json()["choices"][0]["message"]["content"] == "first wins"
    line.second.wait_gone(1)


def test_split_is_sticky_and_reported(line: Line) -> None:
    line.first.play(saying("a"))
    line.second.play(saying("b"))
    arms: dict[str, set[str]] = {}
    for _ in range(3):
        for number in range(24):
            user = f"user-{number}"
            response = ask(line, "split", user=user)
            assert response.status_code == 200, response.text
            arms.setdefault(user, set()).add(response.headers["x-trunkline-arm"])
    assert all(len(seen) == 1 for seen in arms.values())
    assert {arm for seen in arms.values() for arm in seen} == {"a", "b"}
    page = health(line.server, CLIENT_KEY)
    (told,) = [route["arms"] for route in page["routes"] if route["name"] == "split"]
    assert {one["arm"] for one in told} == {"a", "b"}
    assert sum(one["requests"] for one in told) == 72
    assert sum(one["successes"] for one in told) == 72


def test_weights(line: Line) -> None:
    line.first.play(saying("one"))
    line.second.play(saying("other"))
    seen = Counter(ask(line, "weighted").headers["x-trunkline-backend"] for _ in range(60))
    # Of a fair coin of four to one, five standard deviations.
    assert 33 < seen["first"] < 60, seen


def test_turns(line: Line) -> None:
    seen = [ask(line, "turns").headers["x-trunkline-backend"] for _ in range(6)]
    assert seen in (["first", "second"] * 3, ["second", "first"] * 3)


SHADOWS = {
    "answers": saying("something else"),
    "fails": failing(500, "shadow is down"),
    "hangs": Conversation.hang,
    "dies": Conversation.break_off,
}


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("shadow", SHADOWS.values(), ids=SHADOWS.keys())
def test_shadow_never_affects(line: Line, shadow: Answer, stream: bool) -> None:
    line.first.play(saying("the real", " answer"))
    line.second.play(shadow)
    response = ask(line, "shadowed", stream=stream)
    assert response.status_code == 200
    assert CHAT.text(response.content, stream=stream) == "the real answer"
    assert response.headers["x-trunkline-backend"] == "first"
    line.second.wait(lambda peer: bool(peer.talks))
    assert line.second.talks[0].asked["model"] == "shadow"


def test_breaker_opens_and_closes(line: Line) -> None:
    line.first.play(failing(500, "ill"))
    for _ in range(2):
        assert ask(line, "fragile").status_code in (500, 502)
    asked = len(line.first.talks)
    refused = ask(line, "fragile")
    assert refused.status_code == 503
    assert int(refused.headers["retry-after"]) >= 1
    assert len(line.first.talks) == asked
    assert targets(line.server, CLIENT_KEY)["fragile: first/m"]["breaker"] == "open"
    line.first.play(saying("better"))
    deadline = time.monotonic() + 60
    while ask(line, "fragile").status_code == 503:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert ask(line, "fragile").status_code == 200
    assert targets(line.server, CLIENT_KEY)["fragile: first/m"]["breaker"] == "closed"


def test_metrics_tell_of_routes(line: Line) -> None:
    text = httpx.get(f"{line.server.url}/metrics").text
    for needle in ('route="kinds"', 'route="split"', 'arm="a"', "first", "hedge"):
        assert needle in text, needle


def test_secrets_stay_inside(line: Line) -> None:
    """In no answer, no page and no log, whatever goes wrong."""
    answers = [failing(status, f"bad key {KEY} and sk-header-secret-555") for status in (400, 500)]
    told = []
    for answer in answers:
        line.first.play(answer)
        told.append(ask(line, "weighted").text + ask(line, "hedged").text)
    for path in ("/health", "/metrics", "/v1/models", "/health/ready"):
        key = {"authorization": f"Bearer {CLIENT_KEY}"}
        told.append(httpx.get(f"{line.server.url}{path}", headers=key).text)
    wrong = httpx.get(f"{line.server.url}/v1/models", headers={"authorization": "Bearer sk-nope"})
    assert wrong.status_code == 401
    told.append(wrong.text)
    told.append(line.server.log.read_text())
    for secret in (KEY, CLIENT_KEY, "sk-header-secret-555"):
        assert not [text for text in told if secret in text], secret


def test_the_clients_key_goes_no_further(line: Line) -> None:
    line.first.play(saying("hi"))
    line.second.play(saying("hi"))
    ask(line, "weighted")
    for talk in (*line.first.talks, *line.second.talks):
        assert CLIENT_KEY.encode() not in talk.head + talk.body
        assert KEY.encode() in talk.head


def test_nothing_is_left_behind(line: Line) -> None:
    wait_idle(line.server, key=CLIENT_KEY)
    log = line.server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
