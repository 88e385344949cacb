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

import msgspec

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


class InForce(msgspec.Struct):
    """The configuration that is served; whoever serves another one puts it here."""

    loaded: Loaded


def changes(
    in_force: InForce,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float = INTERVAL,
) -> AsyncGenerator[Loaded, None]:
    """Each configuration that is not in force: when `asked` is set, or when a file has changed
    since this call.

    Ends only by being cancelled. A file with errors is logged, with its lines, and yields nothing:
    what holds goes on holding. A file is read once it has been the same for one interval, so that
    none is read half written.
    """
    return _changes(in_force, stamp(in_force.loaded.files), reload, asked, interval)


async def _changes(
    in_force: InForce,
    read: _Stamp,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float,
) -> AsyncGenerator[Loaded, None]:
    files = in_force.loaded.files
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
        if fresh.config == in_force.loaded.config:
            log.info("%s: nothing has changed", fresh.path)
            continue
        yield fresh


async def _read(reload: Callable[[], Loaded]) -> Loaded | None:
    try:
        return await asyncio.to_thread(reload)
    except FileError as error:
        log.error("the configuration stays as it was:\n%s", error.message)
    except Exception:  # what is wrong in a file must not end that the next one is read
        log.exception("the configuration stays as it was")
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
