"""The front process of one model.

    python -m trunkline.engine.front --socket PATH --config JSON [--lifeline FD]

Listens on the Unix socket PATH for gateway workers, before it loads anything. `--lifeline` is the
reading end of a pipe whose other end the parent holds: when it closes, the front ends. Without it
the kernel ends the front with its parent (Linux). SIGTERM ends it at once; SIGINT is the parent's
to handle. Exit status 1: the model cannot be loaded; the reason is on stderr and was sent to the
gateway.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import stat
import sys
from pathlib import Path

import uvloop

from trunkline.core.errors import TrunklineError
from trunkline.core.supervise import die_with_parent
from trunkline.engine.config import EngineConfig
from trunkline.engine.front.service import Front, decode_config


async def serve(config: EngineConfig, path: Path, lifeline: int | None) -> None:
    """Run a front until it is told to stop. Raises `TrunklineError`, OSError."""
    _private_directory(path.parent)
    loop = asyncio.get_running_loop()
    front = Front(config)
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


def main() -> int:
    """Entry of the process; the return value is its exit status."""
    parser = argparse.ArgumentParser(prog="trunkline-front", description=__doc__)
    parser.add_argument("--socket", type=Path, required=True)
    parser.add_argument("--config", required=True)
    parser.add_argument("--lifeline", type=int)
    arguments = parser.parse_args()
    if arguments.lifeline is None:
        die_with_parent(os.getppid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    logging.basicConfig(level=os.environ.get("TRUNKLINE_LOG_LEVEL", "WARNING"))
    try:
        config = decode_config(arguments.config)
        uvloop.run(serve(config, arguments.socket, arguments.lifeline))
    except TrunklineError as error:
        sys.stderr.write(f"trunkline: {error.message}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"trunkline: {error}\n")
        return 1
    finally:
        arguments.socket.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
