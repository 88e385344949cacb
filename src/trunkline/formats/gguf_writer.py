"""Writes GGUF files, version 3, one tensor at a time.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from trunkline.formats.gguf import ARRAY, MAGIC, STRING, TENSOR_TYPES

ALIGNMENT = 32

Value = bool | int | float | str | Sequence[str] | Sequence[int] | Sequence[float]


class NewTensor(NamedTuple):
    """A tensor that will be written."""

    name: str
    # Rows first, as numpy has it.
    shape: tuple[int, ...]
    # ggml_type.
    kind: int
    # Gives its bytes, contiguous.
    data: Callable[[], npt.NDArray[np.generic]]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        _, block, size = TENSOR_TYPES[self.kind]
        return math.prod(self.shape) // block * size


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Iterable[NewTensor],
    on_progress: Callable[[float], None] = lambda _: None,
) -> None:
    """Write a whole file. Raises OSError, and ValueError where a tensor gives the wrong bytes."""
    tensors = list(tensors)
    head = bytearray(MAGIC + struct.pack("<IQQ", 3, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _text(key) + _value(value)
    offset = 0
    for one in tensors:
        head += _text(one.name) + struct.pack("<I", len(one.shape))
        head += struct.pack(f"<{len(one.shape)}Q", *reversed(one.shape))
        head += struct.pack("<IQ", one.kind, offset)
        offset += -(-one.nbytes // ALIGNMENT) * ALIGNMENT
    head += bytes(-len(head) % ALIGNMENT)
    written, total = 0, max(1, sum(one.nbytes for one in tensors))
    with path.open("wb") as file:
        file.write(head)
        for one in tensors:
            data = one.data()
            if data.nbytes != one.nbytes:
                raise ValueError(f"{one.name}: {data.nbytes} bytes, expected {one.nbytes}")
            data.tofile(file)
            file.write(bytes(-data.nbytes % ALIGNMENT))
            written += data.nbytes
            on_progress(written / total)


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _value(value: Value) -> bytes:
    match value:
        case bool():
            return struct.pack("<I?", 7, value)
        case int():
            return struct.pack("<II", 4, value) if 0 <= value < 1 << 32 else _wide(value)
        case float():
            return struct.pack("<If", 6, value)
        case str():
            return struct.pack("<I", STRING) + _text(value)
        case _:
            return struct.pack("<I", ARRAY) + _array(value)


def _wide(value: int) -> bytes:
    return struct.pack("<Iq", 11, value)


def _array(values: Sequence[Any]) -> bytes:
    if values and isinstance(values[0], str):
        return struct.pack("<IQ", STRING, len(values)) + b"".join(map(_text, values))
    code, form = (6, "f") if values and isinstance(values[0], float) else (5, "i")
    return struct.pack(f"<IQ{len(values)}{form}", code, len(values), *values)
