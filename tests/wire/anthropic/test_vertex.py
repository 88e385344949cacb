"""Anthropic's Messages on Vertex AI."""

from __future__ import annotations

import json
from typing import Any

import httpx2
import msgspec
import pytest
from anthropic import AnthropicVertex

from tests.wire.anthropic.sending import CLAUDE, SPEAKER, named
from tests.wire.client_support import STREAM, Sum, chat, raw, relay
from tests.wire.support import GOLDEN
from trunkline.core.errors import RateLimited
from trunkline.core.types import Usage
from trunkline.wire.anthropic.vertex import VERTEX
from trunkline.wire.client import Head, PlainSpeaker
from trunkline.wire.speakers import SPEAKERS

MODEL = "claude-sonnet-4-5@20250929"
ON = named(MODEL)
TURNS: Any = [{"role": "user", "content": "Hi"}]


def test_a_translated_request() -> None:
    own = json.loads(SPEAKER.encode(chat(), ON).body)
    outgoing = VERTEX.encode(chat(), ON)
    assert outgoing.path == f"/v1/models/{MODEL}:streamRawPredict"
    assert outgoing.headers == (("content-type", "application/json"),)
    del own["model"]
    assert json.loads(outgoing.body) == own | {"anthropic_version": "vertex-2023-10-16"}
    whole = ON.features - {"stream"}
    outgoing = VERTEX.encode(chat(), type(ON)(model=MODEL, features=whole))
    assert outgoing.path == f"/v1/models/{MODEL}:rawPredict"


@pytest.mark.parametrize("stream", [True, False])
def test_a_body_passes_as_the_official_client_for_vertex_sends_it(stream: bool) -> None:
    seen: list[httpx2.Request] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        seen.append(request)
        return httpx2.Response(500)

    client = AnthropicVertex(
        region="us-east5",
        project_id="p",
        access_token="t",
        max_retries=0,
        http_client=httpx2.Client(transport=httpx2.MockTransport(answer)),
    )
    with pytest.raises(Exception, match="500"):
        client.messages.create(model=MODEL, max_tokens=9, messages=TURNS, stream=stream)
    sent = json.loads(seen[0].content)
    version = sent.pop("anthropic_version")
    body = json.dumps(sent | {"model": MODEL}).encode()
    given = (("anthropic-version", version), ("anthropic-beta", "b"))
    asked = msgspec.structs.replace(raw(SPEAKER, body), headers=given)
    outgoing = VERTEX.patch(asked, ON)
    assert json.loads(outgoing.body) == sent | {"anthropic_version": version}
    assert seen[0].url.path.endswith("/publishers/anthropic" + outgoing.path.removeprefix("/v1"))
    assert dict(outgoing.headers) == {"content-type": "application/json", "anthropic-beta": "b"}


def test_what_names_no_version_gets_the_oldest() -> None:
    outgoing = VERTEX.patch(raw(SPEAKER, b'{"model":"m","messages":[{"x": 1.50}]}'), ON)
    assert outgoing.body == b'{"messages":[{"x": 1.50}],"anthropic_version":"vertex-2023-10-16"}'


def test_a_version_that_is_configured_holds() -> None:
    terms = msgspec.structs.replace(ON, extra_body={"anthropic_version": "v", "model": "no"})
    for outgoing in (VERTEX.encode(chat(), terms), VERTEX.patch(raw(SPEAKER, b"{}"), terms)):
        sent = json.loads(outgoing.body)
        assert (sent["anthropic_version"], "model" in sent) == ("v", False)


def test_answers_are_anthropics() -> None:
    body = (GOLDEN / "anthropic/stream_no_arguments.sse").read_bytes()
    asked = raw(SPEAKER, b'{"stream":true}', asked=CLAUDE.model)
    assert relay(VERTEX, asked, body) == (body, Usage(565, 48))
    ours = Sum([*(reader := VERTEX.reader(chat(), ON, STREAM)).feed(body), *reader.end()])
    assert ours.usage == Usage(565, 48)


def test_googles_own_errors() -> None:
    said = {"code": 429, "message": "Quota exceeded for x.", "status": "RESOURCE_EXHAUSTED"}
    error = VERTEX.error(Head(429, {}), json.dumps({"error": said}).encode())
    assert isinstance(error, RateLimited)
    assert "Quota exceeded" in error.message
    listed = VERTEX.error(Head(400, {}), json.dumps([{"error": said | {"code": 400}}]).encode())
    assert "Quota exceeded" in listed.message


def test_nothing_takes_the_short_way() -> None:
    assert not isinstance(VERTEX, PlainSpeaker)
    assert SPEAKERS["anthropic.messages/vertex"] is VERTEX
