"""Kernels of every CPU variant, also of those that this CPU is not: native/check, emulated.

On x86-64 what the CPU lacks is done in software when it traps (native/check/emulate.cpp);
arm64's variants are compiled by a cross compiler and run in qemu, where both are installed.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from trunkline.libnative import build
from trunkline.libnative.library import NativeUnusable, native

CROSS, QEMU = "aarch64-linux-gnu-g++", "qemu-aarch64"
FLAGS = ("-std=c++20", "-O2", "-I", str(build.SOURCES / "include"), "-I", str(build.SOURCES))


def program(compiler: list[str], folder: Path) -> Path:
    """native/check, compiled."""
    out = folder / "check"
    sources = sorted(map(str, (build.SOURCES / "check").glob("*.cpp")))
    # Not with a sanitizer's library in front (scripts/sanitize), which is for what runs.
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [*compiler, *FLAGS, *sources, "-o", str(out), "-ldl"]
    subprocess.run(command, check=True, env=environment)
    return out


def checked(command: list[str]) -> dict[str, str]:
    """What is said of each variant; fails where a check does."""
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=550)
    print(done.stdout, done.stderr, sep="\n")
    assert done.returncode == 0, done.stdout + done.stderr
    return dict(line.split(": ", 1) for line in done.stdout.splitlines() if ": " in line)


def names(machine: str) -> set[str]:
    """The variants of a machine."""
    lines = (build.SOURCES / "kernels" / "VARIANTS").read_text().splitlines()
    return {line.split()[1] for line in lines if line.startswith(f"{machine} ")}


@pytest.fixture(scope="module")
def compiler() -> list[str]:
    """Skipped where there is none, or no library."""
    if not build.LIBRARY.exists():
        pytest.skip("the native library is not built")
    try:
        return build.find_compiler()
    except build.NoCompiler as error:
        pytest.skip(str(error))


@pytest.mark.skipif(sys.platform != "linux", reason="native/check is for Linux")
def test_variants_of_this_machine(compiler: list[str], tmp_path: Path) -> None:
    said = checked([str(program(compiler, tmp_path)), str(build.LIBRARY)])
    assert set(said) == names(platform.machine().lower())
    for name, line in said.items():
        assert "not checked" in line or re.match(r"\d+ checks, 0 failed", line), name
    assert re.match(r"\d+ checks, 0 failed", said["generic"])


CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(
    platform.machine() != "x86_64" or not CPUINFO.exists(), reason="what Linux says of x86 CPUs"
)
def test_what_the_cpu_has_is_used() -> None:
    try:
        cpu = native().cpu
    except NativeUnusable as error:
        pytest.skip(str(error))
    flags = set(CPUINFO.read_text().partition("\nflags")[2].partition("\n")[0].split())
    if "avx512_vnni" in flags:
        assert cpu in ("avx512vnni", "avx512bf16", "amx")
    elif {"avx2", "fma", "f16c"} <= flags:
        assert cpu in ("avx2", "avxvnni")
    else:
        assert cpu == "generic"


@pytest.mark.slow
@pytest.mark.skipif(
    not (shutil.which(CROSS) and shutil.which(QEMU)), reason=f"needs {CROSS} and {QEMU}"
)
def test_variants_of_arm64(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", CROSS)
    library = build.OBJECTS / "aarch64" / "trunkline_native.so"
    build.build(library, machine="aarch64")
    check = program([CROSS], tmp_path)
    run = [QEMU, "-cpu", "max", "-L", "/usr/aarch64-linux-gnu", str(check), str(library)]
    said = checked(run)
    assert set(said) == names("aarch64")
    assert all(re.match(r"\d+ checks, 0 failed", line) for line in said.values())
