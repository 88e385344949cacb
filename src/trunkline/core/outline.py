"""A few top-level fields of a JSON object, found without taking the rest apart."""

from __future__ import annotations

from collections.abc import Collection

import msgspec
from msgspec import Raw

_fields = msgspec.json.Decoder(dict[str, Raw])
_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class Outline:
    """Looks for the field `name` in objects that have none of the fields `marks`."""

    __slots__ = ("_marks", "_name", "_quoted")

    def __init__(self, name: str, marks: Collection[str]) -> None:
        """Names are ASCII, and need no escapes in JSON."""
        self._name = name
        self._marks = frozenset(marks)
        self._quoted = b'"%b"' % name.encode()

    def find(self, body: bytes) -> tuple[bytes, int] | None:
        """The value of the field as it is spelled, and where in `body` it begins; -1 = not known.

        None: `body` is no JSON object, has not got the field, may have it twice, or has one of the
        marks, and where that would be hard to tell. Objects within it are not looked into, but what
        is not JSON is found there too.
        """
        if body.count(self._quoted) != 1:
            return None
        try:
            fields = _fields.decode(body)
        except _FAULTS:
            return None
        value = fields.get(self._name)
        if value is None or not fields.keys().isdisjoint(self._marks):
            return None
        return bytes(value), -1
