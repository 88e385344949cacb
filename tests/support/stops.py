"""Stops of this process, as by SIGSTOP or by a machine that has no time for it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stops(
    seconds: float, meanwhile: Callable[[], object] = lambda: None
) -> Iterator[Callable[[], None]]:
    """Yields what makes the loop stand still for so long, before it looks at the time once more.

    That is where the order matters: its timers go off before it reads what has come. `meanwhile`
    is called when it stops.
    """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)

        def stop() -> None:
            ours.recv(1)
            meanwhile()
            time.sleep(seconds)

        loop.add_reader(ours, stop)
        yield lambda: theirs.sendall(b"x")
        loop.remove_reader(ours)
