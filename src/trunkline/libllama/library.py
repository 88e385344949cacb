"""Finds, checks and loads libllama: the shared object inside the `xllamacpp` wheel.

The wheel offers no low-level Python API, but its shared object exports llama.cpp's C functions.
Nothing there says whether struct layouts match ours, so three checks come before the first use: the
file's sha256 is one that was tested, every function is there, and the defaults of each parameter
struct read back as expected.
"""

from __future__ import annotations

import ctypes as c
import functools
import hashlib
import importlib.util
import logging
import os
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from trunkline.core.paths import state_folder
from trunkline.libllama.api import bind
from trunkline.libllama.structs import (
    Batch,
    ContextParams,
    LogCallback,
    ModelParams,
    SamplerChainParams,
)

log = logging.getLogger("trunkline.libllama")


class LibraryUnusable(Exception):
    """libllama is absent, untested or not what it should be; the message says what to do."""


class Tested(msgspec.Struct, frozen=True):
    """A shared object of the pinned release."""

    sha256: str
    # Version of the xllamacpp wheel.
    version: str
    # And its platform; where not the whole test suite has run against it, what has been seen of it.
    platform: str


TESTED: tuple[Tested, ...] = (
    Tested(
        "78dcbbfcc861ee3377554325dc12864829a76ec3de6f1882886d4a82a2def7f5",
        "2026.10.11549",
        "linux x86-64 (manylinux2014, CPU)",
    ),
    Tested(
        "d217f8da7094890dffa84ce3be7c88fa021e6e6e54f64f49d165df886ec62ed8",
        "2026.10.11549",
        "linux arm64 (manylinux2014, CPU; in qemu: struct defaults, vocabularies)",
    ),
    Tested(
        "9e7a0d4d692fe590a7562109f90f57835fcd324c2b6ec0b5251a34860cbf80d4",
        "2026.10.11549",
        "macOS arm64 (functions only: not run yet)",
    ),
    Tested(
        "4d85a9cddd28e01c8c17fbd6783d2179cfb9fced0a0cc11b873fc9eb3384671d",
        "2026.10.11549",
        "macOS x86-64 (functions only: not run yet)",
    ),
)

# ggml_log_level
_WARN, _ERROR, _CONT = 3, 4, 5
# Warnings of what we do on purpose: a KV pool above or below the trained context (the limit holds
# per request), and sliding-window caches in full size (prefixes stay reusable).
_NORMAL = (
    "training context overflow",
    "full capacity of the model will not be utilized",
    "using full-size SWA cache",
)


class _Struct(Protocol):
    SIZE: int
    DEFAULTS: dict[str, int | float]
    _fields_: Sequence[tuple[str, object]]


class Library:
    """libllama, loaded and checked. `call` has the functions of `api.PROTOTYPES`.

    One per process (`library`): the log callback is global to the shared object.
    """

    def __init__(self, path: Path) -> None:
        try:
            self.call = c.CDLL(str(path))
        except OSError as error:
            raise LibraryUnusable(
                f"{path} cannot be loaded: {error}. It needs a CPU with AVX2 and the system "
                "library libgomp (Debian, Ubuntu: apt-get install libgomp1)."
            ) from error
        self.path = path
        self._recent: deque[str] = deque(maxlen=8)
        self._level = 0
        self._callback = LogCallback(self._on_log)
        if missing := bind(self.call):
            raise LibraryUnusable(
                f"{path} does not export {', '.join(missing)}. {_how_to_install()}"
            )
        check_structs(self.call)
        self.call.llama_log_set(self._callback, None)
        self.call.llama_backend_init()

    def take_errors(self) -> str:
        """The last warnings and errors since the previous call, for the reason of a failure."""
        text = "; ".join(self._recent)
        self._recent.clear()
        return text

    def _on_log(self, level: int, text: bytes, _data: object) -> None:
        if level == _CONT:
            level = self._level
        self._level = level
        line = text.decode(errors="replace").strip()
        if level not in (_WARN, _ERROR) or not line:
            return
        if any(normal in line for normal in _NORMAL):
            log.debug("%s", line)
            return
        self._recent.append(line)
        log.log(logging.ERROR if level == _ERROR else logging.WARNING, "%s", line)


def check_structs(call: c.CDLL) -> None:
    """Compare sizes and defaults of the parameter structs. Raises `LibraryUnusable`."""
    for kind in (ModelParams, ContextParams, SamplerChainParams, Batch):
        if c.sizeof(kind) != kind.SIZE:
            raise LibraryUnusable(f"{kind.__name__} has {c.sizeof(kind)} bytes, not {kind.SIZE}")
    for defaults in (
        call.llama_model_default_params(),
        call.llama_context_default_params(),
        call.llama_sampler_chain_default_params(),
    ):
        wrong = _differences(defaults)
        if wrong:
            raise LibraryUnusable(
                f"libllama's {type(defaults).__name__} defaults are not those of the tested "
                f"build: {wrong}. {_how_to_install()}"
            )


def _differences(struct: _Struct) -> str:
    wrong = []
    for name, *_ in struct._fields_:
        value = getattr(struct, name)
        if callable(value):
            value = int(bool(value))
        expected = struct.DEFAULTS.get(name, 0)
        if (value or 0) != expected:
            wrong.append(f"{name} is {value}, not {expected}")
    return ", ".join(wrong)


def _how_to_install() -> str:
    tested = "; ".join(f"{t.version} for {t.platform}" for t in TESTED)
    version = TESTED[0].version
    return f"Tested are: {tested}. Install with: pip install xllamacpp=={version}"


def locate() -> Path:
    """Path of the shared object in the installed wheel, without importing it."""
    spec = importlib.util.find_spec("xllamacpp")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for path in sorted(Path(folder).glob("xllamacpp*.so")):
            return path
    raise LibraryUnusable(f"The package xllamacpp is not installed. {_how_to_install()}")


def verify(path: Path, stamp: Path | None = None) -> Tested:
    """The entry of `TESTED` that `path` is. Raises `LibraryUnusable`.

    Hashing 106 MB takes 0.06 s with SHA instructions and 0.3 s without. With `stamp`, a file that
    this function writes, an unchanged `path` (size, time, inode) is not hashed again.
    """
    info = path.stat()
    mark = f"{path} {info.st_size} {info.st_mtime_ns} {info.st_ino} "
    known = _read_stamp(stamp, mark)
    for tested in TESTED:
        if tested.sha256 == known:
            return tested
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    for tested in TESTED:
        if tested.sha256 == found:
            _write_stamp(stamp, mark + found)
            return tested
    raise LibraryUnusable(f"{path} (sha256 {found}) is not a tested build. {_how_to_install()}")


def _read_stamp(stamp: Path | None, mark: str) -> str:
    try:
        text = stamp.read_text() if stamp else ""
    except OSError:
        return ""
    return text.removeprefix(mark) if text.startswith(mark) else ""


def _write_stamp(stamp: Path | None, text: str) -> None:
    if stamp is None:
        return
    try:
        stamp.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        partial = stamp.with_name(f"{stamp.name}.{os.getpid()}")
        partial.write_text(text)
        partial.replace(stamp)
    except OSError as error:
        log.debug("no stamp: %s", error)


def default_stamp() -> Path:
    """Where the stamp lives: in the folder of all state."""
    return state_folder(os.environ) / "libllama.stamp"


@functools.cache
def library() -> Library:
    """This process's libllama. Raises `LibraryUnusable`."""
    path = locate()
    verify(path, default_stamp())
    return Library(path)
