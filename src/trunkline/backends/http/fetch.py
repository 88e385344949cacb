"""One request and its whole response, awaited: for what is not on the hot path."""

from __future__ import annotations

import asyncio

import msgspec

from trunkline.backends.http.pool import Pool
from trunkline.backends.http.transfer import Transfer
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


class _Fetched(Transfer, eq=False):
    """Keeps the response, within the bound."""

    answer: asyncio.Future[Response]
    title: str
    # In bytes.
    bound: int
    response: Head | None = None
    kept: bytearray = msgspec.field(default_factory=bytearray)

    def on_head(self, head: Head) -> None:
        """Keep it."""
        self.response = head

    def on_data(self, data: bytes) -> None:
        """Keep it."""
        self.kept += data
        if len(self.kept) > self.bound:
            problem = f"{self.title} answered with more than {self.bound} bytes"
            self.on_failure(UpstreamFailed(problem))

    def on_end(self) -> None:
        """All is there."""
        assert self.response is not None
        if not self.answer.done():
            self.answer.set_result(Response(self.response, bytes(self.kept)))

    def on_failure(self, error: TrunklineError) -> None:
        """Hand it to who waits."""
        if not self.answer.done():
            self.answer.set_exception(error)


async def fetch(
    pool: Pool, head: bytes, body: bytes = b"", *, timeout: float, max_body: int = _MAX_BODY
) -> Response:
    """Send a request and wait for its response, `timeout` seconds at most.

    Raises `UpstreamFailed`, `UpstreamTimeout` and what else `Transfer.on_failure` may bring.
    Cancelling closes the connection.
    """
    future: asyncio.Future[Response] = pool.loop.create_future()
    transfer = _Fetched(future, pool.title, max_body, head=head, body=body)
    pool.send(transfer)
    try:
        async with asyncio.timeout(timeout):
            return await future
    except TimeoutError:
        raise UpstreamTimeout(f"{pool.title} did not answer within {timeout:g} s") from None
    finally:
        transfer.cancel()
