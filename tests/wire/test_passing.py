"""Streams passed on, whatever ends their lines and wherever they are cut."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.client_support import ALL, STREAM, raw
from tests.wire.openai.support import chunk, sse
from tests.wire.support import GOLDEN
from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Completed, Relayed, Usage
from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.client import Speaker
from trunkline.wire.llamacpp.client import CompletionSpeaker
from trunkline.wire.openai.chat_client import ChatSpeaker
from trunkline.wire.openai.responses import kept
from trunkline.wire.openai.responses_client import ResponsesSpeaker
from trunkline.wire.sse import MOST

USAGE = {"prompt_tokens": 3, "completion_tokens": 2}


class Stream(NamedTuple):
    """One that is passed on as it is."""

    speaker: Speaker
    data: bytes
    usage: Usage
    body: bytes = b'{"stream":true}'


def _published() -> bytes:
    body = (GOLDEN / "openai/response_stream.txt").read_bytes()
    return body.replace(b"...\n\n", b"").strip() + b"\n\n"


STREAMS = {
    "openai.chat": Stream(
        ChatSpeaker(),
        sse(chunk({"content": "naïve 東京"}), chunk({"content": "b"}, "stop"), {"usage": USAGE}),
        Usage(3, 2),
        b'{"stream":true,"stream_options":{"include_usage":true}}',
    ),
    "openai.responses": Stream(ResponsesSpeaker(), _published(), Usage(37, 11)),
    "anthropic.messages": Stream(
        MessagesSpeaker(),
        (GOLDEN / "anthropic/stream_no_arguments.sse").read_bytes(),
        Usage(565, 48),
    ),
    "llamacpp": Stream(
        CompletionSpeaker(),
        b'data: {"content":"a","stop":false}\n\n'
        b'data: {"content":"b","stop":true,"tokens_evaluated":3,"tokens_predicted":2}\n\n',
        Usage(3, 2),
    ),
}
EACH = pytest.mark.parametrize("name", STREAMS)
ENDS = (b"\n", b"\r\n", b"\r")


def passed(stream: Stream, pieces: list[bytes]) -> tuple[bytes, Usage, int]:
    """What goes on, the usage, and how many tokens were counted underway."""
    asked = raw(stream.speaker, stream.body, asked="upstream")
    passing = stream.speaker.relay(asked, ALL, STREAM)
    events = [event for piece in pieces for event in passing.feed(piece)]
    events += passing.end()
    last = events.pop()
    assert isinstance(last, Completed)
    relayed = [event for event in events if isinstance(event, Relayed)]
    assert len(relayed) == len(events)
    return b"".join(one.data for one in relayed), last.usage, sum(one.tokens for one in relayed)


def cut(data: bytes, places: list[int]) -> list[bytes]:
    """`data` in pieces that end at `places`."""
    at = sorted({0, len(data), *(place % len(data) for place in places)})
    return [data[begin:end] for begin, end in pairwise(at)]


@EACH
@given(st.data())
def test_any_ends_of_lines_and_any_pieces(name: str, given: st.DataObject) -> None:
    stream = STREAMS[name]
    counted = passed(stream, [stream.data])[2]
    lines = stream.data.count(b"\n")
    alike = st.sampled_from(ENDS).map(lambda end: [end] * lines)
    mixed = st.lists(st.sampled_from(ENDS[:2]), min_size=lines, max_size=lines)
    ends = iter(given.draw(alike | mixed))
    data = re.sub(rb"\n", lambda _: next(ends), stream.data)
    pieces = cut(data, given.draw(st.lists(st.integers(0, len(data)), max_size=12)))
    assert passed(stream, pieces) == (data, stream.usage, counted)


@EACH
@pytest.mark.parametrize("end", ENDS)
def test_byte_by_byte(name: str, end: bytes) -> None:
    stream = STREAMS[name]
    data = stream.data.replace(b"\n", end)
    assert passed(stream, [bytes((one,)) for one in data])[:2] == (data, stream.usage)


@EACH
def test_each_event_goes_on_as_soon_as_it_is_whole(name: str) -> None:
    """Also where the first ones end otherwise than those that follow."""
    stream = STREAMS[name]
    first, second, *_ = stream.data.split(b"\n\n")
    for before, after in ((b"\n\n", b"\r\n\r\n"), (b"\r\n\r\n", b"\n\n"), (b"\n\r\n", b"\r\n\n")):
        asked = raw(stream.speaker, stream.body, asked="upstream")
        passing = stream.speaker.relay(asked, ALL, STREAM)
        for event in (first + before, second + after):
            (relayed,) = passing.feed(event)
            assert isinstance(relayed, Relayed)
            assert relayed.data == event


@EACH
def test_what_comes_in_one_piece_with_an_error_is_not_lost(name: str) -> None:
    stream = STREAMS[name]
    first = stream.data[: stream.data.index(b"\n\n") + 2]
    error = b'data: {"type":"error","message":"oops","error":{"message":"oops"}}\n\n'
    for before in (b"", first):
        asked = raw(stream.speaker, stream.body, asked="upstream")
        passing = stream.speaker.relay(asked, ALL, STREAM)
        passing.feed(first)
        with pytest.raises(UpstreamFailed, match="oops") as caught:
            passing.feed(before + error)
        assert b"".join(one.data for one in caught.value.before) == before


@EACH
def test_an_event_without_an_empty_line_behind_it_is_not_lost_where_the_answer_is_cut_off(
    name: str,
) -> None:
    stream = STREAMS[name]
    first = stream.data[: stream.data.index(b"\n\n")]
    for cut, gap in ((b"", b"\n\n"), (b"\n", b"\n\n"), (b"\r\n\r", b"\r\n\r\n")):
        asked = raw(stream.speaker, stream.body, asked="upstream")
        passing = stream.speaker.relay(asked, ALL, STREAM)
        passing.feed(first + cut)
        with pytest.raises(UpstreamFailed, match="cut off") as caught:
            passing.end()
        assert b"".join(one.data for one in caught.value.before) == first + gap


@pytest.mark.parametrize("end", ENDS)
def test_an_event_of_millions_of_bytes(end: bytes) -> None:
    """An image: no piece of it is looked at more than once."""
    stream = STREAMS["openai.responses"]
    image = b'data: {"type":"response.image","image":"%b"}\n\n' % (b"x" * 2_000_000)
    data = (stream.data + image + stream.data).replace(b"\n", end)
    pieces = [data[at : at + 1000] for at in range(0, len(data), 1000)]
    assert passed(stream, pieces)[:2] == (data, stream.usage)


def test_an_event_without_end_is_refused() -> None:
    stream = STREAMS["openai.chat"]
    passing = stream.speaker.relay(raw(stream.speaker, stream.body), ALL, STREAM)
    piece = b"x" * (1 << 20)
    for _ in range(MOST >> 20):
        assert passing.feed(piece) == ()
    with pytest.raises(UpstreamFailed, match="too long"):
        passing.feed(piece)


@EACH
def test_a_byte_order_mark_says_nothing(name: str) -> None:
    stream = STREAMS[name]
    assert passed(stream, [b"\xef\xbb\xbf" + stream.data])[:2] == (stream.data, stream.usage)


def test_a_byte_order_mark_before_one_event_alone() -> None:
    one = b'data: {"content":"a","stop":true,"tokens_evaluated":3,"tokens_predicted":2}'
    stream = STREAMS["llamacpp"]
    assert passed(stream, [b"\xef\xbb\xbf" + one])[:2] == (one + b"\n\n", stream.usage)


@pytest.mark.parametrize("end", ENDS)
def test_the_id_of_a_response_is_found_whatever_ends_its_lines(end: bytes) -> None:
    data = STREAMS["openai.responses"].data
    assert kept(data.replace(b"\n", end)) == kept(data) != ""
