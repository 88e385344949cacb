"""One request on its way and the response to it."""

from __future__ import annotations

from typing import Protocol

from trunkline.core.errors import TrunklineError
from trunkline.wire.client import Head


class Receiver(Protocol):
    """Takes a response, on the event loop. Its methods must not raise.

    `on_head`, then `on_data` any number of times, then `on_end`; or `on_failure` at any point.
    Nothing is called before `Pool.send` has returned, nor after `Transfer.cancel`.
    """

    def on_head(self, head: Head) -> None:
        """Status and fields."""

    def on_data(self, data: bytes) -> None:
        """More of the body: all that has arrived since, in one piece, never empty."""

    def on_end(self) -> None:
        """The body is complete."""

    def on_failure(self, error: TrunklineError) -> None:
        """`UpstreamFailed`, `UpstreamTimeout`, `QueueFull` or `Unavailable`."""


class Carrier(Protocol):
    """What has a transfer in hand: a connection, or the queue of a pool."""

    def abandon(self, transfer: Transfer) -> None:
        """The transfer is cancelled."""

    def set_reading(self, wanted: bool) -> None:
        """Read on, or stop reading."""


class Transfer:
    """A request that is queued, sent or being answered."""

    __slots__ = ("body", "carrier", "done", "head", "paused", "receiver", "retried", "since")

    def __init__(self, head: bytes, body: bytes, receiver: Receiver) -> None:
        self.head = head
        self.body = body
        self.receiver = receiver
        self.carrier: Carrier | None = None
        # True: the receiver hears nothing more.
        self.done = False
        # True: it was sent again after a kept connection turned out to be dead.
        self.retried = False
        self.paused = False
        # The loop's time when it was queued, or written to a kept connection.
        self.since = 0.0

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
        """Tell the receiver, unless it has heard its last."""
        if not self.done:
            self.done = True
            self.body = b""
            self.receiver.on_failure(error)

    def _set_paused(self, paused: bool) -> None:
        self.paused = paused
        if self.carrier is not None and not self.done:
            self.carrier.set_reading(not paused)
