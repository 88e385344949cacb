"""Folders of safetensors, as models are published, become GGUF files in a cache on disk.

What is converted once is used from then on, until the folder's files change.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from trunkline.core.errors import InvalidRequest
from trunkline.formats.gguf_writer import Value, write_gguf
from trunkline.formats.safetensors import MalformedSafetensors, read_folder
from trunkline.store.convert.hyper import hyperparameters, text_config
from trunkline.store.convert.tensors import new_tensors
from trunkline.store.convert.vocabulary import read_json, vocabulary

# Counts up when the same folder gives another file than before.
_VERSION = 1
_READ = ("*.safetensors", "*.json", "*.jinja", "tokenizer.model")
# llama.h's llama_ftype, for what people are told.
_FILE_TYPES = {"q8_0": 7, "q4_k": 15}
_KEPT = {"F32": 0, "F16": 1, "BF16": 32}
# Seconds without a change after which a file that was not finished is nobody's.
_HALF_AGE = 3600.0
# What comes of values that are of another type, out of range, or nested without end.
_NOT_EXPECTED = (
    *(LookupError, TypeError, ValueError, AttributeError, ArithmeticError),
    *(RecursionError, struct.error),
)


def ensure_gguf(
    folder: Path,
    kind: str,
    cache: Path,
    on_progress: Callable[[float], None] = lambda _: None,
) -> Path:
    """The GGUF file of the model in `folder`, matrices in type `kind`: "keep", "q8_0" or "q4_k".

    Made where it is not in `cache` yet. Raises `InvalidRequest`.
    """
    folder = folder.resolve()
    target = cache / f"{folder.name}-{kind}-{_fingerprint(folder, kind)}.gguf"
    if target.exists():
        return target
    try:
        _convert(folder, kind, target, on_progress)
    except MalformedSafetensors as error:
        raise InvalidRequest(str(error)) from error
    except OSError as error:
        raise InvalidRequest(f"{folder} cannot be converted: {error}") from error
    except _NOT_EXPECTED as error:
        raise InvalidRequest(
            f"{folder} cannot be converted: a file in it is not what was expected ({error!r})"
        ) from error
    return target


def _fingerprint(folder: Path, kind: str) -> str:
    """Of the folder as it is now. The time of change tells as well, which no tool sets: files of
    another training have the same sizes, and often a time of modification that was copied.
    """
    found = hashlib.sha256(f"{_VERSION} {kind} {folder}".encode())
    for path in sorted({path for pattern in _READ for path in folder.glob(pattern)}):
        info = path.stat()
        times = f"{info.st_mtime_ns} {info.st_ctime_ns}"
        found.update(f"\0{path.name} {info.st_size} {times}".encode())
    return found.hexdigest()[:12]


def _convert(folder: Path, kind: str, target: Path, on_progress: Callable[[float], None]) -> None:
    config = text_config(read_json(folder / "config.json"))
    arch, hyper = hyperparameters(config)
    stored = read_folder(folder)
    tensors = new_tensors(stored, config, arch, kind)
    rows = next((one.shape[0] for one in tensors if one.name == "token_embd.weight"), 0)
    if not rows:
        raise InvalidRequest(f"{folder} has no embedding")
    kept = max((_KEPT[one.dtype] for one in stored.values() if len(one.shape) > 1), default=0)
    metadata: dict[str, Value] = {
        "general.architecture": arch,
        "general.name": folder.name,
        "general.file_type": _FILE_TYPES.get(kind, kept),
        "general.quantization_version": 2,
        **hyper,
        f"{arch}.vocab_size": rows,
        **vocabulary(folder, rows),
    }
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _forget_halves(target.parent)
    # A name of its own: others may convert the same folder at the same time, also in this process.
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f"{target.name}.")
    partial = Path(name)
    try:
        write_gguf(partial, metadata, tensors, on_progress)
        # On disk before it has its name: else a crash of the machine may leave a name without data.
        os.fsync(handle)
        partial.replace(target)
    finally:
        os.close(handle)
        partial.unlink(missing_ok=True)


def _forget_halves(cache: Path) -> None:
    """Remove what conversions have left that were killed; one that runs writes all the time."""
    for path in cache.glob("*.gguf.*"):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _HALF_AGE:
                path.unlink()
