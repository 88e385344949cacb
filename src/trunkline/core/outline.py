"""A few top-level fields of a JSON object, found without taking the rest apart.

The classes in Python are slower, and give up where the native ones look again; what either finds
the other does not contradict.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import msgspec
from msgspec import Raw

from trunkline.core.speedups import native

_fields = msgspec.json.Decoder(dict[str, Raw])
_NOTHING = (b"null", b"false")
# Bytes of what is looked at twice here: in more, it is hard to tell.
_LONG = 8192
# Digits of a count that is taken.
_MOST_DIGITS = 15
# What decoding raises for bytes that are no JSON of the wanted kind.
FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)


class PureOutline:
    """Looks for the field `name` in objects in which none of the fields `marks` says anything.

    A mark that is null or false says nothing.
    """

    __slots__ = ("_marks", "_name", "_quoted")

    def __init__(self, name: str, marks: Collection[str]) -> None:
        """Names are printable ASCII, and need no escapes in JSON; ValueError: one is not."""
        self._name = name
        self._marks = frozenset(marks)
        self._quoted = _quoted(name)
        for mark in marks:
            _quoted(mark)

    def find(self, body: bytes) -> tuple[bytes, int] | None:
        """The value of the field as it is spelled, and where in `body` it begins; -1 = not known.

        None: `body` is no JSON object, has not got the field, has it twice or a mark, or that is
        hard to tell. Objects within it are not looked into, but what is not JSON is found there
        too.
        """
        if len(body) > _LONG or body.count(self._quoted) != 1:
            return None
        fields = _read(body)
        value = fields.get(self._name)
        marks = self._marks & fields.keys()
        if value is None or any(bytes(fields[mark]) not in _NOTHING for mark in marks):
            return None
        return bytes(value), -1


class PureWholeAnswer:
    """Looks for what answers tell of themselves in `told`, an object, beside the array `listed`."""

    __slots__ = ("_besides", "_counts", "_faults", "_listed", "_told", "_watched")

    def __init__(
        self,
        listed: str,
        told: str,
        faults: Collection[str],
        counts: tuple[str, str],
        besides: Collection[str],
    ) -> None:
        """Names are as those of `Outline`.

        `counts` are what is looked for in `told`, where those of `besides` are numbers as well.
        """
        self._listed = listed
        self._told = told
        self._faults = tuple(faults)
        self._counts = counts
        self._besides = frozenset((*counts, *besides))
        self._watched = tuple(map(_quoted, (listed, told, "object", *faults, *counts)))

    def find(self, body: bytes) -> tuple[int, int] | None:
        """The two counts; one that is null or missing is 0.

        None: `body` is no JSON object, a field is missing or there twice, one of `faults` is there
        and not null, "object" is "error" or no string, `told` has more in it than numbers that are
        known (null is nothing), or that is hard to tell.
        """
        if len(body) > _LONG or any(body.count(quoted) > 1 for quoted in self._watched):
            return None
        fields = _read(body)
        value, listed = fields.get(self._told), fields.get(self._listed)
        if value is None or listed is None:
            return None
        told = bytes(value)
        if told[:1] != b"{" or bytes(listed)[:1] != b"[":
            return None
        if any(name in fields and bytes(fields[name]) != b"null" for name in self._faults):
            return None
        kind = bytes(fields.get("object", b"null"))
        if kind != b"null" and (kind[:1] != b'"' or kind == b'"error"' or b"\\" in kind):
            return None
        return self._counted(told)

    def _counted(self, told: bytes) -> tuple[int, int] | None:
        numbers: dict[str, int] = {}
        for name, value in _read(told).items():
            spelled = bytes(value)
            if spelled == b"null":
                continue
            if name not in self._besides or not spelled.isdigit() or len(spelled) > _MOST_DIGITS:
                return None
            numbers[name] = int(spelled)
        prompt, made = self._counts
        return numbers.get(prompt, 0), numbers.get(made, 0)


def _quoted(name: str) -> bytes:
    if not (name.isascii() and name.isprintable()) or '"' in name or "\\" in name:
        raise ValueError(f"a name is plain ASCII, not {name!r}")
    return b'"%b"' % name.encode()


def _read(body: bytes) -> dict[str, Raw]:
    """The fields of an object; none where it is none."""
    try:
        return _fields.decode(body)
    except FAULTS:
        return {}


if TYPE_CHECKING or native is None:
    Outline = PureOutline
    WholeAnswer = PureWholeAnswer
else:
    Outline = native.Outline
    WholeAnswer = native.WholeAnswer
