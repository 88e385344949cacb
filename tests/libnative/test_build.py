"""Building: what is current is left alone, and without a compiler there is a plain message."""

from __future__ import annotations

from pathlib import Path

import pytest

from trunkline.libnative import build
from trunkline.libnative.library import NativeLibrary, NativeUnusable, native
from trunkline.libnative.structs import ABI

KERNELS = 'extern "C" __attribute__((visibility("default"))) int answer() { return TL_ISA; }\n'


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """A tree like native/, with one small file of each kind."""
    root = tmp_path / "native"
    for folder in ("include", "engine", "kernels"):
        (root / folder).mkdir(parents=True)
    (root / "engine" / "engine.cpp").write_text("int engine() { return 1; }\n")
    (root / "kernels" / "variant.cpp").write_text(KERNELS)
    lines = [f"{machine} 1 -DX\n" for machine in ("x86_64", "aarch64", "arm64", "amd64")]
    (root / "kernels" / "VARIANTS").write_text("# machine, name, flags\n" + "".join(lines))
    return root


def make(sources: Path, said: list[str]) -> bool:
    folder = sources.parent
    return build.build(
        folder / "out.so", sources=sources, folder=folder / "objects", jobs=1, say=said.append
    )


def test_only_what_changed_is_compiled(sources: Path) -> None:
    said: list[str] = []
    assert make(sources, said)
    assert not make(sources, said)
    (sources / "engine" / "engine.cpp").write_text("int engine() { return 2; }\n")
    assert make(sources, said)
    # Headers count for those that include them, directly or through others.
    (sources / "include" / "inner.h").write_text("#pragma once\n")
    (sources / "include" / "outer.h").write_text('#pragma once\n#include "inner.h"\n')
    assert not make(sources, said)
    (sources / "kernels" / "variant.cpp").write_text('#include "outer.h"\n' + KERNELS)
    assert make(sources, said)
    (sources / "include" / "inner.h").write_text("#pragma once\nstruct Inner;\n")
    assert make(sources, said)
    assert [line.split(" files")[0] for line in said] == [
        "compiling 2 of 2",
        "compiling 1 of 2",
        "compiling 1 of 2",
        "compiling 1 of 2",
    ]


def test_a_compiler_that_refuses_is_quoted(sources: Path) -> None:
    (sources / "engine" / "engine.cpp").write_text("no c++\n")
    with pytest.raises(build.BuildFailed, match=r"engine\.cpp"):
        make(sources, [])
    assert not (sources.parent / "out.so").exists()


def test_an_installed_package_has_no_sources(sources: Path) -> None:
    with pytest.raises(build.BuildFailed, match="TRUNKLINE_NATIVE=require"):
        build.build(sources.parent / "out.so", sources=sources.parent / "none")


def test_without_a_compiler(
    sources: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    with pytest.raises(build.NoCompiler, match="ziglang"):
        make(sources, [])
    assert build.main(["--optional", "--out", str(sources.parent / "x.so")]) == 0
    assert "ggml is used" in capsys.readouterr().err
    assert build.main(["--out", str(sources.parent / "x.so")]) == 1


def test_a_compiler_that_cannot(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the engine is optional it is done without, and one of older sources goes."""
    out = tmp_path / "x.so"
    out.write_bytes(b"older")

    def fail(*_: object, **__: object) -> bool:
        raise build.BuildFailed("c++: unknown instruction")

    monkeypatch.setattr(build, "build", fail)
    assert build.main(["--out", str(out)]) == 1
    assert out.exists()
    assert build.main(["--optional", "--out", str(out)]) == 0
    assert not out.exists()
    assert "ggml is used: c++: unknown instruction" in capsys.readouterr().err


def test_what_is_not_there_or_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(NativeUnusable, match="not been built"):
        NativeLibrary(tmp_path / "none.so")
    (tmp_path / "no.so").write_bytes(b"no shared object")
    with pytest.raises(NativeUnusable, match="cannot be loaded"):
        NativeLibrary(tmp_path / "no.so")


def test_the_header_says_the_same() -> None:
    """Interface number and sizes of structs; the header is what C++ was compiled with."""
    header = (build.SOURCES / "include" / "trunkline_native.h").read_text()
    assert f"#define TLN_ABI {ABI}\n" in header
    assert f" {native().cpu} " in (build.SOURCES / "kernels" / "VARIANTS").read_text()
    assert native().block == 32
