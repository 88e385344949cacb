"""Looks at deadlines, also by a process that was stopped meanwhile."""

from __future__ import annotations

import asyncio
import socket
import time

from tests.support.stops import stops
from trunkline.backends.http.ticker import Ticker


class _Waits:
    """Notes what had been heard when it was looked at."""

    def __init__(self) -> None:
        self.heard = b""
        self.seen: asyncio.Queue[bytes] = asyncio.Queue()

    def check(self, now: float) -> None:
        self.seen.put_nowait(self.heard)


async def test_what_came_while_we_were_stopped_is_heard_before_a_look() -> None:
    loop = asyncio.get_running_loop()
    ticker, item = Ticker(loop), _Waits()
    ours, theirs = socket.socketpair()
    with ours, theirs, stops(0.5, lambda: theirs.send(b"x")) as stop:
        ours.setblocking(False)

        def hear() -> None:
            item.heard += ours.recv(100)

        loop.add_reader(ours, hear)
        ticker.add(item)
        for number in range(3):
            assert await item.seen.get() == b"x" * number
            assert item.seen.empty()
            stop()
        loop.remove_reader(ours)
    ticker.close()


async def test_looks_come_also_where_each_is_late() -> None:
    ticker, item = Ticker(asyncio.get_running_loop()), _Waits()
    ticker.add(item)
    for _ in range(12):
        time.sleep(0.25)  # noqa: ASYNC251
        await asyncio.sleep(0.001)
    assert item.seen.qsize() > 2
    ticker.close()
