"""What processes and the machine spend, from /proc: processor time and memory."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import NamedTuple

_TICK = os.sysconf("SC_CLK_TCK")


def tree(root: int) -> list[int]:
    """The process `root` and all below it."""
    below: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        # A process may end while it is looked at.
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            below.setdefault(parent, []).append(int(folder.name))
    found = [root]
    for one in found:
        found += below.get(one, [])
    return found


def processor_seconds(root: int) -> float:
    """Time on a processor of `root` and all below it so far, less that of threads that have ended.

    To the nanosecond, as ticks of 10 ms say little of work in pieces of microseconds; where the
    kernel does not tell, of ticks.
    """
    seconds = 0.0
    for one in tree(root):
        with contextlib.suppress(OSError):
            seconds += _on_processor(one)
    return seconds


def _on_processor(one: int) -> float:
    nanoseconds = 0
    # sched-stats.rst of the kernel: "time spent on the cpu (in nanoseconds)" comes first.
    for thread in Path(f"/proc/{one}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):
            nanoseconds += int(thread.read_text().split()[0])
    if nanoseconds:
        return nanoseconds / 1e9
    fields = Path(f"/proc/{one}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def memory(root: int) -> dict[str, float]:
    """Of `root` and all below it: MiB resident, MiB with shared pages divided, processes."""
    resident = proportional = processes = 0
    for one in tree(root):
        with contextlib.suppress(OSError):
            rows = dict(
                line.split(":", 1)
                for line in Path(f"/proc/{one}/smaps_rollup").read_text().splitlines()[1:]
            )
            resident += int(rows["Rss"].split()[0])
            proportional += int(rows["Pss"].split()[0])
            processes += 1
    return {
        "rss_mib": round(resident / 1024, 1),
        "pss_mib": round(proportional / 1024, 1),
        "processes": processes,
    }


class Machine(NamedTuple):
    """Seconds of all processors since the machine started."""

    # Spent by processes, whoever's.
    busy: float
    # Taken by the host of a virtual machine.
    stolen: float

    @classmethod
    def now(cls) -> Machine:
        """Read /proc/stat."""
        together = Path("/proc/stat").read_text().split("\n", 1)[0]
        fields = [int(text) for text in together.split()[1:]]
        return cls(sum(fields[:3]) / _TICK, fields[7] / _TICK)
