"""A process and its parent. Apart from `supervise`: most children need no asyncio."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

# From <sys/prctl.h>.
_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when `parent` dies (Linux); call early in a child.

    Elsewhere the end of the pipe or socket to the parent has to do.
    """
    if sys.platform != "linux":
        return
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        raise SystemExit("the parent process is gone")
