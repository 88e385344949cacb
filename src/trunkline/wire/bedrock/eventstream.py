"""`application/vnd.amazon.eventstream`: messages with typed headers and checksums.

    total length      4 bytes, big-endian as all numbers; of the whole message
    headers length    4
    prelude CRC       4, of the two lengths
    headers           each: length of name (1), name, type (1), value
    payload
    message CRC       4, of everything before it

Source: docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html and
smithy.io/2.0/aws/amazon-eventstream.html (read 2026-11-21). CRC32 is that of gzip.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping

import msgspec

from trunkline.core.errors import UpstreamFailed

# The specification's own bound: 24 MiB of payload, 128 KiB of headers.
MAX_PAYLOAD = 24 << 20
MAX_HEADERS = 128 << 10
# Lengths and checksums around headers and payload.
_AROUND = 16
_PRELUDE = struct.Struct(">III")
_LENGTHS = struct.Struct(">II")
_CRC = struct.Struct(">I")
_LENGTH = struct.Struct(">H")

_TRUE, _FALSE, _BYTES, _STRING = 0, 1, 6, 7
# Type -> size of its value: byte, short, integer, long; timestamp, UUID.
_FIXED = {2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
_INTEGERS = frozenset((2, 3, 4, 5, 8))

Value = str | int | bool | bytes


class Message(msgspec.Struct, frozen=True):
    """One message. Timestamps are milliseconds, UUIDs their bytes."""

    headers: Mapping[str, Value]
    payload: bytes


class EventStreamReader:
    """Takes a body in pieces that end anywhere; gives the messages that are complete."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[Message]:
        """Messages that `data` completes. Raises `UpstreamFailed` for what is none."""
        buffer = self._buffer
        buffer += data
        found: list[Message] = []
        start = 0
        while len(buffer) - start >= _PRELUDE.size:
            total, headers, crc = _PRELUDE.unpack_from(buffer, start)
            _check_prelude(bytes(buffer[start : start + 8]), total, headers, crc)
            if len(buffer) - start < total:
                break
            found.append(_message(bytes(buffer[start : start + total]), headers))
            start += total
        del buffer[:start]
        return found

    def end(self) -> tuple[Message, ...]:
        """The body is over. Raises `UpstreamFailed` where it ends within a message."""
        if self._buffer:
            raise UpstreamFailed("The backend's event stream ends within a message.")
        return ()


def encode_message(headers: Mapping[str, Value], payload: bytes) -> bytes:
    """One message. Integers become longs."""
    fields = b"".join(_header(name, value) for name, value in headers.items())
    lengths = _LENGTHS.pack(len(fields) + len(payload) + _AROUND, len(fields))
    body = lengths + _CRC.pack(zlib.crc32(lengths)) + fields + payload
    return body + _CRC.pack(zlib.crc32(body))


def _check_prelude(lengths: bytes, total: int, headers: int, crc: int) -> None:
    if zlib.crc32(lengths) != crc:
        raise UpstreamFailed("The backend's event stream is damaged: a prelude's checksum is off.")
    payload = total - headers - _AROUND
    if not (0 <= headers <= MAX_HEADERS and 0 <= payload <= MAX_PAYLOAD):
        raise UpstreamFailed(
            f"The backend's event stream has a message of {payload} bytes with {headers} bytes of "
            "headers, which is beyond the format's limits."
        )


def _message(data: bytes, headers: int) -> Message:
    (crc,) = _CRC.unpack_from(data, len(data) - 4)
    if zlib.crc32(data[:-4]) != crc:
        raise UpstreamFailed("The backend's event stream is damaged: a message's checksum is off.")
    end = _PRELUDE.size + headers
    return Message(_headers(data[_PRELUDE.size : end]), data[end:-4])


def _headers(data: bytes) -> dict[str, Value]:
    found: dict[str, Value] = {}
    at = 0
    try:
        while at < len(data):
            after = at + 1 + data[at]
            name = data[at + 1 : after].decode()
            found[name], at = _value(data, after)
    except (IndexError, struct.error, UnicodeDecodeError) as error:
        raise UpstreamFailed("The backend's event stream has a malformed header.") from error
    return found


def _value(data: bytes, at: int) -> tuple[Value, int]:
    """The value whose type stands at `at`, and where the next header begins."""
    kind = data[at]
    at += 1
    if kind in (_TRUE, _FALSE):
        return kind == _TRUE, at
    if kind in (_BYTES, _STRING):
        (size,) = _LENGTH.unpack_from(data, at)
        at += 2
    elif kind in _FIXED:
        size = _FIXED[kind]
    else:
        raise UpstreamFailed(f"The backend's event stream has a header of unknown type {kind}.")
    raw = data[at : at + size]
    if len(raw) < size:
        raise IndexError(at)
    if kind in _INTEGERS:
        return int.from_bytes(raw, "big", signed=True), at + size
    return raw.decode() if kind == _STRING else raw, at + size


def _header(name: str, value: Value) -> bytes:
    encoded = name.encode()
    head = bytes((len(encoded),)) + encoded
    if isinstance(value, bool):
        return head + bytes((_TRUE if value else _FALSE,))
    if isinstance(value, int):
        return head + b"\x05" + value.to_bytes(8, "big", signed=True)
    raw = value.encode() if isinstance(value, str) else value
    kind = _STRING if isinstance(value, str) else _BYTES
    return head + bytes((kind,)) + _LENGTH.pack(len(raw)) + raw
