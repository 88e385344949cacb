"""C++ files into a shared object: what has not changed since the last time is not compiled again.

Standard library only, as `build`, which says what is made of what.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
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


class Product(NamedTuple):
    """A shared object, and what it is made of."""

    out: Path
    objects: Sequence[Object]
    # Where includes are looked for, after the folder of the file that has them: its own, "include".
    sources: Path
    # Of the compiler, for every file; and of the linker, behind the objects.
    flags: tuple[str, ...]
    link: tuple[str, ...]
    # Keeps the objects of this product alone.
    folder: Path


def make(
    product: Product, *, jobs: int, sanitize: str, machine: str, say: Callable[[str], None]
) -> bool:
    """Make `product` current; False: it was. Raises `BuildFailed`, OSError."""
    out, sources = product.out, product.sources
    command = find_compiler()
    flags = (*product.flags, "-I", str(sources / "include"), "-I", str(sources))
    # The last -O counts, also against those of single objects.
    last: tuple[str, ...] = ()
    if sanitize:
        last = ("-O1", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
        last += (f"-fsanitize={sanitize}",)
    shared = hashlib.sha256("\0".join([_version(command), machine, *flags, *last]).encode())
    folder = product.folder / "-".join([machine, *sanitize.split(",")] if sanitize else [machine])
    folder.mkdir(parents=True, exist_ok=True)
    work: list[tuple[list[str], Path]] = []
    made: list[Path] = []
    for one in product.objects:
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
        list(pool.map(lambda item: _run(*item), work))
    _link(command, made, product, sanitize)
    stamp.write_text(mark)
    for old in set(folder.glob("*.o")) - set(made):
        old.unlink(missing_ok=True)
    return True


def _link(command: Sequence[str], made: Sequence[Path], product: Product, sanitize: str) -> None:
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
    product.out.parent.mkdir(parents=True, exist_ok=True)
    _run([*command, "-shared", *static, *more, *map(str, made), *product.link], product.out)


def _run(arguments: Sequence[str], target: Path) -> None:
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
