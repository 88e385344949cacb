"""Answers of chat completions, read from a server."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.client_support import ALL, STREAM, WHOLE, Sum, chat, raw, read, relay
from tests.wire.openai.support import GOLDEN, chunk, sse
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    RateLimited,
    UpstreamFailed,
)
from trunkline.core.types import Delta, Event, Json, Usage
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


def call_piece(index: int, text: str, name: str | None = None) -> Json:
    """More of a call; its first piece has the name."""
    function = {"arguments": text} | ({"name": name} if name else {})
    begun = {"id": f"call_{name}", "type": "function"} if name else {}
    return {"tool_calls": [{"index": index, "function": function, **begun}]}


def ordered(events: Sequence[Event]) -> list[tuple[int, str]]:
    """The pieces of calls as they came: (call, arguments). No call comes back after another."""
    pieces = [one for event in events if isinstance(event, Delta) for one in event.tool_calls]
    indexes = [one.index for one in pieces]
    assert indexes == sorted(indexes)
    return [(one.index, one.arguments) for one in pieces]


def test_a_call_without_arguments_has_an_empty_object_before_the_next_begins() -> None:
    body = sse(
        chunk(call_piece(0, "", "w")), chunk(call_piece(1, '{"b":2}', "n")), chunk({}, "tool_calls")
    )
    events = read(SPEAKER, chat(), body)
    assert ordered(events) == [(0, ""), (0, "{}"), (1, '{"b":2}')]
    assert list(Sum(events).calls.values()) == [
        ["call_w", "w", "{}"],
        ["call_n", "n", '{"b":2}'],
    ]


def test_pieces_of_several_calls_at_once_are_put_in_order() -> None:
    pieces = [
        call_piece(0, '{"a"', "w"), call_piece(1, "", "n"), call_piece(0, ":1}"),
        call_piece(1, "{}"),
    ]  # fmt: skip
    body = sse(*map(chunk, pieces), chunk({}, "tool_calls"))
    assert ordered(read(SPEAKER, chat(), body)) == [(0, '{"a"'), (0, ":1}"), (1, ""), (1, "{}")]


def test_calls_one_after_the_other_are_not_held_back() -> None:
    reader = SPEAKER.reader(chat(), ALL, STREAM)
    for piece in (
        call_piece(0, "", "w"), call_piece(0, '{"a":"}\\'), call_piece(0, '""}'),
        call_piece(1, "", "n"), call_piece(1, '{"b'), call_piece(1, '":[{}]}'),
    ):  # fmt: skip
        (event,) = reader.feed(sse(chunk(piece), done=False))
        assert isinstance(event, Delta)
        (told,) = event.tool_calls
        assert told.arguments == piece["tool_calls"][0]["function"]["arguments"]
        assert told.index == piece["tool_calls"][0]["index"]


_values = st.recursive(
    st.none() | st.text('"\\{}[]a ', max_size=6),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.text('}"\\k'), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.lists(st.none() | st.dictionaries(st.text('k"}', max_size=3), _values, max_size=2),
             min_size=1, max_size=4),
    st.randoms(use_true_random=False),
)  # fmt: skip
def test_however_pieces_interleave_the_calls_are_those_of_the_whole_answer(
    objects: list[Json | None], chance: random.Random
) -> None:
    queues: list[list[Json]] = []
    whole: list[Json] = []
    for index, one in enumerate(objects):
        text = "" if one is None else json.dumps(one)
        cuts = sorted(chance.randint(0, len(text)) for _ in range(chance.randint(0, 3)))
        parts = [text[a:b] for a, b in pairwise([0, *cuts, len(text)])]
        first, *rest = parts
        queues.append(
            [call_piece(index, first, f"f{index}"), *(call_piece(index, p) for p in rest)]
        )
        function = {"name": f"f{index}", "arguments": text}
        whole.append({"id": f"call_f{index}", "type": "function", "function": function})
    chunks: list[Json] = []
    while any(queues):
        queue = chance.choice([one for one in queues if one])
        chunks.append(chunk(queue.pop(0)))
    streamed = read(SPEAKER, chat(), sse(*chunks, chunk({}, "tool_calls")))
    ordered(streamed)
    message = {"role": "assistant", "content": None, "tool_calls": whole}
    answer = {"choices": [{"index": 0, "message": message, "finish_reason": "tool_calls"}]}
    at_once = read(SPEAKER, chat(), json.dumps(answer).encode(), head=WHOLE)
    ordered(at_once)
    assert sorted(Sum(streamed).calls.values()) == sorted(Sum(at_once).calls.values())
    assert [json.loads(one[2]) for one in Sum(at_once).calls.values()] == [
        one or {} for one in objects
    ]


def test_more_of_a_call_that_was_complete_and_too_much_to_hold_back() -> None:
    again = [call_piece(0, "{}", "w"), call_piece(1, "{}", "n"), call_piece(0, " "), {}]
    assert len(Sum(read(SPEAKER, chat(), sse(*map(chunk, again), chunk({}, "stop")))).calls) == 2
    again[3] = call_piece(0, "{}")
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), sse(*map(chunk, again)))
    long = call_piece(1, " " * (1 << 20))
    begun = [call_piece(0, "{", "w"), call_piece(1, "", "n")]
    with pytest.raises(UpstreamFailed, match="too long"):
        read(SPEAKER, chat(), sse(*map(chunk, begun), *[chunk(long)] * 17))


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
    assert got.ends == {0: ("content_filter", None)}
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
