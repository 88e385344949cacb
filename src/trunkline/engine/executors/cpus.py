"""Which CPUs an executor may use."""

from __future__ import annotations

import os
from pathlib import Path


def physical_cores() -> int:
    """Physical cores that this process may run on, and a control group's quota allows."""
    return max(1, min(len(core_cpus()), _quota()))


def core_cpus() -> list[int]:
    """One CPU of each physical core that this process may run on."""
    cores: dict[str, int] = {}
    for cpu in _allowed():
        siblings = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
        cores.setdefault(siblings.read_text() if siblings.exists() else str(cpu), cpu)
    return list(cores.values())


def _allowed() -> list[int]:
    # macOS lets nobody choose.
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _quota() -> int:
    """CPUs that the control group's quota amounts to, rounded up; large where there is none."""
    file = Path("/sys/fs/cgroup/cpu.max")
    quota, _, period = (file.read_text() if file.exists() else "max 100000").partition(" ")
    return len(_allowed()) if quota == "max" else -(-int(quota) // int(period))
