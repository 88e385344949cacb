"""A container image made of what is on this machine: Python, our package and what it needs.

No registry is asked. Files keep the paths that they have here, so that the interpreter of the tests
is the one in the image; `/usr/bin/trunkline` is our server there, and `/app/llama-server`, the
entry point of llama.cpp's image, runs llama.cpp's own server out of the wheel `xllamacpp`.
"""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Iterator, Sequence
from importlib import metadata
from pathlib import Path
from typing import IO

import trunkline

# Of the standard library, what no server needs.
_WITHOUT = frozenset(
    ("site-packages", "test", "tests", "idlelib", "ensurepip", "tkinter", "lib2to3", "turtledemo")
)
_FOLDERS = ("dev", "etc", "proc", "run", "sys", "tmp")
_LLAMA_SERVER = """
import argparse, os, signal, threading
import xllamacpp

parser = argparse.ArgumentParser()
parser.add_argument("--model", required=True)
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--ctx-size", type=int, default=1024)
parser.add_argument("--metrics", action="store_true")
options = parser.parse_args()
params = xllamacpp.CommonParams()
params.model.path, params.hostnames, params.port = options.model, [options.host], options.port
params.n_ctx, params.n_parallel, params.warmup = options.ctx_size, 1, False
params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
params.endpoint_metrics = options.metrics
if key := os.environ.get("LLAMA_API_KEY"):
    params.api_keys = [key]
done = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: done.set())
server = xllamacpp.Server(params)
print("llama-server listens", flush=True)
done.wait()
print("llama-server was told to end", flush=True)
os._exit(0)
"""


def write_image(output: IO[bytes]) -> None:
    """Write the root file system as a tar."""
    files = {*_interpreter(), *_standard_library(), *_packages()}
    files |= set(_libraries([path for path in files if _is_binary(path)]))
    with tarfile.open(fileobj=output, mode="w|") as tar:
        for folder in _FOLDERS:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o777
            tar.addfile(entry)
        for path in sorted(files):
            tar.add(path, recursive=False)
        source = str(Path(trunkline.__file__).parents[1])
        _add(tar, f"{sysconfig.get_path('purelib')}/of-the-image.pth", f"{source}\n", 0o644)
        main = "import sys\nfrom trunkline.cli.main import main\nsys.exit(main())\n"
        _add(tar, "/usr/bin/trunkline", f"#!{sys.executable}\n{main}", 0o755)
        _add(tar, "/app/llama-server", f"#!{sys.executable}\n{_LLAMA_SERVER}", 0o755)


def _add(tar: tarfile.TarFile, name: str, text: str, mode: int) -> None:
    entry = tarfile.TarInfo(name.lstrip("/"))
    entry.size, entry.mode = len(text), mode
    tar.addfile(entry, io.BytesIO(text.encode()))


def _interpreter() -> Iterator[Path]:
    """The program, with all links on the way to it, and what makes it that of an environment."""
    path = Path(sys.executable)
    while path.is_symlink():
        yield path
        path = path.parent / path.readlink()
    yield path
    configuration = Path(sys.prefix) / "pyvenv.cfg"
    if configuration.exists():
        yield configuration


def _standard_library() -> Iterator[Path]:
    root = Path(sysconfig.get_path("stdlib"))
    for folder, folders, names in os.walk(root):
        folders[:] = [name for name in folders if name not in _WITHOUT and "config-" not in name]
        yield from (Path(folder, name) for name in names)


def _packages() -> Iterator[Path]:
    """Our package and all that it needs, as installed here."""
    for path in Path(trunkline.__file__).parent.rglob("*"):
        if path.is_file():
            yield path
    queue, found = _needs("trunkline"), set[str]()
    while queue:
        name = queue.pop()
        if name in found:
            continue
        found.add(name)
        for file in metadata.distribution(name).files or ():
            path = Path(os.path.normpath(str(file.locate())))
            if path.is_file() and not _WITHOUT.intersection(file.parts):
                yield path
        queue += _needs(name)


def _needs(name: str) -> list[str]:
    """What is installed of what a distribution requires."""
    try:
        requirements = metadata.distribution(name).requires or []
    except metadata.PackageNotFoundError:
        # Run from its sources.
        requirements = _declared()
    found = []
    for text in requirements:
        match = re.match(r"[A-Za-z0-9._-]+", text)
        if match is not None and "extra ==" not in text and _is_installed(match[0]):
            found.append(match[0])
    return found


def _declared() -> list[str]:
    import tomllib

    project = Path(__file__).parents[2] / "pyproject.toml"
    requirements: list[str] = tomllib.loads(project.read_text())["project"]["dependencies"]
    return requirements


def _is_installed(name: str) -> bool:
    try:
        metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _is_binary(path: Path) -> bool:
    return ".so" in path.name or path == Path(sys.executable).resolve()


def _libraries(binaries: Sequence[Path]) -> Iterator[Path]:
    """Shared libraries that they need, the loader among them; links with what they lead to."""
    command = ["ldd", *map(str, binaries)]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    for name in set(re.findall(r"(?:=> |^\s+)(/\S+) \(0x", listed, re.MULTILINE)):
        yield Path(name).parent.resolve() / Path(name).name
        yield Path(name).resolve()
    # "/lib64" is a part of the loader's name in each program, and often a link.
    yield from (path for path in (Path("/lib"), Path("/lib64")) if path.is_symlink())
