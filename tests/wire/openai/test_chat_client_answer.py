"""Answers of chat completions, read from a server."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.client_support import STREAM, WHOLE, Sum, chat, raw, read, relay
from tests.wire.openai.support import GOLDEN, chunk, sse
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    RateLimited,
    UpstreamFailed,
)
from trunkline.core.types import Json, Usage
from trunkline.wire.client import Head
from trunkline.wire.openai.chat_client import ChatSpeaker

SPEAKER = ChatSpeaker()


def test_openais_published_stream_at_every_byte() -> None:
    lines = (GOLDEN / "chat_chunks.jsonl").read_text().splitlines()
    body = "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"
    for size in (1, 2, 3, 50, None):
        got = Sum(read(SPEAKER, chat(), body, size=size))
        assert got.text == {0: "Hello"}
        assert got.ends == {0: ("stop", None)}


def test_deepseeks_recorded_stream_at_every_byte() -> None:
    body = (GOLDEN / "chat_reasoning_tools.sse").read_bytes()
    for size in (1, 5, None):
        got = Sum(read(SPEAKER, chat(), body, size=size))
        assert got.reasoning[0].startswith("I should use")
        ((call_id, name, arguments),) = got.calls.values()
        assert call_id.startswith("call_")
        assert name == "weather"
        assert json.loads(arguments)
        assert got.ends == {0: ("tool_calls", None)}
        assert got.usage == Usage(374, 61, 256, 17)


def test_openais_published_answers() -> None:
    whole = (GOLDEN / "chat_completion.json").read_bytes()
    got = Sum(read(SPEAKER, chat(), whole, head=WHOLE))
    assert got.text == {0: "Hello! How can I assist you today?"}
    assert got.usage == Usage(19, 10)
    tools = (GOLDEN / "chat_tools.json").read_bytes()
    got = Sum(read(SPEAKER, chat(), tools, head=WHOLE))
    ((_, name, arguments),) = got.calls.values()
    assert name == "get_current_weather"
    assert json.loads(arguments) == {"location": "Boston, MA"}
    assert got.ends == {0: ("tool_calls", None)}


def test_calls_as_other_servers_send_them() -> None:
    def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> Json:
        one: Json = {"id": call_id, "function": {"name": name, "arguments": arguments}}
        return {"tool_calls": [one if index is None else {"index": index, **one}]}

    # All under one index; no index at all; arguments as an object; the name late; no arguments.
    for pieces, expected in (
        ((call(0, "a", "f", "{}"), call(0, "b", "g", '{"x":1}')), ["f{}", 'g{"x":1}']),
        ((call(None, "a", "f", '{"x"'), call(None, None, None, ":1}")), ['f{"x":1}']),
        ((call(0, "a", "f", {"x": 1}),), ['f{"x": 1}']),
        ((call(0, "a", None, '{"x":'), call(0, None, "f", "1}")), ['f{"x":1}']),
        ((call(0, "a", "f", None),), ["f{}"]),
        ((call(0, None, "f", ""),), ["f{}"]),
    ):
        body = sse(*(chunk(piece) for piece in pieces), chunk({}, "stop"))
        got = Sum(read(SPEAKER, chat(), body))
        assert [one[1] + one[2] for one in got.calls.values()] == expected
        assert all(one[0] for one in got.calls.values())
        assert got.ends == {0: ("tool_calls", None)}


def test_mistrals_parts_and_other_spellings_of_reasoning() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes"},
    ]
    body = sse(chunk({"content": parts}), chunk({"reasoning": "More."}), chunk({}, "stop"))
    got = Sum(read(SPEAKER, chat(), body))
    assert (got.reasoning[0], got.text[0]) == ("Hm.More.", "Yes")


def test_a_refusal_is_text_and_a_content_filter_ends_or_refuses() -> None:
    got = Sum(read(SPEAKER, chat(), sse(chunk({"refusal": "I cannot."}), chunk({}, "stop"))))
    assert got.text == {0: "I cannot."}
    cut = sse(chunk({"content": "So"}), chunk({}, "content_filter"))
    assert Sum(read(SPEAKER, chat(), cut)).ends == {0: ("content_filter", None)}
    with pytest.raises(ContentRefused):
        read(SPEAKER, chat(), sse(chunk({}, "content_filter")))


def test_what_matched_is_told() -> None:
    for name, value in (("stop_reason", "END"), ("matched_stop", "END"), ("stop_reason", 7)):
        body = sse(chunk({"content": "x"}), chunk({}, "stop", **{name: value}))
        assert Sum(read(SPEAKER, chat(), body)).ends == {0: ("stop", value)}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        sse(chunk({"content": "x"}), done=False),
        sse(chunk({"content": "x"})),
        sse(chunk({"content": "x"}), done=False) + b'data: {"choi',
        b"data: <html>\n\n",
        sse(chunk({"content": "x"}, "error")),
        sse(chunk({"content": "x"}, index=5)),
    ],
    ids=["nothing", "no end", "done alone", "mid event", "garbage", "gave up", "foreign row"],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body)
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body.removeprefix(b"data: "), head=WHOLE)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "busy", "type": "rate_limit_error"}}, RateLimited),
        ({"error": {"message": "x", "code": 429}}, RateLimited),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, ContextOverflow),
        ({"error": {"message": "x", "type": "InternalServerError", "code": 500}}, UpstreamFailed),
        # vLLM before 0.10.
        ({"object": "error", "message": "x", "type": "X", "code": 429}, RateLimited),
        ({"error": "x"}, UpstreamFailed),
    ],
)
def test_errors_within_a_stream(event: Json, kind: type[Exception]) -> None:
    body = sse(chunk({"content": "x"}), event)
    with pytest.raises(kind):
        read(SPEAKER, chat(), body)
    asked = raw(SPEAKER, b'{"model":"m","stream":true,"messages":[]}')
    with pytest.raises(kind):
        relay(SPEAKER, asked, body)


def test_a_server_that_does_not_count() -> None:
    body = sse(chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"))
    assert Sum(read(SPEAKER, chat(), body)).usage == Usage(0, 2)


def test_errors_have_their_meaning() -> None:
    body = (GOLDEN / "error.json").read_bytes()
    assert SPEAKER.error(Head(404, {}), body).kind == "upstream_refused"
    assert SPEAKER.error(STREAM, b"").kind == "upstream_failed"
