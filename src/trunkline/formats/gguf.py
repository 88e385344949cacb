"""Reads what a GGUF file says of itself: metadata and tensor descriptions, no tensor data.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
The file is memory-mapped and nothing in it is believed: every length is checked against what is
left of the file before it is used, so that a malformed file costs an error and never memory.
Long arrays (vocabularies) are stepped over and decoded when asked for.
"""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import msgspec
import numpy as np
import numpy.typing as npt

MAGIC: Final = b"GGUF"
STRING, ARRAY = 8, 9
# Value type -> struct code. 8 (string) and 9 (array) are handled apart.
SCALARS: Final[Mapping[int, str]] = MappingProxyType(
    {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
)
# ggml_type -> (name, elements per block, bytes per block). ggml.h at b11549; types without an entry
# are gone from ggml, or newer, and files with them are refused.
TENSOR_TYPES: Final[Mapping[int, tuple[str, int, int]]] = MappingProxyType(
    {
        0: ("F32", 1, 4),
        1: ("F16", 1, 2),
        2: ("Q4_0", 32, 18),
        3: ("Q4_1", 32, 20),
        6: ("Q5_0", 32, 22),
        7: ("Q5_1", 32, 24),
        8: ("Q8_0", 32, 34),
        9: ("Q8_1", 32, 36),
        10: ("Q2_K", 256, 84),
        11: ("Q3_K", 256, 110),
        12: ("Q4_K", 256, 144),
        13: ("Q5_K", 256, 176),
        14: ("Q6_K", 256, 210),
        15: ("Q8_K", 256, 292),
        16: ("IQ2_XXS", 256, 66),
        17: ("IQ2_XS", 256, 74),
        18: ("IQ3_XXS", 256, 98),
        19: ("IQ1_S", 256, 50),
        20: ("IQ4_NL", 32, 18),
        21: ("IQ3_S", 256, 110),
        22: ("IQ2_S", 256, 82),
        23: ("IQ4_XS", 256, 136),
        24: ("I8", 1, 1),
        25: ("I16", 1, 2),
        26: ("I32", 1, 4),
        27: ("I64", 1, 8),
        28: ("F64", 1, 8),
        29: ("IQ1_M", 256, 56),
        30: ("BF16", 1, 2),
        34: ("TQ1_0", 256, 54),
        35: ("TQ2_0", 256, 66),
        39: ("MXFP4", 32, 17),
        40: ("NVFP4", 64, 36),
        41: ("Q1_0", 128, 18),
        42: ("Q2_0", 64, 18),
    }
)
MAX_KEY = 65535
MAX_DIMENSIONS = 4


class MalformedGguf(Exception):
    """The file is no GGUF, is damaged, or uses what this reader does not know."""


class GgufArray(msgspec.Struct, frozen=True, eq=False):
    """An array in the metadata, not decoded yet. It keeps the file mapped as long as it lives."""

    kind: int
    count: int
    # The elements' bytes.
    data: memoryview

    def strings(self) -> list[str]:
        """All elements; bytes that are no UTF-8 come out as U+FFFD. Raises `MalformedGguf`."""
        if self.kind != STRING:
            raise MalformedGguf(f"an array of strings was expected, found type {self.kind}")
        found, at, data = [], 0, bytes(self.data)
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(self.count):
            end = at + 8 + unpack(data, at)[0]
            found.append(data[at + 8 : end].decode(errors="replace"))
            at = end
        return found

    def string(self, index: int) -> str:
        """Element `index` of an array of strings, 0 <= index < count."""
        at, data = 0, self.data
        for _ in range(index):
            at += 8 + int.from_bytes(data[at : at + 8], "little")
        size = int.from_bytes(data[at : at + 8], "little")
        return bytes(data[at + 8 : at + 8 + size]).decode(errors="replace")

    def numbers(self) -> npt.NDArray[np.generic]:
        """All elements, a copy. Raises `MalformedGguf`."""
        if self.kind == STRING:
            raise MalformedGguf("an array of numbers was expected, found strings")
        return np.frombuffer(self.data, dtype=np.dtype("<" + SCALARS[self.kind])).copy()


Value = bool | int | float | str | GgufArray


class TensorInfo(msgspec.Struct, frozen=True):
    """One tensor's description."""

    name: str
    # Fastest-varying dimension first, as ggml has it.
    shape: tuple[int, ...]
    # ggml_type, a key of `TENSOR_TYPES`.
    kind: int
    # From the start of the file.
    offset: int
    nbytes: int


class _Cursor:
    """Reads forward through the mapping; raises `MalformedGguf` instead of passing its end."""

    def __init__(self, view: memoryview) -> None:
        self.view = view
        self.at = 0

    def take(self, size: int, what: str) -> memoryview:
        if size > len(self.view) - self.at:
            raise MalformedGguf(
                f"the file ends inside {what}: {size} bytes wanted at offset {self.at}, "
                f"{len(self.view) - self.at} left"
            )
        self.at += size
        return self.view[self.at - size : self.at]

    def scalar(self, code: str, what: str) -> int | float | bool:
        form = struct.Struct("<" + code)
        value: int | float | bool = form.unpack(self.take(form.size, what))[0]
        return value

    def whole(self, code: str, what: str) -> int:
        return int(self.scalar(code, what))

    def text(self, what: str, limit: int | None = None) -> str:
        size = self.whole("Q", what)
        if limit is not None and size > limit:
            raise MalformedGguf(f"{what} is {size} bytes long; at most {limit} are allowed")
        return bytes(self.take(size, what)).decode(errors="replace")

    def array(self, what: str) -> GgufArray:
        kind = self.whole("I", what)
        count = self.whole("Q", what)
        if kind in SCALARS:
            size = struct.calcsize("<" + SCALARS[kind])
            return GgufArray(kind, count, self.take(count * size, what))
        if kind != STRING:
            raise MalformedGguf(f"{what} is an array of unknown type {kind}")
        if count > (len(self.view) - self.at) // 8:
            raise MalformedGguf(f"{what} claims {count} strings, more than the file can hold")
        start = self.at
        self.at = _skip_strings(self.view, start, count, what)
        return GgufArray(kind, count, self.view[start : self.at])


def _skip_strings(view: memoryview, at: int, count: int, what: str) -> int:
    """Offset after `count` strings from `at`: 300,000 of a large vocabulary take 50 ms."""
    unpack, end = struct.Struct("<Q").unpack_from, len(view)
    for _ in range(count):
        if at + 8 > end:
            raise MalformedGguf(f"the file ends inside {what}")
        at += 8 + unpack(view, at)[0]
    if at > end:
        raise MalformedGguf(f"the file ends inside {what}")
    return at


class Gguf:
    """An open GGUF file. Use as a context manager, or call `close`.

    Raises `MalformedGguf` where the content is wrong, `OSError` where the file cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            size = path.stat().st_size
            if size < 24:
                raise MalformedGguf(f"{path} is no GGUF file: it has {size} bytes")
            self._view = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        try:
            self._read()
        except MalformedGguf as error:
            raise MalformedGguf(f"{path}: {error}") from None

    def _read(self) -> None:
        cursor = _Cursor(self._view)
        if bytes(cursor.take(4, "the magic")) != MAGIC:
            raise MalformedGguf("no GGUF file: it does not begin with the letters GGUF")
        self.version = cursor.whole("I", "the version")
        if self.version not in (2, 3):
            hint = " (a big-endian file)" if self.version & 0xFFFF == 0 else ""
            raise MalformedGguf(f"GGUF version {self.version}{hint}; 2 and 3 can be read")
        tensors = cursor.whole("Q", "the header")
        pairs = cursor.whole("Q", "the header")
        self.metadata: Mapping[str, Value] = MappingProxyType(_read_metadata(cursor, pairs))
        self.tensors = _read_tensors(cursor, tensors, self._alignment())

    def _alignment(self) -> int:
        alignment = self.integer("general.alignment", 32)
        if alignment <= 0 or alignment & (alignment - 1):
            raise MalformedGguf(f"general.alignment is {alignment}, no power of two")
        return alignment

    def string(self, key: str, default: str = "") -> str:
        """A string value. Raises `MalformedGguf` where it has another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, str):
            raise MalformedGguf(f"{key} is no string")
        return value

    def integer(self, key: str, default: int = 0) -> int:
        """An integer value. Raises `MalformedGguf` where it has another type."""
        value = self.metadata.get(key, default)
        if not isinstance(value, int):
            raise MalformedGguf(f"{key} is no integer")
        return int(value)

    def array(self, key: str) -> GgufArray | None:
        """An array value, or None. Raises `MalformedGguf` where it has another type."""
        value = self.metadata.get(key)
        if value is not None and not isinstance(value, GgufArray):
            raise MalformedGguf(f"{key} is no array")
        return value

    def per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """An integer per layer; files hold one for all, or an array."""
        value = self.metadata.get(key, default)
        if isinstance(value, GgufArray):
            if SCALARS.get(value.kind, "f") in "fd":
                raise MalformedGguf(f"{key} is no array of integers")
            numbers = [int(n) for n in value.numbers().tolist()]
            if len(numbers) < layers:
                raise MalformedGguf(f"{key} has {len(numbers)} entries for {layers} layers")
            return numbers[:layers]
        return [self.integer(key, default)] * layers

    def data(self, tensor: TensorInfo) -> npt.NDArray[np.uint8]:
        """The bytes of one of `tensors`, as they lie in the mapped file; not to be written to."""
        return np.frombuffer(self._view[tensor.offset : tensor.offset + tensor.nbytes], np.uint8)

    def floats(self, name: str) -> npt.NDArray[np.float32] | None:
        """A copy of the vector `name`, None where there is none. Raises `MalformedGguf`."""
        tensor = next((one for one in self.tensors if one.name == name), None)
        if tensor is None:
            return None
        kinds = {0: np.float32, 1: np.float16}
        if len(tensor.shape) != 1 or tensor.kind not in kinds:
            raise MalformedGguf(f"{name} is no vector of floats")
        return self.data(tensor).view(kinds[tensor.kind]).astype(np.float32)

    def forget(self) -> None:
        """Give the memory of the mapped file back; what is read again is mapped again."""
        mapped = self._view.obj
        if isinstance(mapped, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)

    def close(self) -> None:
        """Let go of the file; it is unmapped with the last array taken from it."""
        self.metadata = MappingProxyType({})
        self._view.release()

    def __enter__(self) -> Gguf:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _read_metadata(cursor: _Cursor, pairs: int) -> dict[str, Value]:
    found: dict[str, Value] = {}
    for number in range(pairs):
        key = cursor.text(f"metadata key {number}", MAX_KEY)
        if key in found:
            raise MalformedGguf(f"metadata key {key!r} appears twice")
        kind = cursor.whole("I", key)
        if kind == STRING:
            found[key] = cursor.text(key)
        elif kind == ARRAY:
            found[key] = cursor.array(key)
        elif kind in SCALARS:
            found[key] = cursor.scalar(SCALARS[kind], key)
        else:
            raise MalformedGguf(f"metadata key {key!r} has unknown type {kind}")
    return found


def _read_tensors(cursor: _Cursor, count: int, alignment: int) -> tuple[TensorInfo, ...]:
    """Descriptions, offsets made absolute; ggml wants the data in order and without gaps."""
    rows: list[tuple[str, tuple[int, ...], int, int, int]] = []
    names: set[str] = set()
    expected = 0
    for number in range(count):
        name = cursor.text(f"the name of tensor {number}", 63)
        if name in names:
            raise MalformedGguf(f"tensor {name!r} appears twice")
        names.add(name)
        dimensions = cursor.whole("I", name)
        if not 1 <= dimensions <= MAX_DIMENSIONS:
            raise MalformedGguf(f"tensor {name!r} has {dimensions} dimensions")
        shape = tuple(cursor.whole("Q", name) for _ in range(dimensions))
        kind = cursor.whole("I", name)
        offset = cursor.whole("Q", name)
        nbytes = _tensor_bytes(name, shape, kind)
        if offset != expected:
            raise MalformedGguf(f"tensor {name!r} is at {offset}, expected at {expected}")
        expected += -(-nbytes // alignment) * alignment
        rows.append((name, shape, kind, offset, nbytes))
    base = -(-cursor.at // alignment) * alignment
    if rows and base + rows[-1][3] + rows[-1][4] > len(cursor.view):
        raise MalformedGguf(
            f"the file has {len(cursor.view)} bytes, its tensors need "
            f"{base + rows[-1][3] + rows[-1][4]}: an incomplete download?"
        )
    return tuple(TensorInfo(n, s, k, base + offset, size) for n, s, k, offset, size in rows)


def _tensor_bytes(name: str, shape: tuple[int, ...], kind: int) -> int:
    if kind not in TENSOR_TYPES:
        raise MalformedGguf(f"tensor {name!r} has unknown type {kind}")
    _, block, size = TENSOR_TYPES[kind]
    elements = math.prod(shape)
    if min(shape) < 1 or elements >= 2**63:
        raise MalformedGguf(f"tensor {name!r} has the impossible shape {shape}")
    if shape[0] % block:
        raise MalformedGguf(f"tensor {name!r}: rows of {shape[0]} are no multiple of {block}")
    return elements // block * size
