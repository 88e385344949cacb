"""Reading streams: server-sent events, and lines of JSON. Bytes may come in any pieces.

Server-sent events: html.spec.whatwg.org/multipage/server-sent-events.html, section 9.2.6 (read
2026-11-21). `id` and `retry` say nothing about an answer and are passed over. Unlike there, what
stands at the end without an empty line behind it counts as an event: many servers leave it out.
"""

from __future__ import annotations

from typing import NamedTuple

from trunkline.core.errors import UpstreamFailed

# Longest event or line, in bytes.
MOST = 16 << 20

# An event that keeps the connection alive.
_NOTHING = b"data: "

# What some servers begin with; it says nothing.
BOM = b"\xef\xbb\xbf"


class ServerEvent(NamedTuple):
    """One event."""

    # "" where the server names none.
    name: bytes
    # Lines joined by newlines.
    data: bytes


class EventReader:
    """Finds the events in a stream; those without data are left out, and those with empty data:
    some servers send such to keep the connection alive.
    """

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        # What no empty line has closed yet; line ends are "\n".
        self._rest = bytearray()
        # Where to look for an empty line.
        self._from = 0
        self._begun = False
        # The last byte was "\r": a "\n" that follows belongs to it.
        self._cr = False

    def feed(self, data: bytes) -> list[ServerEvent]:
        """The events that `data` completes. Raises `UpstreamFailed` where one is too long."""
        if self._cr or b"\r" in data:
            data = self._line_ends(data)
        rest = self._rest
        if not rest and data.endswith(b"\n\n"):
            return self._events(data[:-2])
        rest += data
        end = rest.rfind(b"\n\n", self._from)
        if end < 0:
            self._from = max(0, len(rest) - 1)
            if len(rest) > self._most:
                raise UpstreamFailed("The backend sent an event that is too long.")
            return []
        whole = bytes(memoryview(rest)[:end])
        del rest[: end + 2]
        self._from = max(0, len(rest) - 1)
        return self._events(whole)

    def end(self) -> list[ServerEvent]:
        """What is left when the stream is over."""
        whole = bytes(self._rest)
        self._rest.clear()
        return self._events(whole) if whole else []

    def _line_ends(self, data: bytes) -> bytes:
        last = data[-1:]
        if self._cr:
            data = data.removeprefix(b"\n")
        self._cr = last == b"\r" or (self._cr and not last)
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _events(self, whole: bytes) -> list[ServerEvent]:
        if not self._begun:
            self._begun = True
            whole = whole.removeprefix(BOM)
        found: list[ServerEvent] = []
        for block in whole.split(b"\n\n"):
            # Nearly all events are one line of data.
            if block.startswith(b"data: ") and b"\n" not in block and block != _NOTHING:
                found.append(ServerEvent(b"", block[6:]))
            elif block:
                event = _event(block)
                if event is not None:
                    found.append(event)
        return found


def _event(block: bytes) -> ServerEvent | None:
    name = b""
    lines: list[bytes] = []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            lines.append(value)
        elif field == b"event":
            name = value
    data = b"\n".join(lines)
    return ServerEvent(name, data) if data else None


class LineReader:
    """Finds the lines in a stream (NDJSON); empty ones are left out."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """The lines that `data` completes. Raises `UpstreamFailed` where one is too long."""
        rest = self._rest
        end = data.rfind(b"\n")
        if end < 0:
            rest += data
            if len(rest) > self._most:
                raise UpstreamFailed("The backend sent a line that is too long.")
            return []
        whole = data[:end]
        if rest:
            whole = bytes(rest) + whole
            rest.clear()
        rest += data[end + 1 :]
        return _lines(whole)

    def end(self) -> list[bytes]:
        """What is left when the stream is over."""
        whole = bytes(self._rest)
        self._rest.clear()
        return _lines(whole)


def _lines(whole: bytes) -> list[bytes]:
    return [line for line in (one.strip() for one in whole.split(b"\n")) if line]
