"""Children of this process that tests kill."""

from __future__ import annotations

import asyncio
import os
import signal


async def killed(pid: int) -> None:
    """Kill a child of the loop, and wait until the loop knows that it has ended."""
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(30):
        # The loop collects it when it hears of its end.
        while _there(pid):  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.005)
    # Who waits for it is told a turn or two later.
    for _ in range(5):
        await asyncio.sleep(0)


def _there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
