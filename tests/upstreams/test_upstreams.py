"""The stand-ins satisfy the vendors' own clients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest

from tests.support.upstreams.script import Call, Fault, Script
from tests.support.upstreams.server import Upstream, start
from tests.upstreams.clients import CLIENTS, Answer, Client

PIECES = ("Grüße", ", ", "world", " 🌍", "!")
TEXT = "Grüße, world 🌍!"


@pytest.fixture(scope="module", params=sorted(CLIENTS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client(kind: str) -> Client:
    return CLIENTS[kind]


@pytest.fixture(scope="module")
def upstream(kind: str) -> Iterator[Upstream]:
    with start(kind) as running:
        yield running


def _streamed(client: Client, upstream: Upstream, *, tools: bool = False) -> tuple[str, Answer]:
    *pieces, answer = client.stream(upstream.url, tools)
    assert isinstance(answer, Answer)
    assert all(isinstance(piece, str) for piece in pieces)
    return "".join(str(piece) for piece in pieces), answer


def test_text(client: Client, upstream: Upstream) -> None:
    upstream.play(Script(pieces=PIECES))
    answer = client.whole(upstream.url, False)
    assert answer.text == TEXT
    assert answer.usage in ((11, 5), None)
    text, answer = _streamed(client, upstream)
    assert (text, answer.text) == (TEXT, TEXT)
    assert answer.usage in ((11, 5), None)
    assert len(upstream.requests) == 2
    assert upstream.cancelled == 0


def test_calls(kind: str, client: Client, upstream: Upstream) -> None:
    if kind == "tgi":
        pytest.skip("its generate has no tools")
    calls = (Call("get_weather", {"city": "Paris é"}), Call("now", {}, "call_stand_in_2"))
    upstream.play(Script(pieces=(), calls=calls))
    expected = [("get_weather", {"city": "Paris é"}), ("now", {})]
    assert client.whole(upstream.url, True).calls == expected
    assert _streamed(client, upstream, tools=True)[1].calls == expected
    assert b"get_weather" in upstream.requests[0].data


def test_thinking(kind: str, client: Client, upstream: Upstream) -> None:
    if kind in ("tgi", "openai", "mistral"):
        pytest.skip("its client has no field for it")
    upstream.play(Script(pieces=PIECES, reasoning="Hm, Grüße."))
    answer = client.whole(upstream.url, False)
    assert (answer.reasoning, answer.text) == ("Hm, Grüße.", TEXT)
    _, answer = _streamed(client, upstream)
    assert (answer.reasoning, answer.text) == ("Hm, Grüße.", TEXT)


@pytest.mark.parametrize("status", [400, 429, 529])
def test_errors(kind: str, client: Client, upstream: Upstream, status: int) -> None:
    upstream.play(Script(error=status, message="stand-in says no", retry_after=7))
    with pytest.raises(client.error) as caught:
        client.whole(upstream.url, False)
    if client.status is not None:
        assert client.status(caught.value) == status
        assert "stand-in says no" in str(caught.value) + str(getattr(caught.value, "body", ""))
    with pytest.raises(client.error):
        list(client.stream(upstream.url, False))
    assert len(upstream.requests) == 2


@pytest.mark.parametrize("fault", ["die", "die_mid", "garbage"])
def test_what_breaks_is_no_answer(client: Client, upstream: Upstream, fault: Fault) -> None:
    upstream.play(Script(pieces=PIECES, fault=fault))
    with contextlib.suppress(Exception):
        # What a client makes of it is its own affair, but for the answer.
        assert client.whole(upstream.url, False).text != TEXT
    assert len(upstream.requests) == 1
    assert upstream.cancelled == 0


def test_a_client_that_leaves_is_noticed(client: Client, upstream: Upstream) -> None:
    upstream.play(Script(pieces=PIECES, fault="hang_mid"))
    stream = client.stream(upstream.url, False)
    assert next(one for one in stream if one) == PIECES[0]
    stream.close()  # type: ignore[attr-defined]
    del stream
    upstream.wait_cancelled()
    assert upstream.cancelled == 1


def test_slow_heads(client: Client, upstream: Upstream) -> None:
    upstream.play(Script(pieces=PIECES, fault="slow_head", pause=0.1))
    assert client.whole(upstream.url, False).text == TEXT


def test_answers_by_turns_and_by_request() -> None:
    with start("openai", (Script(error=500), Script(pieces=("second",)))) as upstream:
        client = CLIENTS["openai"]
        with pytest.raises(client.error):
            client.whole(upstream.url, False)
        assert client.whole(upstream.url, False).text == "second"
        assert client.whole(upstream.url, False).text == "second"
        upstream.play(lambda seen: Script(pieces=(seen.body["model"],)))
        assert client.whole(upstream.url, False).text == "m"
