"""Building: what is current is left alone, and without a compiler there is a plain message."""

from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest

from trunkline.core.speedups import load
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
    told = capsys.readouterr().err
    assert "ggml is used" in told
    assert build.find_headers() is None or "Python is used" in told
    assert build.main(["--out", str(sources.parent / "x.so")]) == 1


@pytest.mark.parametrize(
    ("broken", "named", "instead"),
    [("build", "x.so", "ggml"), ("build_speedups", build.SPEEDUPS.name, "Python")],
)
def test_a_compiler_that_cannot(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    broken: str,
    named: str,
    instead: str,
) -> None:
    """What is optional is done without, and one of older sources goes; the other one stays."""
    files = [tmp_path / "x.so", tmp_path / build.SPEEDUPS.name]
    for file in files:
        file.write_bytes(b"older")

    def fail(*_: object, **__: object) -> bool:
        raise build.BuildFailed("c++: unknown instruction")

    for name in ("build", "build_speedups"):
        monkeypatch.setattr(build, name, fail if name == broken else lambda *_, **__: False)
    monkeypatch.setattr(build, "find_headers", lambda: tmp_path)
    assert build.main(["--out", str(files[0])]) == 1
    assert all(file.exists() for file in files)
    assert build.main(["--optional", "--out", str(files[0])]) == 0
    assert [file.name for file in files if not file.exists()] == [named]
    assert f"{instead} is used: c++: unknown instruction" in capsys.readouterr().err


MODULE = """#define Py_LIMITED_API 0x030B0000
#include <Python.h>
namespace {
PyModuleDef_Slot slots[] = {{0, nullptr}};
PyModuleDef module = {PyModuleDef_HEAD_INIT, "_speedups", nullptr, 0, nullptr, slots,
                      nullptr, nullptr, nullptr};
}
PyMODINIT_FUNC PyInit__speedups() { return PyModuleDef_Init(&module); }
"""


def test_a_module_is_compiled_for_every_python(tmp_path: Path) -> None:
    headers = build.find_headers()
    if headers is None:
        pytest.skip("this Python has no headers")
    sources = tmp_path / "native"
    (sources / "speedups").mkdir(parents=True)
    out = tmp_path / "_speedups.abi3.so"

    def make_module() -> bool:
        return build.build_speedups(out, headers=headers, sources=sources, folder=tmp_path, jobs=1)

    with pytest.raises(build.BuildFailed, match="no sources"):
        make_module()
    (sources / "speedups" / "module.cpp").write_text(MODULE)
    assert make_module()
    assert not make_module()
    with pytest.raises(ImportError, match="version None"):
        load(str(out))
    (sources / "speedups" / "module.cpp").write_text("no c++\n")
    with pytest.raises(build.BuildFailed, match=r"module\.cpp"):
        make_module()


def test_without_headers_there_is_no_module(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build, "build", lambda *_, **__: False)
    monkeypatch.setattr(sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    assert build.find_headers() is None
    assert build.main(["--out", str(tmp_path / "x.so")]) == 0
    assert "Python.h" in capsys.readouterr().err
    assert build.main(["--out", str(tmp_path / "x.so"), "--machine", "other"]) == 0
    assert "another machine" in capsys.readouterr().err
    (tmp_path / "Python.h").touch()
    assert build.find_headers() == tmp_path
    # Without a global lock objects look otherwise.
    monkeypatch.setattr(sys, "abiflags", "t")
    assert build.find_headers() is None


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
