"""Bytes to requests: HTTP/1.1 framing and its limits, without sockets.

llhttp (through httptools) parses, strictly: what could be read in two ways, such as a request with
both a length and chunks, is refused.
"""

from __future__ import annotations

import functools
import time
from math import inf
from typing import Protocol
from urllib.parse import unquote

import httptools
from msgspec.structs import replace

from trunkline.core.errors import InvalidRequest, PayloadTooLarge, RequestTimeout, TrunklineError
from trunkline.core.heads import Gathered, Heads, head_of
from trunkline.server.http.exchange import Headers, HttpRequest
from trunkline.server.http.limits import Limits

# Headers that belong to an upgrade, which we decline; "connection" names them.
_UPGRADE = frozenset((b"upgrade", b"http2-settings"))
_LENGTH = b"content-length"
_CODING = b"transfer-encoding"
_CHUNKED = b"chunked"
_PLAIN = b"identity"
# Targets up to this length, in bytes, are taken apart once: clients ask for few different ones.
_REMEMBERED = 128


class Receiver(Protocol):
    """Takes what a `Framing` finds."""

    def received(self, request: HttpRequest, refusal: tuple[int, TrunklineError] | None) -> None:
        """A request is complete, or refused with a status and a reason."""


class _Refused(Exception):
    """Leaves the parser's callbacks when a request is refused."""


class Framing:
    """Parses one connection's input. Its `on_` methods are for the parser."""

    def __init__(
        self, limits: Limits, receiver: Receiver, heads: Heads[HttpRequest] | None = None
    ) -> None:
        """`heads` are those that any connection has seen before."""
        self._limits = limits
        self._receiver = receiver
        self._heads: Heads[HttpRequest] = Heads() if heads is None else heads
        self._parser = httptools.HttpRequestParser(self)
        # time.monotonic() by which the request that has begun must be complete; inf between two.
        self.deadline = inf
        # Seconds for the part of a request that has just begun; 0 = none has.
        self._allowed = 0.0
        # True: whatever else arrives is not looked at.
        self.ended = False
        # True: the client wants to be told to go on before it sends its body.
        self.wants_continue = False
        # The request that is being parsed; None while its head is.
        self._request: HttpRequest | None = None
        self._url = b""
        # True: the head says how long the body is.
        self._sized = False
        # Fields of the head, then of the trailer, which nobody looks at.
        self._headers: Headers = []
        self._body: bytes | bytearray = b""
        # Bytes of the piece that is being parsed, and of that in which the request began.
        self._size = 0
        self._first_size = 0
        # Bytes since the parser last made progress; httptools keeps an unfinished header itself.
        self._unseen = 0
        # The request that was completed last, until the next one begins.
        self._only: HttpRequest | None = None
        # Requests that began in the piece that is being parsed; and the head of the one that is
        # not complete yet, where that came in one piece.
        self._begun = 0
        self._head = b""
        # The body of a request whose head came before, while the rest of it is to come; and that
        # head.
        self.gathering: Gathered | None = None
        self._head_before: HttpRequest | None = None

    def known(self, data: bytes) -> tuple[HttpRequest, bytes, int] | None:
        """What the head of `data` means, which came before, and the body of this request; and 0.

        The first is not to be changed: it is what all requests with this head have in common.
        None: `feed` it, unless there is a `gathering` now, to which the next piece belongs.
        """
        if self.deadline != inf:
            # A part of a request came before.
            return None
        found = self._heads.find(data)
        if found is None:
            return None
        before, body, missing = found
        if len(body) + missing > self._limits.max_body:
            return None
        if not missing:
            return found
        if b"expect" not in before.fields:
            self._request = before.with_body(body)
            self._head_before = before
            self.gathering = Gathered(body, missing)
            self.deadline = time.monotonic() + self._limits.body_timeout
        return None

    def gather(self, data: bytes) -> tuple[tuple[HttpRequest, bytes, int] | None, bytes]:
        """As `known`, once `data` completes the body; and what follows it, which is to be fed."""
        gathering, before = self.gathering, self._head_before
        assert gathering is not None
        assert before is not None
        surplus = gathering.add(data)
        if gathering.missing:
            return None, surplus
        self.gathering = self._request = self._head_before = None
        self.deadline = inf
        return (before, gathering.body(), 0), surplus

    def feed(self, data: bytes | memoryview) -> None:
        """Parse `data`; hands what it completes to the receiver. Never raises."""
        self._size = size = len(data)
        self._unseen += size
        between = self.deadline == inf
        self._begun = 0
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(bytes(data[upgrade.args[0] :]))
            # The piece was parsed in parts: what was counted last is not what it begins with.
            between = False
        except httptools.HttpParserError as error:
            # Set: refused by a callback, or there is something after "Connection: close".
            if not self.ended:
                self.refuse(400, InvalidRequest(f"malformed HTTP request: {error}"))
        if between:
            if self._only is not None:
                self._learn(bytes(data), self._only)
            elif self._begun == 1 and self._request is not None:
                self._head = head_of(bytes(data))
        if self._allowed:
            self.deadline = time.monotonic() + self._allowed
            self._allowed = 0.0
        elif self.deadline == inf:
            # Between two requests: a connection that idles does not keep the last one's body.
            self._request = self._only = None
            self._head = b""
        bound = self._limits.max_header_bytes
        if self._unseen > bound and self.deadline != inf and not self.ended:
            problem = f"a header or chunk is over the limit of {bound} bytes"
            self.refuse(431, PayloadTooLarge(problem))

    def refuse(self, status: int, error: TrunklineError) -> None:
        """Hand on a refusal in place of the request that has begun, and parse nothing more."""
        request = self._request or HttpRequest("-", b"-", "-", b"", [], {}, False, False)
        request.keep_alive = False
        self.stop()
        self._receiver.received(request, (status, error))

    def refuse_late(self) -> None:
        """Refuse because `deadline` has passed."""
        missing = "a request line and headers" if self._request is None else "a body"
        self.refuse(408, RequestTimeout(f"waited too long for {missing}"))

    def wait_anew(self) -> None:
        """The client could not go on with the request that has begun: its time begins again."""
        if self.deadline != inf:
            limits = self._limits
            allowed = limits.header_timeout if self._request is None else limits.body_timeout
            self.deadline = time.monotonic() + allowed

    def stop(self) -> None:
        """Parse nothing more."""
        self.ended = True
        self.gathering = None
        self.deadline = inf
        self._allowed = 0.0
        self.wants_continue = False

    # parser callbacks

    def on_message_begin(self) -> None:
        """A new request begins."""
        self._allowed = self._limits.header_timeout
        self._request = None
        self._only = None
        self._begun += 1
        self._head = b""
        self._url = b""
        self._headers = []
        self._body = b""
        self._first_size = self._size
        self._unseen = 0

    def on_url(self, url: bytes) -> None:
        """More of the target."""
        self._url += url
        if len(self._url) > self._limits.max_url:
            problem = f"the URL is longer than {self._limits.max_url} bytes"
            self._refuse(414, InvalidRequest(problem))

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header or trailer; `feed` bounds how much comes before their number is looked at.

        The parser leaves the white space behind a value, which is no part of it (RFC 9110, 5.5).
        """
        self._headers.append((name.lower(), value.rstrip()))

    def on_headers_complete(self) -> None:
        """Refuse what can be refused before the body."""
        parser = self._parser
        if parser.should_upgrade():
            return
        headers, self._headers = self._headers, []
        count = len(headers)
        limits = self._limits
        # What came in all is counted already; the fields are measured where that is much.
        much = self._first_size + self._unseen > limits.max_header_bytes
        if count > limits.max_headers or (much and _size(headers) > limits.max_header_bytes):
            bound = f"{limits.max_headers} fields, {limits.max_header_bytes} bytes"
            self._refuse(431, PayloadTooLarge(f"the headers are over the limit of {bound}"))
        fields = dict(headers)
        if len(fields) != count:
            # The first of each name counts.
            fields = dict(reversed(headers))
        keep_alive = parser.should_keep_alive()
        # The version is dear to ask for. Only 1.1 stays open without a word about it.
        unsaid = keep_alive and b"connection" not in fields
        http10 = not unsaid and parser.get_http_version() == "1.0"
        url = self._url
        parts = _parts(url) if len(url) <= _REMEMBERED else _parts.__wrapped__(url)
        method = parser.get_method().decode()
        # The body tells its length: heads that differ in that alone mean the same.
        length = fields.pop(_LENGTH, None)
        self._sized = length is not None
        if length is not None:
            headers = [pair for pair in headers if pair[0] != _LENGTH]
        self._request = HttpRequest(method, *parts, headers, fields, http10, keep_alive)
        self._allowed = limits.body_timeout
        if length is not None and int(length) > limits.max_body:
            self._refuse_body()
        if length is None and fields.get(_CODING, _CHUNKED).lower() != _CHUNKED:
            problem = "the only transfer coding that is understood is chunked"
            self._refuse(501, InvalidRequest(problem))
        if fields.get(b"content-encoding", _PLAIN).lower() != _PLAIN:
            problem = "compressed bodies are not understood: send it without content-encoding"
            self._refuse(415, InvalidRequest(problem))
        if b"expect" in fields:
            if fields[b"expect"].lower() != b"100-continue":
                problem = "the only expectation that is understood is 100-continue"
                self._refuse(417, InvalidRequest(problem))
            self.wants_continue = not http10
        several = len(fields) != len(headers) and sum(name == b"host" for name, _ in headers) > 1
        if several or not (http10 or b"host" in fields):
            self._refuse(400, InvalidRequest("exactly one Host header is needed"))

    def on_body(self, body: bytes) -> None:
        """More of the body."""
        self._unseen = 0
        if not self._body:
            self._body = body
        else:
            if isinstance(self._body, bytes):
                self._body = bytearray(self._body)
            self._body += body
        if len(self._body) > self._limits.max_body:
            self._refuse_body()

    def on_chunk_header(self) -> None:
        """The parser makes progress."""
        self._unseen = 0

    def on_message_complete(self) -> None:
        """The request is complete."""
        request = self._request
        if request is None:
            # It asks for an upgrade; `_ignore_upgrade` parses it again.
            return
        request.body = bytes(self._body)
        self._body = b""
        self.wants_continue = False
        self.deadline = inf
        self._allowed = 0.0
        if not request.keep_alive:
            self.ended = True
        self._only = request
        if self._head and self._learnable(request):
            self._heads.learn_head(self._head, len(request.body), _remembered(request))
        self._receiver.received(request, None)

    # internals

    def _learn(self, data: bytes, request: HttpRequest) -> None:
        """Remember the head of `request`, which `data` may consist of."""
        if self._learnable(request):
            self._heads.learn(data, request.body, _remembered(request))

    def _learnable(self, request: HttpRequest) -> bool:
        """Whether the next request with such a head is like it but for its body."""
        return request.keep_alive and not request.http10 and self._sized

    def _refuse(self, status: int, error: TrunklineError) -> None:
        self.refuse(status, error)
        raise _Refused

    def _refuse_body(self) -> None:
        problem = f"the body is over the limit of {self._limits.max_body} bytes"
        self._refuse(413, PayloadTooLarge(problem))

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the head again without the upgrade; the parser alone would lose the body.

        An upgrade may be declined by answering the request as if it were not asked for (RFC 9110,
        7.8). Java's HTTP client offers h2c with every first request.
        """
        method = self._parser.get_method()
        if method == b"CONNECT":
            self.refuse(405, InvalidRequest("this is no proxy"))
            return
        version = self._parser.get_http_version().encode()
        lines = [b"%b %b HTTP/%b" % (method, self._url, version)]
        lines += [b"%b: %b" % pair for pair in map(_declined, self._headers) if pair is not None]
        self._parser = httptools.HttpRequestParser(self)
        self.feed(b"\r\n".join(lines) + b"\r\n\r\n")
        if rest and not self.ended:
            self.feed(rest)


def _remembered(request: HttpRequest) -> HttpRequest:
    """What requests with the head of `request` have in common."""
    return replace(request, body=b"", memory={})


def _declined(header: tuple[bytes, bytes]) -> tuple[bytes, bytes] | None:
    """What a header says besides an upgrade."""
    name, value = header
    if name != b"connection":
        return None if name in _UPGRADE else header
    words = [word.strip() for word in value.split(b",")]
    left = b", ".join([word for word in words if word.lower() not in _UPGRADE])
    return (name, left) if left else None


def _size(headers: Headers) -> int:
    """Bytes of header lines."""
    return sum(len(name) + len(value) + 4 for name, value in headers)


@functools.lru_cache(maxsize=512)
def _parts(url: bytes) -> tuple[bytes, str, bytes]:
    """A target in origin form (proxies send a whole URL), its path, percent-decoded, and query."""
    if not url.startswith((b"/", b"*")) and b"://" in url:
        _, _, rest = url.partition(b"://")
        end = min(at for at in (rest.find(b"/"), rest.find(b"?"), len(rest)) if at >= 0)
        url = rest[end:] if rest.startswith(b"/", end) else b"/" + rest[end:]
    raw_path, _, query = url.partition(b"?")
    path = raw_path.decode("latin-1")
    return url, unquote(path, errors="replace") if "%" in path else path, query
