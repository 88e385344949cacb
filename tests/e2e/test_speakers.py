"""Speakers against a real server: ours."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import msgspec
import pytest

from tests.support.server import Server, serve, write_rules
from tests.wire.client_support import EVERYTHING, Sum, chat, raw
from trunkline.core.errors import TrunklineError
from trunkline.core.types import Completed, Event, Message, Relayed, Request, TextInput
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.speakers import SPEAKERS

SAID = "Hello from the rails, 東京."
OPERATIONS = ["openai.chat", "openai.completions", "openai.responses", "anthropic.messages"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("speakers")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "fail", "text": "so far", "action": "fail", "after": 3},
        default={"text": SAID},
    )
    with serve(directory, str(rules), "--executor", "scripted") as running:
        yield running


@pytest.fixture(scope="module")
def terms(server: Server) -> Terms:
    model = httpx.get(f"{server.url}/v1/models").json()["data"][0]["id"]
    return Terms(model=model, features=EVERYTHING, context_length=512)


def ask(operation: str, text: str) -> Request:
    if operation == "openai.completions":
        return Request(id="r", model="m", input=TextInput(text))
    return chat(Message("user", text))


def run(server: Server, outgoing: Outgoing) -> httpx.Response:
    return httpx.request(
        outgoing.method,
        server.url + outgoing.path,
        content=outgoing.body,
        headers=dict(outgoing.headers),
        timeout=60,
    )


def heard(response: httpx.Response, reader: Reader | Relay) -> list[Event]:
    events: list[Event] = []
    for begin in range(0, len(response.content), 50):
        events += reader.feed(response.content[begin : begin + 50])
    return [*events, *reader.end()]


def head_of(response: httpx.Response) -> Head:
    return Head(response.status_code, dict(response.headers))


@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("operation", OPERATIONS)
def test_an_answer(server: Server, terms: Terms, operation: str, stream: bool) -> None:
    if not stream:
        terms = msgspec.structs.replace(terms, features=terms.features - {"stream"})
    speaker, request = SPEAKERS[operation], ask(operation, "Hi")
    response = run(server, speaker.encode(request, terms))
    assert response.status_code == 200, response.text
    got = Sum(heard(response, speaker.reader(request, terms, head_of(response))))
    assert got.text == {0: SAID}
    assert got.ends[0][0] == "stop"
    assert got.usage is not None
    assert got.usage.prompt_tokens > 0
    assert got.usage.completion_tokens > 1


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_stream_that_fails(server: Server, terms: Terms, operation: str) -> None:
    speaker, request = SPEAKERS[operation], ask(operation, "fail")
    response = run(server, speaker.encode(request, terms))
    reader = speaker.reader(request, terms, head_of(response))
    with pytest.raises(TrunklineError) as caught:
        heard(response, reader)
    assert caught.value.status >= 500


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_prompt_that_is_too_long(server: Server, terms: Terms, operation: str) -> None:
    speaker, request = SPEAKERS[operation], ask(operation, "long " * 40_000)
    response = run(server, speaker.encode(request, terms))
    assert response.status_code >= 400
    error = speaker.error(head_of(response), response.content)
    assert error.kind == "context_overflow"


@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_model_that_is_not_there(server: Server, terms: Terms, operation: str) -> None:
    terms = msgspec.structs.replace(terms, model="elsewhere")
    speaker = SPEAKERS[operation]
    response = run(server, speaker.encode(ask(operation, "Hi"), terms))
    error = speaker.error(head_of(response), response.content)
    assert error.kind == "upstream_refused"


def test_passing_on(server: Server, terms: Terms) -> None:
    speaker = SPEAKERS["openai.chat"]
    body = b'{"model":"mine","stream":true,"messages":[{"role":"user","content":"Hi"}]}'
    asked = raw(speaker, body, asked="mine")
    response = run(server, speaker.patch(asked, terms))
    *events, last = heard(response, speaker.relay(asked, terms, head_of(response)))
    passed = b"".join(event.data for event in events if isinstance(event, Relayed))
    assert isinstance(last, Completed)
    assert last.usage.completion_tokens > 1
    assert b'"model":"mine"' in passed
    assert terms.model.encode() not in passed
    assert b'"usage":{' not in passed
    assert passed.endswith(b"data: [DONE]\n\n")
