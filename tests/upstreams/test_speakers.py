"""Speakers against the stand-ins, over plain HTTP: two independent readings of each document."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

from tests.support.upstreams.script import Call, Script
from tests.support.upstreams.server import Upstream, start
from tests.wire.speaking import WEATHER, Heard, asking, chat, heard, terms
from trunkline.core.errors import RateLimited, TrunklineError, UpstreamFailed
from trunkline.core.types import Grammar, Request, SamplingParams, TextInput, Usage
from trunkline.wire.client import Head, Terms
from trunkline.wire.speakers import SPEAKERS

# Operation -> the stand-in that speaks it, and what a key is sent as.
KINDS = {
    "openai.chat": ("openai", "authorization"),
    "anthropic.messages": ("anthropic", "x-api-key"),
    "gemini.generate": ("gemini", "x-goog-api-key"),
    "cohere.chat": ("cohere", "authorization"),
    "bedrock.converse": ("bedrock", "authorization"),
    "ollama.chat": ("ollama", "authorization"),
    "ollama.generate": ("ollama", "authorization"),
    "tgi.generate": ("tgi", "authorization"),
}
RAW = ("ollama.generate", "tgi.generate")
TEXT = "Grüße, world 🌍!"
PIECES = ("Grüße", ", ", "world", " 🌍", "!")


@pytest.fixture(scope="module", params=KINDS)
def operation(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def upstream(operation: str) -> Iterator[Upstream]:
    with start(KINDS[operation][0]) as running:
        yield running


def _speak(operation: str, upstream: Upstream, request: Request, said: Terms) -> Heard:
    """One exchange, in pieces of a few bytes. Raises what the speaker makes of an error."""
    speaker = SPEAKERS[operation]
    outgoing = speaker.encode(request, said)
    headers = dict(outgoing.headers) | {KINDS[operation][1]: "Bearer k"}
    with (
        httpx.Client(timeout=30) as client,
        client.stream(
            outgoing.method, upstream.url + outgoing.path, content=outgoing.body, headers=headers
        ) as response,
    ):
        head = Head(response.status_code, dict(response.headers))
        if response.status_code != 200:
            raise speaker.error(head, response.read())
        reader = speaker.reader(request, said, head)
        events = [event for piece in response.iter_bytes(7) for event in reader.feed(piece)]
        return heard([*events, *reader.end()])


def _request(operation: str, **given: object) -> Request:
    sampling = SamplingParams(max_tokens=64, temperature=0.5)
    source = TextInput("Hello") if operation in RAW else chat("Hello")
    return asking(source, sampling=sampling, **given)


@pytest.mark.parametrize("stream", [True, False])
def test_text_and_usage(operation: str, upstream: Upstream, stream: bool) -> None:
    upstream.play(Script(pieces=PIECES, finish="length"))
    said = terms() if stream else terms("stream")
    answer = _speak(operation, upstream, _request(operation), said)
    assert (answer.text, answer.finish) == (TEXT, "length")
    whole_of_tgi = operation == "tgi.generate" and not stream
    assert answer.usage == (Usage(0, 5) if whole_of_tgi else Usage(11, 5))


@pytest.mark.parametrize("stream", [True, False])
def test_calls(operation: str, upstream: Upstream, stream: bool) -> None:
    if operation in RAW:
        pytest.skip("raw prompts have no tools")
    calls = (Call("get_weather", {"city": "Paris é"}), Call("now", {}, "call_stand_in_2"))
    upstream.play(Script(pieces=(), calls=calls))
    conversation = chat("Weather?", tools=(WEATHER,))
    said = terms() if stream else terms("stream")
    answer = _speak(operation, upstream, asking(conversation), said)
    found = [(name, json.loads(arguments)) for _, name, arguments in answer.calls]
    assert found == [("get_weather", {"city": "Paris é"}), ("now", {})]
    assert len({identifier for identifier, _, _ in answer.calls}) == 2
    assert answer.finish == "tool_calls"


def test_thinking(operation: str, upstream: Upstream) -> None:
    if operation == "tgi.generate":
        pytest.skip("it has no field for it")
    upstream.play(Script(pieces=PIECES, reasoning="Hm."))
    answer = _speak(operation, upstream, _request(operation), terms())
    assert (answer.reasoning, answer.text) == ("Hm.", TEXT)


def test_a_schema_arrives(operation: str, upstream: Upstream) -> None:
    upstream.play(Script(pieces=('{"a":1}',)))
    schema = '{"type":"object","properties":{"stand_in":{"type":"integer"}}}'
    request = _request(operation, grammar=Grammar("json_schema", schema))
    assert _speak(operation, upstream, request, terms()).text == '{"a":1}'
    assert b"stand_in" in upstream.requests[0].data


def test_a_full_server(operation: str, upstream: Upstream) -> None:
    upstream.play(Script(error=429, message="slow down", retry_after=7))
    with pytest.raises(RateLimited) as caught:
        _speak(operation, upstream, _request(operation), terms())
    assert caught.value.retry_after == 7


@pytest.mark.parametrize("status", [500, 529])
def test_a_broken_server(operation: str, upstream: Upstream, status: int) -> None:
    upstream.play(Script(error=status))
    with pytest.raises(TrunklineError) as caught:
        _speak(operation, upstream, _request(operation), terms())
    assert caught.value.status >= 429


def test_garbage(operation: str, upstream: Upstream) -> None:
    upstream.play(Script(fault="garbage"))
    with pytest.raises(UpstreamFailed):
        _speak(operation, upstream, _request(operation), terms())
