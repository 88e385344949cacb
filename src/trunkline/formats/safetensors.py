"""Reads safetensors files, single or in parts.

Format: https://github.com/huggingface/safetensors. The files are memory-mapped and nothing in them
is believed: every tensor's place is checked against its shape and the file before anybody reads it.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
MAX_HEADER = 100 * 1024 * 1024
MAX_DIMENSIONS = 8
# dtype -> (numpy's, bytes); bf16 is read as its bits.
DTYPES: Mapping[str, tuple[type[np.generic], int]] = MappingProxyType(
    {"F32": (np.float32, 4), "F16": (np.float16, 2), "BF16": (np.uint16, 2)}
)


class MalformedSafetensors(Exception):
    """The file is no safetensors file, is damaged, or uses what this reader does not know."""


class _Entry(msgspec.Struct, frozen=True):
    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct, frozen=True):
    weight_map: dict[str, str]


class Stored(msgspec.Struct, frozen=True):
    """One tensor: where it lies."""

    dtype: str
    shape: tuple[int, ...]
    # Its bytes; they keep the file mapped.
    data: memoryview

    def bits(self) -> npt.NDArray[np.generic]:
        """As stored, in its shape; bf16 as uint16."""
        return np.frombuffer(self.data, DTYPES[self.dtype][0]).reshape(self.shape)

    def floats(self) -> npt.NDArray[np.float32]:
        """As float32, a copy."""
        bits = self.bits()
        if self.dtype == "BF16":
            return (bits.astype(np.uint32) << 16).view(np.float32)
        return bits.astype(np.float32)


def read_folder(folder: Path) -> dict[str, Stored]:
    """All tensors of the model in `folder`. Raises `MalformedSafetensors`, OSError."""
    if not (folder / INDEX).exists():
        return read_file(folder / SINGLE)
    try:
        names = msgspec.json.decode((folder / INDEX).read_bytes(), type=_Index).weight_map
    except msgspec.DecodeError as error:
        raise MalformedSafetensors(f"{folder / INDEX}: {error}") from error
    found: dict[str, Stored] = {}
    for part in sorted(set(names.values())):
        if Path(part).name != part:
            raise MalformedSafetensors(f"{folder / INDEX} names the file {part!r}")
        found.update(read_file(folder / part))
    missing = sorted(set(names) - set(found))
    if missing:
        raise MalformedSafetensors(f"{folder}: the tensor {missing[0]} is in none of the parts")
    return found


def read_file(path: Path) -> dict[str, Stored]:
    """All tensors of one file. Raises `MalformedSafetensors`, OSError."""
    size = path.stat().st_size
    if size < 9:
        raise MalformedSafetensors(f"{path} has {size} bytes")
    with path.open("rb") as file:
        view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    length = int.from_bytes(view[:8], "little")
    if length > min(size - 8, MAX_HEADER):
        raise MalformedSafetensors(f"{path}: a header of {length} bytes in a file of {size}")
    try:
        header = msgspec.json.decode(view[8 : 8 + length], type=dict[str, Any])
        header.pop("__metadata__", None)
        entries = msgspec.convert(header, dict[str, _Entry])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedSafetensors(f"{path}: {error}") from error
    body = view[8 + length :]
    _check_places(path, entries, len(body))
    return {name: _checked(path, name, one, body) for name, one in entries.items()}


def _check_places(path: Path, entries: Mapping[str, _Entry], size: int) -> None:
    """The format wants all bytes to belong to one tensor each. Raises `MalformedSafetensors`."""
    at = 0
    for name, one in sorted(entries.items(), key=lambda item: item[1].data_offsets):
        begin, end = one.data_offsets
        if not 0 <= begin <= end <= size:
            raise MalformedSafetensors(
                f"{path}: {name} lies outside the file: incomplete download?"
            )
        if begin != at:
            raise MalformedSafetensors(f"{path}: {name} is at {begin}, expected at {at}")
        at = end


def _checked(path: Path, name: str, one: _Entry, body: memoryview) -> Stored:
    if one.dtype not in DTYPES:
        raise MalformedSafetensors(
            f"{path}: {name} is {one.dtype}; {', '.join(DTYPES)} can be read"
        )
    if not 1 <= len(one.shape) <= MAX_DIMENSIONS or min(one.shape) < 1:
        raise MalformedSafetensors(f"{path}: {name} has the shape {one.shape[:MAX_DIMENSIONS]}")
    begin, end = one.data_offsets
    need = math.prod(one.shape) * DTYPES[one.dtype][1]
    if end - begin != need:
        raise MalformedSafetensors(f"{path}: {name} has {end - begin} bytes, expected {need}")
    return Stored(one.dtype, one.shape, body[begin:end])
