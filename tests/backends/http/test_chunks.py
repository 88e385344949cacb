"""Chunks that are passed without the parser: it would have made the same of them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.backends.http.peer import Taker
from trunkline.backends.http import connection
from trunkline.backends.http.connection import Connection
from trunkline.core.heads import Heads
from trunkline.core.pieces import unchunked
from trunkline.wire.client import Head

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"


class _Owner:
    title = "backend 'b'"
    max_header_bytes = 4096
    keepalive = 60.0

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.close()
        self.heads: Heads[Head] = Heads()

    def released(self, one: Connection) -> None:
        pass

    def lost(self, one: Connection) -> None:
        pass

    def again(self, transfer: Any) -> None:
        raise AssertionError


def chunk(body: bytes, more: bytes = b"") -> bytes:
    return b"%x%b\r\n%b\r\n" % (len(body), more, body)


def _heard(pieces: Sequence[bytes], *, straight: bool) -> tuple[Any, ...]:
    """What becomes of an answer that comes in `pieces`, and how many were not parsed."""
    taken: list[bytes | None] = []

    def counted(data: bytes) -> bytes | None:
        taken.append(unchunked(data) if straight else None)
        return taken[-1]

    transport = mock.Mock(spec=asyncio.Transport)
    transport.is_closing.return_value = False
    transport.get_write_buffer_size.return_value = 0
    taker = Taker()
    with mock.patch.object(connection, "unchunked", counted):
        one = Connection(_Owner())
        one.connection_made(transport)
        assert one.start(taker)
        for piece in pieces:
            if piece and not transport.abort.called:
                one.data_received(piece)
    error = taker.error.message if taker.error else None
    ended = (taker.answer, taker.done, error, transport.abort.called)
    return ended, sum(body is not None for body in taken)


def test_whole_chunks_are_not_parsed() -> None:
    pieces = [HEAD, *(chunk(b"data: %d\n\n" % n) for n in range(50)), LAST]
    (answer, done, error, aborted), straight = _heard(pieces, straight=True)
    assert answer == b"".join(b"data: %d\n\n" % n for n in range(50))
    assert (done, error, aborted) == (True, None, False)
    # The first one tells where the parser is.
    assert straight == 49


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        (b"1", b"0\r\n" + b"x" * 16 + b"\r\n"),
        # Taken for a chunk of its own, this would be one of three bytes.
        (b"1", b"3\r\nxyz\r\nabcdefghijkl\r\n"),
        (b"000", b"3\r\nxyz\r\n"),
        (b"3;", b"3\r\nxyz\r\n"),
        (b"3\r", b"\nxyz\r\n"),
        (b"3\r\n", b"xyz\r\n"),
        (b"8\r\n", b"1\r\nx\r\nyz\r\n"),
    ],
)
def test_a_size_that_is_cut_is_not_mistaken(begun: bytes, rest: bytes) -> None:
    """The parser has taken the beginning of a size: what comes is no chunk of its own."""
    for pieces in ([HEAD + chunk(b"one") + begun, rest, LAST], [HEAD, chunk(b"one"), begun, rest]):
        plain, straight = (_heard(pieces, straight=one)[0] for one in (False, True))
        assert straight == plain
        assert plain[0].startswith(b"one")


_PARTS = st.one_of(
    st.binary(min_size=1, max_size=30).map(chunk),
    st.binary(min_size=1, max_size=5).map(lambda body: chunk(body, b";x=1")),
    st.sampled_from([b"\r\n", b"1", b"1\r\n", b"x", b"0", b"0\r\n", LAST, HEAD, b"3\n", b"\n"]),
)


@given(
    st.lists(_PARTS, max_size=8),
    st.lists(st.integers(0, 300), max_size=8),
    st.booleans(),
)
def test_however_a_stream_is_cut(parts: list[bytes], cuts: list[int], at_ends: bool) -> None:
    data = b"".join((HEAD, *parts, LAST))
    ends = set(itertools.accumulate(map(len, (HEAD, *parts)))) if at_ends else set()
    edges = sorted({0, len(data), *ends, *(cut for cut in cuts if cut < len(data))})
    pieces = [data[begin:end] for begin, end in itertools.pairwise(edges)]
    assert _heard(pieces, straight=True)[0] == _heard(pieces, straight=False)[0]
