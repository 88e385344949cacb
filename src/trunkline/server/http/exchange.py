"""One request and the response to it."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Protocol
from urllib.parse import unquote

from trunkline.core.errors import TrunklineError

Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
# Headers of a stream besides its content type. The last one tells nginx not to buffer.
EVENT_STREAM_HEADERS = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS = frozenset((204, 304))
# Targets up to this length, in bytes, are taken apart once: clients ask for few different ones.
_REMEMBERED = 128


class Clock:
    """The date header, formatted once a second."""

    def __init__(self) -> None:
        self._second = 0
        self._lines = b""

    def lines(self) -> bytes:
        """`date` and `server`, as bytes of a response's head."""
        second = int(time.time())
        if second != self._second:
            self._second = second
            self._lines = (
                f"date: {formatdate(second, usegmt=True)}\r\nserver: trunkline\r\n".encode()
            )
        return self._lines


@functools.lru_cache(maxsize=512)
def _split(target: bytes) -> tuple[str, bytes]:
    """Path and query of a target."""
    raw_path, _, query = target.partition(b"?")
    path = raw_path.decode("latin-1")
    return unquote(path, errors="replace") if "%" in path else path, query


class HttpRequest:
    """A request, complete with its body."""

    __slots__ = (
        "body",
        "fields",
        "headers",
        "http10",
        "keep_alive",
        "method",
        "path",
        "query",
        "target",
    )

    def __init__(
        self, method: str, target: bytes, headers: Headers, *, http10: bool, keep_alive: bool
    ) -> None:
        self.method = method
        # As sent, in origin form.
        self.target = target
        # The path is percent-decoded.
        split = _split if len(target) <= _REMEMBERED else _split.__wrapped__
        self.path, self.query = split(target)
        # In order; names in lower case.
        self.headers = headers
        # The first of each name.
        self.fields = dict(reversed(headers))
        self.http10 = http10
        self.keep_alive = keep_alive
        self.body: bytes | bytearray = b""

    def header(self, name: bytes) -> bytes | None:
        """The first field called `name` (lower case)."""
        return self.fields.get(name)


class ConnectionSide(Protocol):
    """What an exchange needs of its connection."""

    clock: Clock

    def write(self, data: bytes) -> None:
        """Send."""

    def reserve(self, size: int) -> bool:
        """Whether `size` more bytes may be buffered; if not, the connection is gone already."""

    def finished(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """The response is complete."""

    def cut(self) -> None:
        """Close without completing the response."""

    async def drained(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""


class Exchange:
    """A request under way, and its response.

    Either `respond` once, or `begin`, `write` any number of times and `end`. When the client goes
    away first, `on_gone` is called once and everything after is without effect.
    """

    __slots__ = (
        "_chunked",
        "_connection",
        "_silent",
        "began",
        "client",
        "closed",
        "gone_because",
        "model",
        "on_gone",
        "on_tick",
        "refusal",
        "request",
        "route",
        "started",
        "status",
        "tokens",
    )

    def __init__(self, connection: ConnectionSide, request: HttpRequest, client: str) -> None:
        self._connection = connection
        self._chunked = False
        # A response to HEAD has no body.
        self._silent = request.method == "HEAD"
        self.request = request
        self.client = client
        # time.monotonic() when the request was complete.
        self.began = time.monotonic()
        # True once the head of the response is written.
        self.started = False
        # True once the response is complete or the client gone.
        self.closed = False
        # Why the client did not get the whole response, or "".
        self.gone_because = ""
        # Status of the response; 499 when the client went before there was one.
        self.status = 0
        self.on_gone: Callable[[], None] | None = None
        # Called about once a second with time.monotonic() and seconds of silence to break
        # (`Limits.stream_keepalive`), until the response is complete.
        self.on_tick: Callable[[float, float], None] | None = None
        # Set where the connection refuses the request itself: status and reason.
        self.refusal: tuple[int, TrunklineError] | None = None
        # For log and metrics: what served it, the model's own name, prompt and output tokens.
        self.route = ""
        self.model = ""
        self.tokens: tuple[int, int] | None = None

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: bytes = JSON,
        headers: bytes = b"",
        length: int | None = None,
    ) -> None:
        """Send a whole response. `headers` are further lines, each ended by CRLF.

        `length` is the content length of a response to HEAD whose body is not at hand.
        """
        if self.closed:
            return
        keep_alive = self.request.keep_alive
        head = self._head(status, content_type, headers, keep_alive=keep_alive)
        if self._silent or status in _BODILESS:
            if status not in _BODILESS:
                size = len(body) if length is None else length
                head = b"%bcontent-length: %d\r\n" % (head, size)
            data = head + b"\r\n"
        else:
            data = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        self._connection.write(data)
        self._finish(keep_alive=keep_alive)

    def begin(self, status: int, content_type: bytes, headers: bytes = b"") -> None:
        """Send the head of a response whose length is not known yet."""
        if self.closed:
            return
        self._chunked = not self.request.http10
        keep_alive = self._chunked and self.request.keep_alive
        self.request.keep_alive = keep_alive
        head = self._head(status, content_type, headers, keep_alive=keep_alive)
        if self._chunked and status not in _BODILESS:
            head += b"transfer-encoding: chunked\r\n"
        self._silent = self._silent or status in _BODILESS
        self._connection.write(head + b"\r\n")

    def write(self, data: bytes) -> None:
        """Send more of the body, at once. May find the client too slow: then it is gone."""
        if self.closed or self._silent or not data or not self._connection.reserve(len(data)):
            return
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self, data: bytes = b"", *, broken: bool = False) -> None:
        """Complete the response after `data`; `broken`: close the connection after it too."""
        if self.closed:
            return
        if self._silent:
            data = b""
        elif self._chunked:
            last = b"0\r\n\r\n"
            data = b"%x\r\n%b\r\n%b" % (len(data), data, last) if data else last
        if data:
            self._connection.write(data)
        self._finish(keep_alive=self.request.keep_alive and not broken)

    def abort(self) -> None:
        """Close the connection so that the client notices that the response is not whole."""
        if not self.closed:
            self.gone_because = "aborted"
            self._connection.cut()

    async def drained(self) -> None:
        """Wait until more can be written without piling up, or the client is gone."""
        if not self.closed:
            await self._connection.drained()

    def lost(self, because: str) -> None:
        """The connection says that the client is gone."""
        if self.closed:
            return
        self.closed = True
        self.on_tick = None
        self.gone_because = self.gone_because or because
        self.status = self.status or 499
        callback, self.on_gone = self.on_gone, None
        if callback is not None:
            callback()

    def _head(self, status: int, content_type: bytes, headers: bytes, *, keep_alive: bool) -> bytes:
        self.started = True
        self.status = status
        line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
        if not keep_alive:
            headers += b"connection: close\r\n"
        elif self.request.http10:
            headers += b"connection: keep-alive\r\n"
        lines = self._connection.clock.lines()
        if not content_type:
            return line + lines + headers
        return b"%b%bcontent-type: %b\r\n%b" % (line, lines, content_type, headers)

    def _finish(self, *, keep_alive: bool) -> None:
        self.closed = True
        self.on_gone = self.on_tick = None
        self._connection.finished(self, keep_alive=keep_alive)
