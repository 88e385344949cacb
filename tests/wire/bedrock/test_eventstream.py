"""The framing, judged by botocore's own decoder."""

from __future__ import annotations

import struct
import zlib

import pytest
from botocore.eventstream import EventStreamBuffer
from hypothesis import given
from hypothesis import strategies as st

from tests.support.upstreams.eventstream import frame
from tests.wire.speaking import cuts
from trunkline.core.errors import UpstreamFailed
from trunkline.wire.bedrock.eventstream import EventStreamReader, Message, Value, encode_message

_VALUES = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**63 - 1),
    st.binary(max_size=40),
    st.text(max_size=20),
)
_HEADERS = st.dictionaries(st.text("abcdef:-", min_size=1, max_size=20), _VALUES, max_size=5)


@given(_HEADERS, st.binary(max_size=200))
def test_botocore_reads_what_is_written(headers: dict[str, Value], payload: bytes) -> None:
    buffer = EventStreamBuffer()
    buffer.add_data(encode_message(headers, payload))
    (message,) = list(buffer)
    assert message.headers == headers
    assert message.payload == payload


@given(st.lists(st.tuples(_HEADERS, st.binary(max_size=50)), min_size=1, max_size=4))
def test_what_is_written_is_read(messages: list[tuple[dict[str, Value], bytes]]) -> None:
    data = b"".join(encode_message(headers, payload) for headers, payload in messages)
    reader = EventStreamReader()
    found = [one for at in range(len(data)) for one in reader.feed(data[at : at + 1])]
    assert found == [Message(headers, payload) for headers, payload in messages]
    assert reader.end() == ()


def test_every_cut() -> None:
    data = frame("messageStart", {"role": "assistant"}) + frame("messageStop", {"stopReason": "x"})
    for pieces in cuts(data):
        reader = EventStreamReader()
        found = [one.headers[":event-type"] for piece in pieces for one in reader.feed(piece)]
        assert found == ["messageStart", "messageStop"]


def test_every_type_of_a_header() -> None:
    # As the specification lays them out: name, type, value.
    fields = (
        b"\x01a\x00\x01b\x01\x01c\x02\xff\x01d\x03\xff\xfe\x01e\x04\xff\xff\xff\xfd"
        b"\x01f\x05\x00\x00\x00\x00\x00\x00\x00\x07\x01g\x06\x00\x02\x00\x01\x01h\x07\x00\x02hi"
        b"\x01i\x08\x00\x00\x00\x00\x00\x00\x00\x09\x01j\x090123456789abcdef"
    )
    (message,) = EventStreamReader().feed(_message(fields, b""))
    assert message.headers == {
        "a": True,
        "b": False,
        "c": -1,
        "d": -2,
        "e": -3,
        "f": 7,
        "g": b"\x00\x01",
        "h": "hi",
        "i": 9,
        "j": b"0123456789abcdef",
    }


@pytest.mark.parametrize("at", range(40))
def test_damage_is_noticed(at: int) -> None:
    data = bytearray(encode_message({"k": "v"}, b"payload payload"))
    data[at % len(data)] ^= 0x10
    reader = EventStreamReader()
    with pytest.raises(UpstreamFailed):
        reader.feed(bytes(data) + bytes(64))


@pytest.mark.parametrize(
    "fields", [b"\x05ab", b"\x01a\x07\x00\x09x", b"\x01a", b"\x01a\x0bxx", b"\x02\xff\xfe\x00"]
)
def test_headers_that_are_none(fields: bytes) -> None:
    with pytest.raises(UpstreamFailed, match="header"):
        EventStreamReader().feed(_message(fields, b""))


def test_lengths_beyond_the_formats_limits() -> None:
    lengths = struct.pack(">II", 1 << 30, 0)
    with pytest.raises(UpstreamFailed, match="limits"):
        EventStreamReader().feed(lengths + struct.pack(">I", zlib.crc32(lengths)))


def test_an_end_within_a_message() -> None:
    reader = EventStreamReader()
    assert reader.feed(encode_message({}, b"x")[:-1]) == []
    with pytest.raises(UpstreamFailed, match="ends within"):
        reader.end()


def _message(fields: bytes, payload: bytes) -> bytes:
    lengths = struct.pack(">II", len(fields) + len(payload) + 16, len(fields))
    body = lengths + struct.pack(">I", zlib.crc32(lengths)) + fields + payload
    return body + struct.pack(">I", zlib.crc32(body))
