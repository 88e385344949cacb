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
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

import msgspec

from trunkline.core.aside import aside
from trunkline.server.file.config import Loaded
from trunkline.server.file.problems import FileError

log = logging.getLogger("trunkline.config")

INTERVAL = 1.0
# Seconds within which files can be read, unless what holds them hangs.
MOST = 30.0

# Calls that hang, before no further ones are made.
_MOST_HANGING = 8

_T = TypeVar("_T")
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


class _Hangs(Exception):
    """A call has not returned in time; `over` tells when it has."""

    def __init__(self, over: Callable[[], bool]) -> None:
        super().__init__()
        self.over = over


class _Bounded:
    """Calls that may hang, as on a pipe without a writer or on a network disk that is gone.

    Nobody waits for them at the end of the process.
    """

    def __init__(self, most: float) -> None:
        self._most = most
        self._hanging: list[Future[Any]] = []

    async def result(self, call: Callable[[], _T]) -> _T:
        """What `call` returns or raises. Raises `_Hangs`."""
        self._hanging = [one for one in self._hanging if not one.done()]
        if len(self._hanging) == _MOST_HANGING:
            raise _Hangs(self._hanging[-1].done)
        made = aside(call, "watch")
        try:
            async with asyncio.timeout(self._most):
                return await asyncio.wrap_future(made)
        except TimeoutError as error:
            if made.done():
                # Just in time after all; or this is what it raised itself.
                return made.result()
            self._hanging.append(made)
            raise _Hangs(made.done) from error


def changes(
    in_force: InForce,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float = INTERVAL,
    most: float = MOST,
) -> AsyncGenerator[Loaded, None]:
    """Each configuration that is not in force: when `asked` is set, or when a file has changed
    since this call.

    Ends only by being cancelled. A file with errors is logged, with its lines, and yields nothing:
    what holds goes on holding; so does one that cannot be read within `most` seconds. A file is
    read once it has been the same for one interval, so that none is read half written.
    """
    bounded = _Bounded(most)
    return _changes(in_force, stamp(in_force.loaded.files), reload, asked, interval, bounded)


async def _changes(
    in_force: InForce,
    read: _Stamp,
    reload: Callable[[], Loaded],
    asked: asyncio.Event,
    interval: float,
    bounded: _Bounded,
) -> AsyncGenerator[Loaded, None]:
    files = in_force.loaded.files
    # A version that could not be read in time, and whether its reader has come back.
    hanging: _Stamp | None = None
    over: Callable[[], bool] = bool
    while True:
        hurried = await _wait(asked, interval)
        now = await _look(bounded, files)
        if not hurried and (now == read or None in now):
            # A file that is gone is between two versions; without it nothing changes.
            continue
        if not hurried:
            await _wait(asked, interval)
            if await _look(bounded, files) != now:
                continue
        if now == hanging and not over():
            continue
        try:
            fresh = await _read(bounded, reload)
        except _Hangs as error:
            if now != hanging:
                log.error("the configuration stays as it was: what it is read from hangs")
            hanging, over = now, error.over
            continue
        read = now
        if fresh is None:
            continue
        if fresh.files != files:
            files = fresh.files
            read = await _look(bounded, files)
        if fresh.config == in_force.loaded.config:
            log.info("%s: nothing has changed", fresh.path)
            continue
        yield fresh


async def _look(bounded: _Bounded, files: Sequence[str]) -> _Stamp:
    """`stamp`; a file that nobody can look at is not there."""
    try:
        return await bounded.result(partial(stamp, files))
    except _Hangs:
        return (None,) * len(files)


async def _read(bounded: _Bounded, reload: Callable[[], Loaded]) -> Loaded | None:
    try:
        return await bounded.result(reload)
    except _Hangs:
        raise
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
