"""Thousands of texts, many of them damaged: our reader of JSON agrees with msgspec, and reads no
byte beside them.
"""

from __future__ import annotations

import json
import random
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest

from trunkline.libnative.build import SOURCES, NoCompiler, find_compiler

PROGRAM = (SOURCES / "speedups" / "check" / "json.cpp", SOURCES / "speedups" / "json.cpp")
SANITIZED = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
LETTERS = ["a", "\\", '"', "\n", "é", "😀", "\0", "/", "u", "n", "z" * 20, "x" * 63, "{", "}", "\t"]
DAMAGE = ['"', "\\", "{", "}", "[", "]", ",", ":", "1", "\\u0", "\\ud83d", "\\ude00", "\\u00e9"]
DAMAGE += [" ", "\n", "\0", "e", "-", ".", "nul", "true", "\\n", '\\"', ""]

fields_of = msgspec.json.Decoder(dict[str, msgspec.Raw])


@pytest.fixture(scope="module", params=[(), ("-DTRUNKLINE_PORTABLE",)], ids=["own", "portable"])
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The reader; with sanitizers, where the compiler has them."""
    try:
        command = [*find_compiler(), "-std=c++20", "-I", str(SOURCES), *request.param]
    except NoCompiler as error:
        pytest.skip(str(error))
    out = tmp_path_factory.mktemp("json") / "check"
    rest = [*map(str, PROGRAM), "-o", str(out)]
    if subprocess.run([*command, *SANITIZED, *rest], capture_output=True, check=False).returncode:
        subprocess.run([*command, "-O1", *rest], check=True)
    return out


def text(rng: random.Random) -> str:
    return "".join(rng.choices(LETTERS, k=rng.choice([0, 1, 2, 5, 12, 30])))


def value(rng: random.Random, depth: int = 0) -> Any:
    kind = rng.random()
    if kind < 0.45 or depth > 4:
        return text(rng)
    if kind < 0.55:
        return rng.choice([0, -1, 1.5, 1e300, 12345, True, False, None, -0.0])
    if kind < 0.8:
        return [value(rng, depth + 1) for _ in range(rng.randrange(4))]
    return {text(rng): value(rng, depth + 1) for _ in range(rng.randrange(4))}


def body(rng: random.Random) -> bytes:
    def spelled(one: Any) -> str:
        indent = rng.choice([None, None, 1])
        return json.dumps(one, ensure_ascii=rng.random() < 0.5, indent=indent)

    names = [rng.choice(["a", "b c", "d" * rng.randrange(70)]) for _ in range(rng.randrange(5))]
    whole = "{" + ",".join(f"{spelled(name)}:{spelled(value(rng))}" for name in names) + "}"
    for _ in range(rng.choice([0, 0, 1, 1, 2, 3])):
        at = rng.randrange(len(whole) + 1)
        whole = whole[:at] + rng.choice(DAMAGE) + whole[at + rng.choice([0, 0, 1, 2]) :]
    return (whole if rng.random() < 0.9 else whole[: rng.randrange(len(whole) + 1)]).encode()


def decoded(whole: bytes) -> dict[str, bytes] | None:
    try:
        return {name: bytes(raw) for name, raw in fields_of.decode(whole).items()}
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def test_it_reads_what_others_read_and_nothing_beside_it(program: Path, tmp_path: Path) -> None:
    rng = random.Random(20261122)
    bodies = [body(rng) for _ in range(4000)]
    # Each byte of a text may be its last.
    bodies += [one[:end] for one in bodies[:12] for end in range(min(300, len(one)))]
    path = tmp_path / "bodies"
    path.write_bytes(b"".join(len(one).to_bytes(4, "little") + one for one in bodies))
    done = subprocess.run([str(program), str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    read = 0
    for one, line in zip(bodies, done.stdout.splitlines(), strict=True):
        good, *places = map(int, line.split())
        fields = decoded(one)
        if not good:
            # A name that would have to be looked at twice is the only other reason.
            assert fields is None or b"\\" in one or not one.isascii()
            continue
        read += 1
        found = {}
        for at in range(0, len(places), 4):
            begin, end, value_begin, value_end = places[at : at + 4]
            found[one[begin:end].decode()] = one[value_begin:value_end]
        assert found == fields
    assert read > 1000
