"""What streams come in, looked at no closer than passing it on needs."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import TYPE_CHECKING

from trunkline.core.speedups import native

# The size of a chunk, without extensions, and not that of the last one.
_SIZE = re.compile(rb"0*([1-9a-fA-F][0-9a-fA-F]{0,6})\r\n")
# Digits of a size, leading zeros included.
_MOST_DIGITS = 15


def pure_unchunked(data: bytes) -> bytes | None:
    """What is in the chunks of HTTP's chunked coding that `data` consists of.

    None: it has none, does not end with the end of one, holds the last one, or its chunks have
    extensions or say their sizes at length.
    """
    pieces = []
    at = 0
    while at < len(data):
        found = _SIZE.match(data, at)
        if found is None or found.end() - at > _MOST_DIGITS + 2:
            return None
        begin = found.end()
        end = begin + int(found[1], 16)
        if data[end : end + 2] != b"\r\n":
            return None
        pieces.append(data[begin:end])
        at = end + 2
    return b"".join(pieces) if pieces else None


class PureEvents:
    """Counts what stands once in each event of a stream."""

    __slots__ = ("_gap", "_marks", "_token")

    def __init__(self, gap: bytes, token: bytes, marks: Collection[bytes]) -> None:
        """`gap` ends an event. None of them is empty; ValueError: one is."""
        if not (gap and token and all(marks)):
            raise ValueError("an empty mark is everywhere")
        self._gap = gap
        self._token = token
        self._marks = tuple(marks)

    def count(self, data: bytes) -> int:
        """How often `token` is in `data`; -1: that ends within an event, or has one of `marks`."""
        if not data.endswith(self._gap) or any(mark in data for mark in self._marks):
            return -1
        return data.count(self._token)


if TYPE_CHECKING or native is None:
    Events = PureEvents
    unchunked = pure_unchunked
else:
    Events = native.Events
    unchunked = native.unchunked
