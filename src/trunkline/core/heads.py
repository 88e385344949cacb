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

    __slots__ = ("_after", "_before", "_last", "_made", "_size")

    def __init__(self) -> None:
        self._made: dict[bytes, T] = {}
        # The one that was found last: what stands before the digits, how much that is, and after.
        self._before = b""
        self._size = 0
        self._after = _END
        self._last: T | None = None

    def find(self, data: bytes) -> tuple[T, bytes, bytes] | None:
        """What the head of `data` means, the digits of its length, and the body.

        None where the head is not known, or `data` is not exactly one message.
        """
        made = self._last
        if made is not None and data.startswith(self._before):
            at = self._size
            stop = data.find(b"\r", at)
            after = self._after
            if data.startswith(after, stop) and stop >= 0:
                digits = data[at:stop]
                body = data[stop + len(after) :]
                if len(digits) <= _MOST_DIGITS and digits.isdigit() and int(digits) == len(body):
                    return made, digits, body
                return None
        end = data.find(_END)
        at = data.find(_TAIL, 0, end) + len(_TAIL)
        if end < 0 or at < len(_TAIL):
            return None
        stop = data.find(b"\r", at, end + 1)
        before, after = data[:at], data[stop:end]
        made = self._made.get(before + after)
        if made is None:
            return None
        self._before, self._size, self._after, self._last = before, at, after + _END, made
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
