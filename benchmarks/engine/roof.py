"""What this machine can do at most, measured just before the servers run."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

_PROGRAM = Path(__file__).with_name("roof.c")
# Seconds; it takes about three.
_BOUND = 120.0


def measure(threads: int, directory: Path) -> dict[str, float]:
    """`int8_gops` (0 where the CPU has no such instruction) and `read_gbs` of `threads` threads.

    Compiles `roof.c` into `directory`; empty where that is impossible here.
    """
    program = directory / "roof"
    flags = ["-O3", "-march=native", "-pthread"]
    try:
        subprocess.run(["cc", *flags, "-o", program, _PROGRAM], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"no roof: {_PROGRAM.name} could not be compiled: {error}", flush=True)
        return {}
    told = subprocess.run(
        [program, str(threads)], check=True, capture_output=True, timeout=_BOUND
    ).stdout
    figures: dict[str, float] = json.loads(told)
    return figures
