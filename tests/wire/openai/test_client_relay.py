"""Chat completions passed on."""

from __future__ import annotations

import json

import pytest

from tests.wire.client_support import ALL, STREAM, WHOLE, raw, relay, terms
from tests.wire.openai.support import GOLDEN, chunk, sse
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Usage
from trunkline.wire.openai.chat_client import ChatSpeaker

SPEAKER = ChatSpeaker()

USAGE_CHUNK = {
    "model": "upstream",
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_patch_changes_the_model_and_asks_for_usage() -> None:
    asked = raw(SPEAKER, b'{"model":"m","stream":true,"messages":[{"x": 1.50}],"max_tokens":5}')
    assert SPEAKER.patch(asked, terms("stream_usage")).body == (
        b'{"model":"upstream","stream":true,"messages":[{"x": 1.50}],"max_tokens":5,'
        b'"stream_options":{"include_usage":true}}'
    )
    assert SPEAKER.patch(asked, terms("max_completion_tokens", extra_body={"k": 1})).body == (
        b'{"model":"upstream","stream":true,"messages":[{"x": 1.50}],'
        b'"max_completion_tokens":5,"k":1}'
    )
    defaults = {"max_tokens": 9, "seed": 1}
    assert SPEAKER.patch(asked, terms(default_body=defaults)).body == (
        b'{"model":"upstream","stream":true,"messages":[{"x": 1.50}],"max_tokens":5,"seed":1}'
    )
    unsaid = raw(SPEAKER, b'{"model":"m","messages":[]}')
    assert json.loads(
        SPEAKER.patch(unsaid, terms("max_completion_tokens", default_body=defaults)).body
    ) == {"model": "upstream", "messages": [], "max_completion_tokens": 9, "seed": 1}
    kept = raw(SPEAKER, b'{"stream":true,"stream_options":{"x":1,"include_usage":false}}')
    assert json.loads(SPEAKER.patch(kept, terms("stream_usage")).body)["stream_options"] == {
        "x": 1,
        "include_usage": True,
    }
    whole = raw(SPEAKER, b'{"model":"m","messages":[]}')
    assert SPEAKER.patch(whole, terms("stream_usage")).body == b'{"model":"upstream","messages":[]}'


def test_usage_that_the_client_did_not_ask_for_is_left_out() -> None:
    content = sse(
        chunk({"content": 'a "usage":{} "model":"upstream"'}), chunk({}, "stop"), done=False
    )
    body = content + sse(USAGE_CHUNK)
    for wants, expected in ((False, content + b"data: [DONE]\n\n"), (True, body)):
        options = b',"stream_options":{"include_usage":true}' if wants else b""
        asked = raw(SPEAKER, b'{"stream":true%b}' % options, asked="upstream")
        for size in (1, 10, None):
            assert relay(SPEAKER, asked, body, size=size) == (expected, Usage(3, 2))


def test_usage_beside_text_stays() -> None:
    last = chunk({}, "stop") | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    body = sse(chunk({"content": "a"}), last)
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, asked, body) == (body, Usage(3, 2))


def test_the_client_sees_the_name_that_it_used() -> None:
    # Azure's first event names no model, and the others the one behind the deployment.
    first = {"model": "", "choices": [], "prompt_filter_results": []}
    body = sse(first, chunk({"content": '"model":"upstream"'}), chunk({}, "stop"))
    asked = raw(SPEAKER, b'{"stream":true}', asked='my "model"')
    for size in (1, 40, len(body) - 60, None):
        ours, _ = relay(SPEAKER, asked, body, size=size)
        events = [json.loads(part[6:]) for part in ours.decode().split("\n\n")[:-2]]
        assert [event["model"] for event in events] == ['my "model"'] * 3, size
        assert events[1]["choices"][0]["delta"]["content"] == '"model":"upstream"'


def test_names_that_change_within_a_stream() -> None:
    parts = [sse(chunk({"content": "a"}) | {"model": one}, done=False) for one in "aaabba"]
    asked = raw(SPEAKER, b'{"stream":true}', asked="mine")
    for begin in range(len(parts)):
        passing = SPEAKER.relay(asked, ALL, STREAM)
        pieces = [*parts[:begin], b"".join(parts[begin:])]
        ours = b"".join(one.data for piece in pieces for one in passing.feed(piece))  # type: ignore[union-attr]
        assert ours.count(b'"model": "mine"') + ours.count(b'"model":"mine"') == len(parts)


@pytest.mark.parametrize("ends", [(b"\n\n", b"\r\r"), (b"\r\n\r\n", b"\n\r")])
def test_names_that_are_spelled_in_several_ways_in_one_piece(ends: tuple[bytes, bytes]) -> None:
    usual, other = ends
    tight, loose = (
        b'data: {"model":%b"upstream","choices":[{"index":0}]}' % space for space in (b"", b" ")
    )
    passing = SPEAKER.relay(raw(SPEAKER, b'{"stream":true}', asked="mine"), ALL, STREAM)
    pieces = [tight + usual, loose + other + tight + usual]
    ours = b"".join(one.data for piece in pieces for one in passing.feed(piece))  # type: ignore[union-attr]
    assert (ours.count(b'"mine"'), b"upstream" in ours) == (3, False)


def test_comments_and_other_line_ends_pass() -> None:
    said = sse(chunk({"content": "a"})) + b": ping\n\n" + sse(chunk({}, "stop"))
    said = said.replace(b"\n", b"\r\n")
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    for size in (1, 10, None):
        # Before the first event they say nothing: another backend may still be asked.
        assert relay(SPEAKER, asked, b": ping\r\n\r\n" + said, size=size)[0] == said


def test_what_is_no_event_is_refused_before_anything_has_gone_out() -> None:
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    with pytest.raises(UpstreamFailed, match="makes no sense"):
        relay(SPEAKER, asked, b": ping\n\ndata: {this is no json}\n\n")


def test_a_stream_that_ends_without_an_empty_line() -> None:
    body = sse(chunk({"content": "a"}), chunk({}, "stop"))
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, asked, body.rstrip())[0] == body


def test_half_an_event_does_not_go_out() -> None:
    body = sse(chunk({"content": "a"}), chunk({}, "stop"), done=False)
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, asked, body + b"data: [DO")[0] == body
    assert relay(SPEAKER, asked, body + b'data: {"choices": [')[0] == body


@pytest.mark.parametrize(
    "body", [b"", b"data: [DONE]\n\n", sse(chunk({"content": "x"}), done=False)]
)
def test_a_cut_stream_is_not_passed_on_as_whole(body: bytes) -> None:
    asked = raw(SPEAKER, b'{"stream":true}')
    with pytest.raises(UpstreamFailed):
        relay(SPEAKER, asked, body)


def _row(index: int, finish: str | None = None) -> bytes:
    choice = {"index": index, "delta": {"content": "x"}, "finish_reason": finish}
    return sse({"choices": [choice]}, done=False)


@pytest.mark.parametrize("size", [1, 30, None])
def test_of_several_answers_each_has_to_end(size: int | None) -> None:
    asked = raw(SPEAKER, b'{"stream":true,"n":2}', asked="upstream")
    first = _row(0) + _row(1) + _row(0, "stop") + _row(1)
    with pytest.raises(UpstreamFailed, match="cut off"):
        relay(SPEAKER, asked, first, size=size)
    for last in (_row(1, "length"), b"data: [DONE]\n\n"):
        assert relay(SPEAKER, asked, first + last, size=size)[0] == first + last


def test_a_whole_answer_is_passed_on() -> None:
    body = (GOLDEN / "chat_completion.json").read_bytes()
    asked = raw(SPEAKER, b'{"messages":[]}', asked="upstream")
    assert relay(SPEAKER, asked, body, head=WHOLE) == (body, Usage(19, 10))
    ours, _ = relay(SPEAKER, raw(SPEAKER, b"{}", asked="mine"), body, head=WHOLE)
    assert json.loads(ours) == {**json.loads(body), "model": "mine"}
    for broken in (b"", body[:-9], b"{}", b'{"error":{"message":"x"}}'):
        with pytest.raises(UpstreamFailed):
            relay(SPEAKER, asked, broken, head=WHOLE)
    with pytest.raises(UpstreamFailed):
        SPEAKER.relay(raw(SPEAKER, b'{"stream":true}'), ALL, WHOLE)
