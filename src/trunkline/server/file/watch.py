"""Notices that configuration files have changed.

A change is another inode, size or time of modification behind the path, with links followed: that
is what an editor's save, `mv`, and the swapped `..data` link of a Kubernetes ConfigMap have in
common. Polling sees all of them, on every file system.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence

from trunkline.server.file.config import Loaded
from trunkline.server.file.problems import FileError

log = logging.getLogger("trunkline.config")

INTERVAL = 1.0

# None for a file that is not there.
_Stamp = tuple[tuple[int, int, int, int] | None, ...]


def stamp(files: Sequence[str]) -> _Stamp:
    """What tells one version of the files from another."""
    return tuple(map(_stamp, files))


def _stamp(file: str) -> tuple[int, int, int, int] | None:
    try:
        found = os.stat(file)
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def changes(
    loaded: Loaded,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float = INTERVAL,
) -> AsyncGenerator[Loaded, None]:
    """Each new configuration: when `asked` is set, or when a file has changed since this call.

    Ends only by being cancelled. A file with errors is logged, with its lines, and yields nothing:
    what holds goes on holding. A file is read once it has been the same for one interval, so that
    none is read half written.
    """
    return _changes(loaded, stamp(loaded.files), reload, asked, interval)


async def _changes(
    current: Loaded,
    read: _Stamp,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float,
) -> AsyncGenerator[Loaded, None]:
    files = current.files
    while True:
        hurried = await _wait(asked, interval)
        now = await asyncio.to_thread(stamp, files)
        if not hurried and (now == read or None in now):
            # A file that is gone is between two versions; without it nothing changes.
            continue
        if not hurried:
            await _wait(asked, interval)
            if await asyncio.to_thread(stamp, files) != now:
                continue
        read = now
        fresh = await _read(reload)
        if fresh is None:
            continue
        if fresh.files != files:
            files = fresh.files
            read = await asyncio.to_thread(stamp, files)
        if fresh.config == current.config:
            log.info("%s: nothing has changed", fresh.path)
            continue
        current = fresh
        yield fresh


async def _read(reload: Callable[[], Loaded]) -> Loaded | None:
    try:
        return await asyncio.to_thread(reload)
    except FileError as error:
        log.error("the configuration stays as it was:\n%s", error.message)
        return None


async def _wait(asked: asyncio.Event, seconds: float) -> bool:
    """Wait for `asked`, at most so long. True, and cleared, when it was set."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await asked.wait()
    was_set = asked.is_set()
    asked.clear()
    return was_set


@contextlib.contextmanager
def hangups() -> Iterator[asyncio.Event]:
    """An event that SIGHUP sets; within this it ends no process."""
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()
    loop.add_signal_handler(signal.SIGHUP, asked.set)
    try:
        yield asked
    finally:
        loop.remove_signal_handler(signal.SIGHUP)
