"""The GGUF reader: agrees with the gguf package and with ggml, and survives any damage."""

from __future__ import annotations

import ctypes
import struct
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.tiny_gguf import CHATML, tokens, write_tiny_gguf
from trunkline.formats.gguf import TENSOR_TYPES, Gguf, GgufArray, MalformedGguf
from trunkline.formats.gguf_facts import read_facts
from trunkline.libllama.library import library


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_what_the_gguf_package_wrote_is_read(tiny: Path) -> None:
    with Gguf(tiny) as gguf:
        assert gguf.string("general.architecture") == "llama"
        assert gguf.integer("llama.context_length") == 512
        found = gguf.array("tokenizer.ggml.tokens")
        assert found is not None
        assert found.strings() == tokens()
        assert found.string(264) == "<|im_end|>"
        types = gguf.array("tokenizer.ggml.token_type")
        assert types is not None
        assert types.numbers().tolist()[-4:] == [1, 3, 3, 3]
        by_name = {tensor.name: tensor for tensor in gguf.tensors}
        assert by_name["blk.1.ffn_down.weight"].shape == (128, 64)
        assert by_name["blk.1.ffn_down.weight"].nbytes == 128 * 64 * 4
        end = max(tensor.offset + tensor.nbytes for tensor in gguf.tensors)
        assert end <= tiny.stat().st_size < end + 64


def test_arrays_outlive_the_file(tiny: Path) -> None:
    with Gguf(tiny) as gguf:
        found = gguf.array("tokenizer.ggml.tokens")
    assert found is not None
    assert found.strings() == tokens()


def test_facts(tiny: Path) -> None:
    facts = read_facts(tiny)
    assert (facts.architecture, facts.context, facts.layers) == ("llama", 512, 2)
    assert facts.kv_bytes_per_token == 2 * 2 * (16 + 16) * 2
    assert (facts.bos, facts.eos, facts.chat_template) == (None, "<|im_end|>", CHATML)
    assert facts.vocab_size == len(tokens())
    assert facts.generates
    assert facts.files == (tiny,)


def test_tensor_types_are_those_of_ggml() -> None:
    call = library().call
    call.ggml_type_name.restype = ctypes.c_char_p
    call.ggml_type_size.restype = ctypes.c_size_t
    call.ggml_blck_size.restype = ctypes.c_int64
    # GGML_TYPE_COUNT. Those that are gone have no size.
    assert set(TENSOR_TYPES) == {kind for kind in range(43) if call.ggml_type_size(kind)}
    for kind, (name, block, size) in TENSOR_TYPES.items():
        assert call.ggml_type_name(kind).decode().upper() == name.upper()
        assert (call.ggml_blck_size(kind), call.ggml_type_size(kind)) == (block, size)


def test_split_files_are_counted_together(tmp_path: Path) -> None:
    parts = {"split.count": 2}
    first = write_tiny_gguf(tmp_path / "m-00001-of-00002.gguf", metadata=parts)
    with pytest.raises(MalformedGguf, match="part 2 of 2 is missing"):
        read_facts(first)
    second = write_tiny_gguf(tmp_path / "m-00002-of-00002.gguf", metadata=parts)
    whole = read_facts(write_tiny_gguf(tmp_path / "whole.gguf"))
    facts = read_facts(first)
    assert facts.files == (first, second)
    assert facts.weight_bytes == 2 * whole.weight_bytes
    with pytest.raises(MalformedGguf, match="give the first"):
        read_facts(second)
    write_tiny_gguf(second, metadata={**parts, "split.no": 0})
    with pytest.raises(MalformedGguf, match="says that it is part 1"):
        read_facts(first)


def test_integers_of_layers_are_integers(tmp_path: Path) -> None:
    """A list of floats may hold what is no number."""
    path = tmp_path / "floats.gguf"
    value = struct.pack("<IIQ2f", 9, 6, 2, float("nan"), 1.0)
    path.write_bytes(header(1) + text(b"llama.attention.head_count") + value)
    with Gguf(path) as gguf, pytest.raises(MalformedGguf, match="no array of integers"):
        gguf.per_layer("llama.attention.head_count", 2, 0)


def header(pairs: int = 0, tensors: int = 0, version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, pairs)


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no GGUF file"),
        (b"PK\3\4" + bytes(40), "does not begin"),
        (header(version=1), "version 1"),
        (b"GGUF" + struct.pack(">IQQ", 3, 0, 0), "big-endian"),
        (header(2**60), "the file ends"),
        (header(0, 2**60), "the file ends"),
        (header(1) + struct.pack("<Q", 2**63), "at most 65535"),
        (header(2) + (text(b"a") + struct.pack("<II", 4, 1)) * 2, "appears twice"),
        (header(1) + text(b"a") + struct.pack("<I", 99), "unknown type 99"),
        (header(1) + text(b"a") + struct.pack("<IIQ", 9, 8, 2**61), "claims"),
        (header(1) + text(b"a") + struct.pack("<IIQ", 9, 4, 2**62), "the file ends"),
        (header(1) + text(b"a") + struct.pack("<IIQ", 9, 9, 1), "unknown type 9"),
        (header(1) + text(b"general.alignment") + struct.pack("<II", 4, 7), "power of two"),
        (header(1) + text(b"general.alignment") + struct.pack("<II", 4, 0), "power of two"),
        (header(0, 1) + text(b"t") + struct.pack("<I", 9), "9 dimensions"),
        (header(0, 1) + text(b"t") + struct.pack("<IQIQ", 1, 4, 5, 0), "unknown type 5"),
        (header(0, 1) + text(b"t") + struct.pack("<IQIQ", 1, 0, 0, 0), "impossible shape"),
        (header(0, 1) + text(b"t") + struct.pack("<IQIQ", 1, 33, 2, 0), "no multiple of 32"),
        (
            header(0, 1) + text(b"t") + struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0),
            "impossible shape",
        ),
        (header(0, 1) + text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 64), "expected at 0"),
        (header(0, 1) + text(b"t") + struct.pack("<IQIQ", 1, 2**40, 0, 0), "incomplete"),
    ],
)
def test_malformed_files_are_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(content + bytes(8))
    with pytest.raises(MalformedGguf, match=message):
        Gguf(path)


def survive(path: Path) -> None:
    """Read everything there is; only `MalformedGguf` may come of it."""
    try:
        with Gguf(path) as gguf:
            for value in gguf.metadata.values():
                if isinstance(value, GgufArray) and value.kind == 8:
                    value.strings()
                elif isinstance(value, GgufArray):
                    value.numbers()
        read_facts(path)
    except MalformedGguf:
        pass


@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.tuples(st.integers(0, 9000), st.binary(min_size=1, max_size=9)), max_size=5))
@example([(8, b"\xff" * 8)])
def test_any_damage_is_an_error_or_harmless(
    tiny: Path, tmp_path: Path, edits: list[tuple[int, bytes]]
) -> None:
    data = bytearray(tiny.read_bytes())
    for offset, patch in edits:
        data[offset : offset + len(patch)] = patch
    path = tmp_path / "damaged.gguf"
    path.write_bytes(data)
    survive(path)


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_or_read(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "any.gguf"
    path.write_bytes(header(1, 1) + data)
    survive(path)


@pytest.mark.parametrize("size", [0, 10, 24, 100, 4000, 9000, 100_000])
def test_truncated_files_are_refused(tiny: Path, tmp_path: Path, size: int) -> None:
    path = tmp_path / "short.gguf"
    path.write_bytes(tiny.read_bytes()[:size])
    with pytest.raises(MalformedGguf):
        Gguf(path)
