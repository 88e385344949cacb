"""A front on its socket and its event loop."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
from pathlib import Path

import uvloop

from trunkline.engine.config import EngineConfig
from trunkline.engine.front.model_file import Reading
from trunkline.engine.front.service import Front


def run(config: EngineConfig, reading: Reading, path: Path, lifeline: int | None) -> None:
    """Listen on the socket `path` and serve until told to stop. Raises `TrunklineError`, OSError.

    `lifeline`: when this pipe closes, the front ends.
    """
    uvloop.run(_serve(config, reading, path, lifeline))


async def _serve(config: EngineConfig, reading: Reading, path: Path, lifeline: int | None) -> None:
    _private_directory(path.parent)
    loop = asyncio.get_running_loop()
    front = Front(config, reading=reading)
    server = await loop.create_unix_server(front.connection, str(path), backlog=128)
    loop.add_signal_handler(signal.SIGTERM, front.stop, 0.0)
    if lifeline is not None:
        loop.add_reader(lifeline, _parent_gone, loop, front, lifeline)
    try:
        await front.run()
    finally:
        server.close()


def _parent_gone(loop: asyncio.AbstractEventLoop, front: Front, lifeline: int) -> None:
    if not os.read(lifeline, 64):
        loop.remove_reader(lifeline)
        front.stop(0.0)


def _private_directory(directory: Path) -> None:
    """Whoever can reach the socket can use the model: the directory is for this user alone."""
    directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = directory.stat()
    if found.st_uid != os.getuid() or stat.S_IMODE(found.st_mode) & 0o077:
        raise PermissionError(f"{directory} must belong to this user and have mode 0700")
