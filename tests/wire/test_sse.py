"""Readers of streams."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.errors import UpstreamFailed
from trunkline.wire.sse import EventReader, LineReader, ServerEvent

# From the specification's examples (html.spec.whatwg.org, 9.2.6): comments, several lines of data,
# a field without a colon, and one space after the colon that is not part of the value.
SPEC = (
    b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
)
EVENTS = [(b"", b"first event"), (b"", b"second event"), (b"", b" third event")]
STOCKS = b"data: YHOO\ndata: +2\ndata: 10\n\ndata\n\ndata\ndata\n\ndata:"
# Those with empty data, which are events there, are left out.
STOCK_EVENTS = [(b"", b"YHOO\n+2\n10"), (b"", b"\n")]


def split(data: bytes, size: int) -> list[ServerEvent]:
    reader = EventReader()
    found: list[ServerEvent] = []
    for begin in range(0, len(data), size):
        found += reader.feed(data[begin : begin + size])
    return found + reader.end()


def in_turns(stream: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Pieces of `sizes`, again and again."""
    begin = 0
    for size in cycle(sizes):
        if begin >= len(stream):
            return
        yield stream[begin : begin + size]
        begin += size


@pytest.mark.parametrize("line_end", [b"\n", b"\r\n", b"\r"])
@pytest.mark.parametrize(("stream", "events"), [(SPEC, EVENTS), (STOCKS, STOCK_EVENTS)])
def test_examples_of_the_specification_in_any_pieces(
    stream: bytes, events: list[tuple[bytes, bytes]], line_end: bytes
) -> None:
    data = stream.replace(b"\n", line_end)
    for size in (*range(1, 12), len(data)):
        assert split(data, size) == events, size


def test_names_and_a_byte_order_mark() -> None:
    data = b"\xef\xbb\xbfevent: add\ndata: 1\n\nevent: x\n\nevent:remove\ndata:2\n\n\n\ndata: 3\n\n"
    expected = [(b"add", b"1"), (b"remove", b"2"), (b"", b"3")]
    for size in (3, 7, 1000):
        assert split(data, size) == expected


def test_an_event_without_an_empty_line_behind_it_counts() -> None:
    assert split(b"data: [DONE]", 4) == [(b"", b"[DONE]")]
    assert split(b"data: a\n\ndata: [DONE]\n", 100) == [(b"", b"a"), (b"", b"[DONE]")]


def test_what_is_too_long_is_refused() -> None:
    reader = EventReader(most=100)
    reader.feed(b"data: " + b"x" * 80)
    with pytest.raises(UpstreamFailed):
        reader.feed(b"x" * 80)
    lines = LineReader(most=100)
    with pytest.raises(UpstreamFailed):
        lines.feed(b"x" * 101)


texts = st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"]))


@given(st.lists(texts), st.sampled_from(["\n", "\r\n"]), st.lists(st.integers(1, 9), min_size=1))
def test_any_events_in_any_pieces(data: list[str], line_end: str, sizes: list[int]) -> None:
    stream = "".join(f"data: {one}{line_end}{line_end}" for one in data).encode()
    reader = EventReader()
    found: list[ServerEvent] = []
    for piece in in_turns(stream, sizes):
        found += reader.feed(piece)
    found += reader.end()
    assert [event.data.decode() for event in found] == [one for one in data if one]


def test_lines_that_end_in_several_ways_in_the_smallest_pieces() -> None:
    assert split(b"data: a\r\n\ndata: b\n\r\ndata: c\r\n\r\n", 1) == [
        (b"", b"a"),
        (b"", b"b"),
        (b"", b"c"),
    ]


@given(
    st.lists(texts.filter(bool), max_size=6),
    st.lists(st.sampled_from([b"\n", b"\r\n"]), min_size=12, max_size=12),
    st.lists(st.integers(1, 9), min_size=1),
)
def test_each_event_is_found_with_its_last_byte(
    data: list[str], ends: list[bytes], sizes: list[int]
) -> None:
    stream, lasts = b"", []
    for number, one in enumerate(data):
        stream += b"data: %b%b%b" % (one.encode(), ends[2 * number], ends[2 * number + 1])
        lasts.append(len(stream))
    reader = EventReader()
    found: list[ServerEvent] = []
    come = 0
    for piece in in_turns(stream, sizes):
        found += reader.feed(piece)
        come += len(piece)
        assert len(found) >= sum(last <= come for last in lasts)
    assert [event.data.decode() for event in found] == data


def test_events_that_keep_the_connection_alive_are_left_out() -> None:
    assert split(b"data:\n\ndata: \n\nevent: ping\ndata:\n\n:\n\ndata: a\n\n", 100) == [(b"", b"a")]


@given(st.lists(st.binary(min_size=1).filter(lambda one: one.strip() == one and b"\n" not in one)))
def test_lines_in_any_pieces(lines: list[bytes]) -> None:
    stream = b"\r\n\n".join(lines)
    for size in (1, 3, len(stream) or 1):
        reader = LineReader()
        found = [
            line
            for begin in range(0, len(stream), size)
            for line in reader.feed(stream[begin : begin + size])
        ]
        assert found + reader.end() == lines
