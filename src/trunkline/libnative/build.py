"""Compiles native/ into one shared object beside this file.

    python -m trunkline.libnative.build [--jobs N] [--sanitize address,undefined] [--out FILE]
        [--machine aarch64]

Standard library only: `hatch_build.py` runs this while the package is being built. A compiler is
what CXX names, else c++, g++ or clang++, else the one in the package `ziglang`. What has not
changed since the last time is not compiled again.

The kernels are compiled once per CPU variant, as native/kernels/VARIANTS says; which of them runs
is chosen when the library is loaded. `--machine` is for a compiler that makes code for another one.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

LIBRARY = Path(
    os.environ.get("TRUNKLINE_NATIVE_LIBRARY") or Path(__file__).with_name("trunkline_native.so")
)
SOURCES = Path(__file__).resolve().parents[3] / "native"
# Objects, kept from build to build.
OBJECTS = SOURCES.parent / "build" / "native"

# A product and a sum become one operation only where the source says so: else the same row could
# come out differently of two loops.
_FLAGS = (
    *("-std=c++20", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Werror=return-type"),
)


_INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.MULTILINE)


class BuildFailed(Exception):
    """There is no compiler, or it refuses; the message holds its words."""


class NoCompiler(BuildFailed):
    """None that speaks C++20."""


class Object(NamedTuple):
    """One file, compiled one way."""

    source: Path
    variant: str
    flags: tuple[str, ...]


def find_compiler() -> list[str]:
    """The command of a C++20 compiler. Raises `BuildFailed`."""
    tried: list[list[str]] = []
    if os.environ.get("CXX"):
        tried.append(shlex.split(os.environ["CXX"]))
    else:
        tried += [[path] for name in ("c++", "g++", "clang++") if (path := shutil.which(name))]
        if importlib.util.find_spec("ziglang"):
            tried.append([sys.executable, "-m", "ziglang", "c++"])
    for command in tried:
        if _speaks_cpp20(command):
            return command
    raise NoCompiler(
        "there is no C++20 compiler: install g++ or clang++, or the Python package ziglang"
    )


def _speaks_cpp20(command: Sequence[str]) -> bool:
    # Waiting for atomics came with GCC 11 and clang 12, which know all instructions we use as well.
    text = "#include <atomic>\n#include <bit>\n#include <thread>\nstd::atomic<int> number{0};\n"
    text += "int main() { number.wait(1); return 0; }\n"
    with tempfile.TemporaryDirectory() as folder:
        # An object, not -fsyntax-only: for that zig makes its whole C++ library first.
        source = Path(folder, "probe.cpp")
        source.write_text(text)
        arguments = [*command, "-std=c++20", "-c", str(source), "-o", f"{source}.o"]
        try:
            done = subprocess.run(arguments, capture_output=True, check=False)
        except OSError:
            return False
    return done.returncode == 0


def objects(sources: Path, machine: str) -> list[Object]:
    """All that is compiled for `machine`, what takes longest first."""
    kernels = sources / "kernels"
    found: list[Object] = []
    for line in (kernels / "VARIANTS").read_text().splitlines():
        for_machine, *words = line.split()
        if for_machine == machine:
            name, *flags = words
            own = kernels / f"variant_{name}.cpp"
            source = own if own.exists() else kernels / "variant.cpp"
            found.append(Object(source, name, (*flags, f"-DTL_ISA={name}")))
    plain = sorted([*(sources / "engine").glob("*.cpp"), *kernels.glob("*.cpp")])
    found += [Object(path, "", ()) for path in plain if not path.name.startswith("variant")]
    return found


def with_headers(source: Path, sources: Path) -> list[Path]:
    """`source` and all of our own files that it includes, directly or not."""
    found: dict[Path, None] = {source: None}
    queue = [source]
    while queue:
        path = queue.pop()
        for name in _INCLUDE.findall(path.read_text()):
            for folder in (path.parent, sources / "include", sources):
                if (folder / name).is_file() and folder / name not in found:
                    found[folder / name] = None
                    queue.append(folder / name)
    return [source, *sorted(set(found) - {source})]


def build(
    out: Path = LIBRARY,
    *,
    sources: Path = SOURCES,
    folder: Path = OBJECTS,
    jobs: int = 0,
    sanitize: str = "",
    machine: str = platform.machine().lower(),
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make `out` current; False: it was. Raises `BuildFailed`, OSError.

    `sanitize`: what -fsanitize= gets. `jobs`: compilers at a time, 0 = one per CPU. `machine`: as
    platform.machine() has it, in lower case.
    """
    if not sources.is_dir():
        raise BuildFailed(
            f"no sources in {sources}: an installed package got its engine when it was built "
            "(from source: TRUNKLINE_NATIVE=require pip install --no-binary trunkline trunkline)"
        )
    command = find_compiler()
    flags = (*_FLAGS, "-I", str(sources / "include"), "-I", str(sources))
    # The last -O counts, also against those in VARIANTS.
    last: tuple[str, ...] = ()
    if sanitize:
        last = ("-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
        last += (f"-fsanitize={sanitize}",)
    shared = hashlib.sha256("\0".join([_version(command), machine, *flags, *last]).encode())
    folder = folder / "-".join([machine, *sanitize.split(",")] if sanitize else [machine])
    folder.mkdir(parents=True, exist_ok=True)
    work: list[tuple[list[str], Path]] = []
    made: list[Path] = []
    for one in objects(sources, machine):
        key = shared.copy()
        key.update("\0".join(one.flags).encode())
        for path in with_headers(one.source, sources):
            key.update(path.read_bytes())
        name = f"{one.source.parent.name}-{one.source.stem}-{one.variant or 'once'}"
        target = folder / f"{name}-{key.hexdigest()[:16]}.o"
        made.append(target)
        if not target.exists():
            work.append(([*command, *flags, *one.flags, *last, "-c", str(one.source)], target))
    stamp = folder / f"{out.name}.stamp"
    mark = "\n".join([str(out), *map(str, made)])
    if not work and out.exists() and stamp.exists() and stamp.read_text() == mark:
        return False
    say(f"compiling {len(work)} of {len(made)} files with {shlex.join(command)}")
    with ThreadPoolExecutor(jobs or os.cpu_count() or 1) as pool:
        list(pool.map(lambda item: _make(*item), work))
    _link(command, made, out, sanitize)
    stamp.write_text(mark)
    for old in set(folder.glob("*.o")) - set(made):
        old.unlink(missing_ok=True)
    return True


def _link(command: Sequence[str], made: Sequence[Path], out: Path, sanitize: str) -> None:
    # Its own C++ library: what the machine has may be older than what it was compiled with.
    static = (
        ()
        if sanitize or sys.platform == "darwin" or "ziglang" in command
        else (
            "-static-libstdc++",
            "-static-libgcc",
        )
    )
    more = (f"-fsanitize={sanitize}",) if sanitize else ()
    out.parent.mkdir(parents=True, exist_ok=True)
    _make([*command, "-shared", *static, *more, *map(str, made), "-lpthread"], out)


def _make(arguments: Sequence[str], target: Path) -> None:
    """Run a compiler that writes `target`, which is there whole or not at all."""
    partial = target.with_name(f"{target.name}.{os.getpid()}")
    done = subprocess.run(
        [*arguments, "-o", str(partial)], capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        partial.unlink(missing_ok=True)
        raise BuildFailed(f"{shlex.join(arguments)}:\n{done.stderr.strip()}")
    partial.replace(target)
    if done.stderr.strip():
        sys.stderr.write(done.stderr)


def _version(command: Sequence[str]) -> str:
    return subprocess.run(
        [*command, "--version"], capture_output=True, text=True, check=True
    ).stdout


def _say(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the module."""
    parser = argparse.ArgumentParser(prog="trunkline.libnative.build", description=__doc__)
    parser.add_argument("--jobs", type=int, default=0)
    parser.add_argument("--sanitize", default="")
    parser.add_argument("--machine", default=platform.machine().lower())
    parser.add_argument("--out", type=Path, default=LIBRARY)
    parser.add_argument(
        "--optional", action="store_true", help="what cannot be built is done without"
    )
    arguments = parser.parse_args(argv)
    try:
        build(
            arguments.out,
            jobs=arguments.jobs,
            sanitize=arguments.sanitize,
            machine=arguments.machine,
            say=_say,
        )
    except (BuildFailed, OSError) as error:
        if not arguments.optional:
            _say(str(error))
            return 1
        _say(f"the native engine is not built, ggml is used: {error}")
        if not isinstance(error, NoCompiler):
            # One of older sources, if any, is not what anybody wants to run, or to test.
            arguments.out.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
