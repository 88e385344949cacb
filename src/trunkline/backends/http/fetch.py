"""One request and its whole response, awaited: for what is not on the hot path."""

from __future__ import annotations

import asyncio

import msgspec

from trunkline.backends.http.pool import Pool
from trunkline.core.errors import TrunklineError, UpstreamFailed, UpstreamTimeout
from trunkline.wire.client import Head

_MAX_BODY = 16 * 1024 * 1024


class Response(msgspec.Struct, frozen=True):
    """A whole response."""

    head: Head
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether the status is 2xx."""
        return 200 <= self.head.status < 300


class _Collector:
    """Implements `transfer.Receiver`."""

    def __init__(self, future: asyncio.Future[Response], title: str, bound: int) -> None:
        self._future = future
        self._title = title
        self._bound = bound
        self._head = Head(0, {})
        self._body = bytearray()

    def on_head(self, head: Head) -> None:
        """Keep it."""
        self._head = head

    def on_data(self, data: bytes) -> None:
        """Keep it, within the bound."""
        self._body += data
        if len(self._body) > self._bound:
            problem = f"{self._title} answered with more than {self._bound} bytes"
            self.on_failure(UpstreamFailed(problem))

    def on_end(self) -> None:
        """All is there."""
        if not self._future.done():
            self._future.set_result(Response(self._head, bytes(self._body)))

    def on_failure(self, error: TrunklineError) -> None:
        """Hand it to who waits."""
        if not self._future.done():
            self._future.set_exception(error)


async def fetch(
    pool: Pool, head: bytes, body: bytes = b"", *, timeout: float, max_body: int = _MAX_BODY
) -> Response:
    """Send a request and wait for its response, `timeout` seconds at most.

    Raises `UpstreamFailed`, `UpstreamTimeout` and what else `Receiver.on_failure` may bring.
    Cancelling closes the connection.
    """
    future: asyncio.Future[Response] = pool.loop.create_future()
    transfer = pool.send(head, body, _Collector(future, pool.title, max_body))
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError:
        raise UpstreamTimeout(f"{pool.title} did not answer within {timeout:g} s") from None
    finally:
        transfer.cancel()
