"""One request and the response to it."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from trunkline.core.errors import TrunklineError

Headers = list[tuple[bytes, bytes]]

JSON = b"application/json"
# Headers of a stream besides its content type. The last one tells nginx not to buffer.
EVENT_STREAM_HEADERS = b"cache-control: no-cache\r\nx-accel-buffering: no\r\n"

_STATUS_LINES = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
_BODILESS = frozenset((204, 304))


class Clock:
    """What heads of responses begin with, formatted once a second."""

    def __init__(self) -> None:
        # time.time() until which the lines hold, and from when on.
        self._until = 0.0
        self._since = 0.0
        self._lines = b""
        # (status, content type) -> head up to there, this second.
        self._heads: dict[tuple[int, bytes], bytes] = {}

    def head(self, status: int, content_type: bytes) -> bytes:
        """Status line, `date`, `server` and, where there is one, `content-type`."""
        if not self._since <= time.time() < self._until:
            self._turn()
        head = self._heads.get((status, content_type))
        if head is None:
            line = _STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status
            kind = b"content-type: %b\r\n" % content_type if content_type else b""
            head = self._heads[status, content_type] = line + self._lines + kind
        return head

    def _turn(self) -> None:
        """Another second has begun."""
        second = int(time.time())
        self._since, self._until = second, second + 1
        self._heads.clear()
        date = formatdate(second, usegmt=True)
        self._lines = f"date: {date}\r\nserver: trunkline\r\n".encode()


class HttpRequest(msgspec.Struct, eq=False):
    """A request, complete with its body."""

    method: str
    # As sent, in origin form.
    target: bytes
    # Percent-decoded.
    path: str
    query: bytes
    # Header fields in order, without `content-length`; names in lower case.
    headers: Headers
    # The first of each name.
    fields: dict[bytes, bytes]
    http10: bool
    keep_alive: bool
    body: bytes = b""
    # What the application keeps for all requests with this head; None where it is no known one.
    memory: dict[bytes, Any] | None = None

    if TYPE_CHECKING:

        def __copy__(self) -> HttpRequest:
            """Every struct has it, which its stubs do not know."""

    def with_body(self, body: bytes) -> HttpRequest:
        """A request with the same head."""
        request = self.__copy__()
        request.body = body
        return request


class ConnectionSide(Protocol):
    """What an exchange needs of its connection."""

    clock: Clock
    # Sends; the transport buffers.
    write: Callable[[bytes], None]
    # Whether the client reads more slowly than we write.
    congested: bool

    def reserve(self, size: int) -> bool:
        """Whether `size` more bytes may be buffered; if not, the connection is gone already."""

    def finished(self, exchange: Exchange, *, keep_alive: bool) -> None:
        """The response is complete."""

    def cut(self) -> None:
        """Close without completing the response."""

    async def drained(self) -> None:
        """Wait until the client has read most of what was written, or is gone."""


class Underway(Protocol):
    """What a connection is busy with: an `Exchange`, or what becomes one if need be."""

    @property
    def on_tick(self) -> Callable[[float, float], None] | None:
        """As of `Exchange`."""

    def exchanged(self) -> Exchange:
        """As an exchange, from now on."""


class PassingSide(ConnectionSide, Protocol):
    """What a whole answer needs of its connection that is sent without an exchange."""

    # As of `Exchange`.
    client: str

    def exchange(self, passing: Underway, known: HttpRequest, began: float) -> Exchange:
        """It becomes one, of a request without its body that came at `began`."""

    def passed(self, passing: Underway, data: bytes) -> None:
        """Send a whole response, to a request with HTTP/1.1 that keeps its connection."""


class Exchange(msgspec.Struct, eq=False):
    """A request under way, and its response.

    Either `respond` once, or `begin`, `write` any number of times and `end`. When the client goes
    away first, `on_gone` is called once and everything after is without effect.

    A struct, as one is made for every request: its fields cost next to nothing.
    """

    _connection: ConnectionSide
    request: HttpRequest
    client: str
    # time.monotonic() when the request was complete.
    began: float
    # Set where the connection refuses the request itself: status and reason.
    refusal: tuple[int, TrunklineError] | None = None
    _chunked: bool = False
    # True: what is written is not sent, as the response has no body.
    _silent: bool = False
    # True once the response is complete or the client gone.
    closed: bool = False
    # Why the client did not get the whole response, or "".
    gone_because: str = ""
    # Status of the response; 0 = its head is not written yet.
    status: int = 0
    on_gone: Callable[[], None] | None = None
    # Called about once a second with time.monotonic() and seconds of silence to break
    # (`Limits.stream_keepalive`), until the response is complete.
    on_tick: Callable[[float, float], None] | None = None
    # For log and metrics: what served it, the model's own name, prompt and output tokens.
    route: str = ""
    model: str = ""
    tokens: tuple[int, int] | None = None

    # Its request may hold a key, which must not get into a log.
    __repr__ = object.__repr__

    def exchanged(self) -> Exchange:
        """As of `Underway`: it is one."""
        return self

    @property
    def started(self) -> bool:
        """Whether the head of the response is written."""
        return self.status != 0

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
        request, connection = self.request, self._connection
        keep_alive = request.keep_alive
        if keep_alive and not request.http10:
            self.status = status
            head = connection.clock.head(status, content_type) + headers
        else:
            head = self._head(status, content_type, headers, keep_alive=keep_alive)
        if status in _BODILESS:
            data = head + b"\r\n"
        elif request.method == "HEAD":
            size = len(body) if length is None else length
            data = b"%bcontent-length: %d\r\n\r\n" % (head, size)
        else:
            data = b"%bcontent-length: %d\r\n\r\n%b" % (head, len(body), body)
        connection.write(data)
        self.closed = True
        self.on_gone = None
        if self.on_tick is not None:
            self.on_tick = None
        connection.finished(self, keep_alive=keep_alive)

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
        self._silent = self.request.method == "HEAD" or status in _BODILESS
        self._connection.write(head + b"\r\n")

    def write(self, data: bytes) -> None:
        """Send more of the body, at once. May find the client too slow: then it is gone."""
        if self.closed or self._silent or not data:
            return
        connection = self._connection
        if self._chunked:
            data = b"%x\r\n%b\r\n" % (len(data), data)
        if not connection.congested or connection.reserve(len(data)):
            connection.write(data)

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
        callback, self.on_gone = self.on_gone, None
        if callback is not None:
            callback()

    def _head(self, status: int, content_type: bytes, headers: bytes, *, keep_alive: bool) -> bytes:
        self.status = status
        if not keep_alive:
            headers += b"connection: close\r\n"
        elif self.request.http10:
            headers += b"connection: keep-alive\r\n"
        return self._connection.clock.head(status, content_type) + headers

    def _finish(self, *, keep_alive: bool) -> None:
        self.closed = True
        self.on_gone = self.on_tick = None
        self._connection.finished(self, keep_alive=keep_alive)
