"""One request on its way and the response to it."""

from __future__ import annotations

from typing import Protocol

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.wire.client import Head


class Carrier(Protocol):
    """What has a transfer in hand: a connection, or the queue of a pool."""

    def abandon(self, transfer: Transfer) -> None:
        """The transfer is cancelled."""

    def set_reading(self, wanted: bool) -> None:
        """Read on, or stop reading."""


class Transfer(msgspec.Struct, eq=False, kw_only=True):
    """A request that is queued, sent or being answered. Subclasses take the response.

    Their methods `on_…` are called on the event loop and must not raise: `on_head`, then `on_data`
    any number of times, then `on_end`; or `on_part` any number of times, then `on_whole`, in place
    of these; or `on_failure` at any point. Nothing is called before `Pool.send` has returned, nor
    after `cancel`.

    A struct, as one is made for every request: its fields cost next to nothing.
    """

    # Of the request, with its blank line; and what follows it.
    head: bytes = b""
    body: bytes = b""
    carrier: Carrier | None = None
    # True: nothing more is heard.
    done: bool = False
    # True: it was sent again after a kept connection turned out to be dead.
    retried: bool = False
    paused: bool = False
    # The loop's time when it was queued.
    since: float = 0.0

    # The head may hold a key, which must not get into a log.
    __repr__ = object.__repr__

    def on_head(self, head: Head) -> None:
        """Status and fields."""
        raise NotImplementedError

    def on_data(self, data: bytes) -> None:
        """More of the body: all that has arrived since, in one piece, never empty."""
        raise NotImplementedError

    def on_end(self) -> None:
        """The body is complete."""
        raise NotImplementedError

    def on_part(self) -> None:
        """Something of a body has arrived that is given as a whole: for those who keep time."""

    def on_whole(self, head: Head, body: bytes) -> None:
        """The response came in one piece, and has let go of its connection."""
        self.on_head(head)
        if body and not self.done:
            self.on_data(body)
        if not self.done:
            self.done = True
            self.on_end()

    def on_failure(self, error: TrunklineError) -> None:
        """`UpstreamFailed`, `UpstreamTimeout`, `QueueFull` or `Unavailable`."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Close the connection at once, so that the backend stops. Harmless when it has ended."""
        if self.done:
            return
        self.done = True
        self.body = b""
        if self.carrier is not None:
            self.carrier.abandon(self)

    def pause(self) -> None:
        """Read no more for now: the reader of the answer is slow."""
        self._set_paused(True)

    def resume(self) -> None:
        """Read on."""
        self._set_paused(False)

    def fail(self, error: TrunklineError) -> None:
        """The last that is heard, unless that was before."""
        if not self.done:
            self.done = True
            self.body = b""
            self.on_failure(error)

    def _set_paused(self, paused: bool) -> None:
        self.paused = paused
        if self.carrier is not None and not self.done:
            self.carrier.set_reading(not paused)
