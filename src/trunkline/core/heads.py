"""Heads of HTTP messages that came before: peers send the same one again and again.

A head that equals one that a strict parser has accepted, byte for byte but for the digits of its
length, means the same, and is not parsed again. Only a message that arrives alone is looked for,
its head in one piece; the rest of its body may follow (`Gathered`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from trunkline.core.speedups import native

_END = b"\r\n\r\n"
# What the length stands behind, and as much of it as is spelled alike by everybody.
_NAME = b"\r\ncontent-length: "
_TAIL = b"ength: "
# Digits of a length that is looked at.
_MOST_DIGITS = 9
# Heads that are remembered, each of so many bytes at most.
_MOST = 512
_LONGEST = 4096
# Pieces of a body that are smaller than this are put together at once: they may be single bytes.
_SMALL = 4096

T = TypeVar("T")


class PureHeads(Generic[T]):
    """What a parser made of heads that have a length, by the rest of their bytes."""

    __slots__ = ("_after", "_before", "_last", "_made", "_size")

    def __init__(self) -> None:
        self._made: dict[bytes, T] = {}
        # The one that was found last: what stands before the digits, how much that is, and after.
        self._before = b""
        self._size = 0
        self._after = _END
        self._last: T | None = None

    def find(self, data: bytes) -> tuple[T, bytes, int] | None:
        """What the head of `data` means, the body, and how many bytes of that are still to come.

        None where the head is not known, or there is more than one message.
        """
        made = self._last
        if made is not None and data.startswith(self._before):
            at = self._size
            stop = data.find(b"\r", at)
            after = self._after
            if data.startswith(after, stop) and stop >= 0:
                digits = data[at:stop]
                body = data[stop + len(after) :]
                if len(digits) <= _MOST_DIGITS and digits.isdigit():
                    missing = int(digits) - len(body)
                    return (made, body, missing) if missing >= 0 else None
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
        if len(digits) > _MOST_DIGITS or not digits.isdigit():
            return None
        missing = int(digits) - len(body)
        return (made, body, missing) if missing >= 0 else None

    def learn(self, data: bytes, body: bytes, made: T) -> None:
        """`data` is one message with `body`, and begins where a message may begin.

        What cannot be found again is passed over.
        """
        head = head_of(data)
        if head and data[len(head) :] == body:
            self.learn_head(head, len(body), made)

    def learn_head(self, head: bytes, size: int, made: T) -> None:
        """`head` began where a message may begin, and a body of `size` bytes followed it.

        What cannot be found again is passed over.
        """
        if not head.endswith(_END):
            return
        end = len(head) - len(_END)
        at = head.find(_TAIL, 0, end) + len(_TAIL)
        stop = head.find(b"\r", at, end + 1)
        digits = head[at:stop]
        if (
            head[max(0, at - len(_NAME)) : at].lower() != _NAME
            or not digits.isdigit()
            or len(digits) > _MOST_DIGITS
            or int(digits) != size
        ):
            return
        if len(self._made) >= _MOST:
            self._made.clear()
        self._made[head[:at] + head[stop:end]] = made


if TYPE_CHECKING or native is None:
    Heads = PureHeads
else:
    Heads = native.Heads


def head_of(data: bytes) -> bytes:
    """What `data` has up to its first empty line; b"" where that is far, or there is none."""
    end = data.find(_END, 0, _LONGEST + len(_END))
    return data[: end + len(_END)] if end >= 0 else b""


class Gathered:
    """A body that comes in pieces."""

    __slots__ = ("_pieces", "missing")

    def __init__(self, first: bytes, missing: int) -> None:
        self._pieces: list[bytes | bytearray] = [first]
        # Bytes that are still to come.
        self.missing = missing

    def add(self, data: bytes) -> bytes:
        """Take `data`; gives what comes after the body."""
        surplus = data[self.missing :]
        if surplus:
            data = data[: self.missing]
        self.missing -= len(data)
        if len(data) >= _SMALL:
            self._pieces.append(data)
        elif isinstance(self._pieces[-1], bytearray):
            self._pieces[-1] += data
        else:
            self._pieces.append(bytearray(data))
        return surplus

    def body(self) -> bytes:
        """All that has come."""
        return b"".join(self._pieces)
