"""Compiles native/: the engine beside this file, and what speeds the gateway up beside `core`.

    python -m trunkline.libnative.build [--jobs N] [--sanitize address,undefined] [--out FILE]
        [--machine aarch64]

Standard library only: `hatch_build.py` runs this while the package is being built. A compiler is
what CXX names, else c++, g++ or clang++, else the one in the package `ziglang`. What has not
changed since the last time is not compiled again.

The kernels are compiled once per CPU variant, as native/kernels/VARIANTS says; which of them runs
is chosen when the library is loaded. `--machine` is for a compiler that makes code for another one.

The speedups (native/speedups) are a module of CPython's limited API: one file for every version.
They need the headers of a CPython, and are left out without them.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

from trunkline.libnative.compile import (
    BuildFailed,
    NoCompiler,
    Object,
    Product,
    find_compiler,
    make,
)

__all__ = [
    "LIBRARY",
    "OBJECTS",
    "SOURCES",
    "SPEEDUPS",
    "BuildFailed",
    "NoCompiler",
    "build",
    "build_speedups",
    "find_compiler",
    "find_headers",
    "main",
    "objects",
]

LIBRARY = Path(
    os.environ.get("TRUNKLINE_NATIVE_LIBRARY") or Path(__file__).with_name("trunkline_native.so")
)
SPEEDUPS = Path(__file__).parents[1] / "core" / "_speedups.abi3.so"
SOURCES = Path(__file__).resolve().parents[3] / "native"
# Objects, kept from build to build.
OBJECTS = SOURCES.parent / "build" / "native"
_SPEEDUP_OBJECTS = SOURCES.parent / "build" / "speedups"

# A product and a sum become one operation only where the source says so: else the same row could
# come out differently of two loops, and the same average of C++ and Python.
_FLAGS = (
    *("-std=c++20", "-O3", "-g1", "-fPIC", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-fno-math-errno", "-fno-trapping-math", "-Wall", "-Wextra", "-Werror=return-type"),
)
# Nothing may be thrown through Python; with the kind of each object this needs no C++ library.
_SPEEDUP_FLAGS = ("-fno-exceptions", "-fno-rtti")


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


def find_headers() -> Path | None:
    """The folder of the running Python's headers; None: it has none, or no limited API."""
    folder = Path(sysconfig.get_paths()["include"])
    limited = sys.implementation.name == "cpython" and "t" not in sys.abiflags
    return folder if limited and (folder / "Python.h").is_file() else None


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
    parts = objects(sources, machine)
    product = Product(out, parts, sources, _FLAGS, ("-lpthread",), folder)
    return make(product, jobs=jobs, sanitize=sanitize, machine=machine, say=say)


def build_speedups(
    out: Path = SPEEDUPS,
    *,
    headers: Path,
    sources: Path = SOURCES,
    folder: Path = _SPEEDUP_OBJECTS,
    jobs: int = 0,
    sanitize: str = "",
    say: Callable[[str], None] = lambda _: None,
) -> bool:
    """Make `out` current with the `headers` of a CPython; False: it was.

    Raises `BuildFailed`, OSError. The rest is as for `build`.
    """
    parts = [Object(path, "", ()) for path in sorted((sources / "speedups").glob("*.cpp"))]
    if not parts:
        raise BuildFailed(f"no sources in {sources / 'speedups'}")
    flags = (*_FLAGS, *_SPEEDUP_FLAGS, "-isystem", str(headers))
    # What it takes of Python, the program that loads it has.
    link = ("-Wl,-undefined,dynamic_lookup",) if sys.platform == "darwin" else ()
    machine = platform.machine().lower()
    product = Product(out, parts, sources, flags, link, folder)
    return make(product, jobs=jobs, sanitize=sanitize, machine=machine, say=say)


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
    # Beside any other engine, so that the module in the package is what it was.
    speedups = SPEEDUPS if arguments.out == LIBRARY else arguments.out.with_name(SPEEDUPS.name)
    jobs, sanitize, machine = arguments.jobs, arguments.sanitize, arguments.machine

    def engine() -> None:
        build(arguments.out, jobs=jobs, sanitize=sanitize, machine=machine, say=_say)

    def module() -> None:
        headers = find_headers()
        if machine != platform.machine().lower():
            _say("no speedups: the headers here are not those of a Python for another machine")
        elif headers is None:
            _say("no speedups, Python does their work: this one has no headers (Python.h)")
        else:
            build_speedups(speedups, headers=headers, jobs=jobs, sanitize=sanitize, say=_say)

    products = (
        ("the native engine is", "ggml", arguments.out, engine),
        ("the speedups are", "Python", speedups, module),
    )
    for what, instead, out, work in products:
        try:
            work()
        except (BuildFailed, OSError) as error:
            if not arguments.optional:
                _say(str(error))
                return 1
            _say(f"{what} not built, {instead} is used: {error}")
            if not isinstance(error, NoCompiler):
                # One of older sources, if any, is not what anybody wants to run, or to test.
                out.unlink(missing_ok=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
