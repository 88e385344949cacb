"""Carries requests from our connections to an ASGI application in the same process.

ASGI 3.0, HTTP spec version 2.4 (asgi.readthedocs.io/en/latest/specs/www.html). Request bodies are
whole when they arrive here; there is no lifespan.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from trunkline.server.http.exchange import Exchange, Headers

log = logging.getLogger("trunkline.http")

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
AsgiApp = Callable[[Message, Receive, Send], Awaitable[None]]


class Bridge:
    """Runs the application, in one task per request; owns these tasks."""

    def __init__(self, app: AsgiApp, failed: Callable[[Exchange], None]) -> None:
        self._app = app
        # Answers for an application that raised before it answered.
        self._failed = failed
        self._tasks: set[asyncio.Task[None]] = set()

    def handle(self, exchange: Exchange) -> None:
        """Begin to answer `exchange`."""
        task = asyncio.create_task(self._run(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Cancel what still runs, and wait for it."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _run(self, exchange: Exchange) -> None:
        call = _Call(exchange)
        try:
            await self._app(_scope(exchange), call.receive, call.send)
        except ClientGone:
            log.debug("%s: client gone", exchange.request.path)
        except Exception:
            log.exception("%s %s failed", exchange.request.method, exchange.request.path)
        if not exchange.closed:
            if exchange.started:
                exchange.abort()
            else:
                self._failed(exchange)


class ClientGone(OSError):
    """Raised by `send` when nobody listens any more, as ASGI 2.4 wants."""


class _Call:
    """`receive` and `send` of one request."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._gone = asyncio.Event()
        self._asked = False
        # The "http.response.start" message, until a body shows how to send it.
        self._start: Message | None = None
        exchange.on_gone = self._gone.set

    async def receive(self) -> Message:
        """The whole body; after that, the client's leaving or the end of the response."""
        if not self._asked:
            self._asked = True
            body = bytes(self._exchange.request.body)
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._exchange.closed:
            await self._gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take the response. Raises `ClientGone`; RuntimeError for messages out of order."""
        exchange = self._exchange
        if exchange.closed:
            raise ClientGone("the client is gone")
        if message["type"] == "http.response.start":
            if self._start is not None or exchange.started:
                raise RuntimeError("the response has begun already")
            self._start = message
            return
        if message["type"] != "http.response.body":
            raise RuntimeError(f"unexpected ASGI message {message['type']!r}")
        body = bytes(message.get("body", b""))
        more = bool(message.get("more_body", False))
        if self._start is not None:
            start, self._start = self._start, None
            status = int(start["status"])
            kind, lines, length = _split(start.get("headers", ()))
            if not more:
                head_only = exchange.request.method == "HEAD" and not body
                exchange.respond(status, body, kind, lines, length if head_only else None)
                self._gone.set()
                return
            exchange.begin(status, kind, lines)
        elif not exchange.started:
            raise RuntimeError("a body came before http.response.start")
        if more:
            exchange.write(body)
            await exchange.drained()
        else:
            exchange.end(body)
            self._gone.set()


def _scope(exchange: Exchange) -> Message:
    request = exchange.request
    host, _, port = exchange.client.rpartition(":")
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.0" if request.http10 else "1.1",
        "method": request.method,
        "scheme": "http",
        "path": request.path,
        "raw_path": request.target.partition(b"?")[0],
        "query_string": request.query,
        "root_path": "",
        "headers": list(request.headers),
        "client": (host, int(port)) if port.isdecimal() else None,
        "server": None,
    }


def _split(headers: Headers) -> tuple[bytes, bytes, int | None]:
    """Content type, content length, and the other headers as lines."""
    kind = b""
    length: int | None = None
    lines: list[bytes] = []
    for name, value in headers:
        match name.lower():
            case b"content-type":
                kind = value
            case b"content-length":
                length = int(value)
            case b"connection" | b"transfer-encoding" | b"date" | b"server":
                # The connection's own business.
                continue
            case other:
                lines.append(b"%b: %b\r\n" % (other, value))
    return kind, b"".join(lines), length
