"""The safetensors reader refuses what is not as its header says, before anybody reads it."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from trunkline.formats.safetensors import MalformedSafetensors, read_file, read_folder


def tensor(begin: int, end: int, *shape: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def write(path: Path, header: object, body: bytes = bytes(32)) -> Path:
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + body)
    return path


def test_what_is_right_is_read(tmp_path: Path) -> None:
    numbers = np.arange(4, dtype=np.float32)
    header = {
        "__metadata__": {"format": "pt"},
        "b": tensor(16, 32, 2, 4, dtype="BF16"),
        "a": tensor(0, 16, 4),
    }
    found = read_file(write(tmp_path / "x", header, numbers.tobytes() + bytes(16)))
    assert set(found) == {"a", "b"}
    np.testing.assert_array_equal(found["a"].floats(), numbers)
    assert found["b"].floats().shape == (2, 4)


DEEP = b'{"a":' + b"[" * 9000 + b"]" * 9000 + b"}"


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"{", "truncated"),
        (b'{"\xff": 1}', "x"),
        (DEEP, "recursion"),
        ([1], "Expected `object`"),
        ({"a": 1}, "Expected `object`"),
        ({"a": tensor(0, 32, 8, dtype="F8_E4M3")}, "F32, F16, BF16 can be read"),
        ({"a": tensor(0, 32, 9)}, "has 32 bytes, expected 36"),
        ({"a": tensor(0, 64, 16)}, "lies outside the file"),
        ({"a": tensor(-32, 32, 16)}, "lies outside the file"),
        ({"a": tensor(32, 0, 8)}, "lies outside the file"),
        ({"a": tensor(0, 32)}, "has the shape"),
        ({"a": tensor(0, 32, 0)}, "has the shape"),
        ({"a": tensor(0, 32, -2, -4)}, "has the shape"),
        ({"a": tensor(0, 32, *[1 << 62] * 10_000)}, "has the shape"),
        ({"a": tensor(0, 32, 1 << 62, 1 << 62)}, "expected"),
        ({"a": tensor(0, 16, 4), "b": tensor(8, 24, 4)}, "b is at 8, expected at 16"),
        ({"a": tensor(0, 32, 8), "b": tensor(0, 32, 8)}, "b is at 0, expected at 32"),
        ({"a": tensor(0, 8, 2), "b": tensor(16, 32, 4)}, "b is at 16, expected at 8"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_malformed_files_are_refused(tmp_path: Path, header: object, message: str) -> None:
    with pytest.raises(MalformedSafetensors, match=message):
        read_file(write(tmp_path / "x", header))


@pytest.mark.parametrize("size", [0, 1 << 20, 1 << 63])
def test_impossible_lengths_of_the_header(tmp_path: Path, size: int) -> None:
    (tmp_path / "x").write_bytes(struct.pack("<Q", size) + b"{}")
    with pytest.raises(MalformedSafetensors):
        read_file(tmp_path / "x")
    (tmp_path / "x").write_bytes(b"short")
    with pytest.raises(MalformedSafetensors, match="5 bytes"):
        read_file(tmp_path / "x")


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "sub/x"])
def test_parts_lie_in_the_folder(tmp_path: Path, name: str) -> None:
    index = {"weight_map": {"a": name}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MalformedSafetensors, match="names the file"):
        read_folder(tmp_path)


def test_tensors_that_no_part_has(tmp_path: Path) -> None:
    write(tmp_path / "part", {"a": tensor(0, 32, 8)})
    index = {"weight_map": {"a": "part", "b": "part"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(MalformedSafetensors, match="the tensor b"):
        read_folder(tmp_path)
