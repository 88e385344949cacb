"""Heads of HTTP messages that came before: peers send the same one again and again.

A head that equals one that a strict parser has accepted, byte for byte but for the digits of its
length, means the same, and is not parsed again. Only whole messages that arrive in one piece are
looked for, so nothing here decides where a message ends that the parser would not.
"""

from __future__ import annotations

from typing import Generic, TypeVar

_END = b"\r\n\r\n"
# What the length stands behind, and as much of it as is spelled alike by everybody.
_NAME = b"\r\ncontent-length: "
_TAIL = b"ength: "
# Digits of a length that is looked at.
_MOST_DIGITS = 9
# Heads that are remembered, each of so many bytes at most.
_MOST = 512
_LONGEST = 4096

T = TypeVar("T")


class Heads(Generic[T]):
    """What a parser made of heads that have a length, by the rest of their bytes."""

    __slots__ = ("_made",)

    def __init__(self) -> None:
        self._made: dict[bytes, T] = {}

    def find(self, data: bytes) -> tuple[T, bytes, bytes] | None:
        """What the head of `data` means, the digits of its length, and the body.

        None where the head is not known, or `data` is not exactly one message.
        """
        end = data.find(_END)
        at = data.find(_TAIL, 0, end) + len(_TAIL)
        if end < 0 or at < len(_TAIL):
            return None
        stop = data.find(b"\r", at, end + 1)
        made = self._made.get(data[:at] + data[stop:end])
        if made is None:
            return None
        digits = data[at:stop]
        body = data[end + 4 :]
        if len(digits) > _MOST_DIGITS or not digits.isdigit() or int(digits) != len(body):
            return None
        return made, digits, body

    def learn(self, data: bytes, body: bytes, made: T) -> None:
        """`data` is one message with `body`, and begins where a message may begin.

        What cannot be found again is passed over.
        """
        end = data.find(_END)
        at = data.find(_TAIL, 0, end) + len(_TAIL)
        stop = data.find(b"\r", at, end + 1)
        digits = data[at:stop]
        if (
            not 0 <= end <= _LONGEST
            or data[max(0, at - len(_NAME)) : at].lower() != _NAME
            or not digits.isdigit()
            or len(digits) > _MOST_DIGITS
            or int(digits) != len(body)
            or data[end + 4 :] != body
        ):
            return
        if len(self._made) >= _MOST:
            self._made.clear()
        self._made[data[:at] + data[stop:end]] = made
