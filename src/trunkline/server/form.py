"""Whole responses that differ in little."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trunkline.core.speedups import native

# What is filled in, in this order, behind a "%".
_HOLES = (b"b", b"b", b".1f")


class PureForm:
    """A response of which some lines of the head are known beforehand."""

    __slots__ = ("_form",)

    def __init__(self, lines: bytes) -> None:
        """`lines` is a format of a name, twice ("%b"), and of milliseconds ("%.1f"); each line is
        ended by CRLF. ValueError: it is another one.
        """
        _, *holes = lines.replace(b"%%", b"").split(b"%")
        fits = zip(_HOLES, holes, strict=False)
        if len(holes) != len(_HOLES) or not all(one.startswith(hole) for hole, one in fits):
            raise ValueError("a form has %b, %b and %.1f, in this order")
        self._form = b"%b" + lines + b"content-length: %d\r\n\r\n%b"

    def fill(self, top: bytes, name: str, milliseconds: float, body: bytes) -> bytes:
        """The response that begins with `top`, its first lines."""
        given = name.encode()
        return self._form % (top, given, given, milliseconds, len(body), body)


if TYPE_CHECKING or native is None:
    Form = PureForm
else:
    Form = native.Form
