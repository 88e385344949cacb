"""The hook that builds packages: with the engine for one platform, or without it, in words."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


class _App:
    """Keeps what the hook says."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def display_info(self, text: str) -> None:
        pass

    def display_warning(self, text: str) -> None:
        self.warnings.append(text)


class _Interface:
    """What the hook needs of hatchling's, which only builds have."""

    target_name = "wheel"

    def __init__(self) -> None:
        self.app = _App()

    def __class_getitem__(cls, _: object) -> type:
        return cls


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """hatch_build.py; without a compiler, unless a test says otherwise."""
    name = ""
    for part in ("hatchling", "builders", "hooks", "plugin", "interface"):
        name = f"{name}.{part}".lstrip(".")
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules[name], "BuildHookInterface", _Interface, raising=False)
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    for variable in ("TRUNKLINE_NATIVE", "TRUNKLINE_WHEEL_PLATFORM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("CXX", "/nowhere/c++")
    return found


def run(hook: Any, version: str = "standard") -> dict[str, Any]:
    data: dict[str, Any] = {"artifacts": [], "pure_python": True}
    hook.initialize(version, data)
    return data


def test_without_a_compiler_a_package_is_made_all_the_same(module: Any) -> None:
    hook = module.NativeBuild()
    assert hook.dependencies() == []
    assert run(hook) == {"artifacts": [], "pure_python": True}
    (warning,) = hook.app.warnings
    assert "ggml and Python are used: there is no C++20 compiler" in warning


@pytest.mark.parametrize("error", ["BuildFailed", "OSError"])
def test_a_compiler_that_cannot(module: Any, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    kind = getattr(module, error, OSError)

    def fail(**_: object) -> bool:
        raise kind("no room")

    monkeypatch.setattr(module, "build", fail)
    hook = module.NativeBuild()
    assert run(hook)["artifacts"] == []
    assert "no room" in hook.app.warnings[0]
    monkeypatch.setenv("TRUNKLINE_NATIVE", "require")
    with pytest.raises(kind, match="no room"):
        run(module.NativeBuild())


def test_who_requires_it_gets_a_compiler(module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRUNKLINE_NATIVE", "require")
    hook = module.NativeBuild()
    assert hook.dependencies() == ["ziglang"]
    with pytest.raises(module.NoCompiler):
        run(hook)
    hook.target_name = "sdist"
    assert hook.dependencies() == []
    assert run(hook)["artifacts"] == []
    monkeypatch.setenv("TRUNKLINE_NATIVE", "skip")
    hook = module.NativeBuild()
    assert hook.dependencies() == run(hook)["artifacts"] == []
    assert not hook.app.warnings


@pytest.fixture
def compiled(module: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module where all compiles at once, and Python has headers."""
    monkeypatch.setattr(module, "build", lambda **_: True)
    monkeypatch.setattr(module, "build_speedups", lambda **_: True)
    monkeypatch.setattr(module, "find_headers", lambda: Path("include"))
    return module


def test_wheels_are_for_one_platform_and_every_python(
    compiled: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = run(compiled.NativeBuild())
    assert data["artifacts"] == [
        "/src/trunkline/libnative/trunkline_native.so",
        "/src/trunkline/core/_speedups.abi3.so",
    ]
    assert data["tag"].startswith("cp311-abi3-")
    assert "-" not in data["tag"].removeprefix("cp311-abi3-")
    assert data["pure_python"] is False
    # As .github/workflows/wheels.yml names them.
    monkeypatch.setenv("TRUNKLINE_WHEEL_PLATFORM", "manylinux_2_17_x86_64.manylinux2014_x86_64")
    tag = run(compiled.NativeBuild())["tag"]
    assert tag == "cp311-abi3-manylinux_2_17_x86_64.manylinux2014_x86_64"
    # The folder itself is what runs: it is there already.
    assert run(compiled.NativeBuild(), "editable")["artifacts"] == []


@pytest.mark.parametrize("wish", ["", "require"])
def test_without_headers_there_are_no_speedups(
    compiled: Any, monkeypatch: pytest.MonkeyPatch, wish: str
) -> None:
    monkeypatch.setenv("TRUNKLINE_NATIVE", wish)
    monkeypatch.setattr(compiled, "find_headers", lambda: None)
    monkeypatch.setattr(compiled, "find_compiler", lambda: ["c++"])
    hook = compiled.NativeBuild()
    data = run(hook)
    assert data["artifacts"] == ["/src/trunkline/libnative/trunkline_native.so"]
    assert data["tag"].startswith("py3-none-")
    (warning,) = hook.app.warnings
    assert "Python.h" in warning


def test_speedups_that_do_not_compile(compiled: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> bool:
        raise compiled.BuildFailed("unknown word")

    monkeypatch.setattr(compiled, "build_speedups", fail)
    hook = compiled.NativeBuild()
    assert run(hook)["artifacts"] == []
    assert "unknown word" in hook.app.warnings[0]
    monkeypatch.setenv("TRUNKLINE_NATIVE", "require")
    with pytest.raises(compiled.BuildFailed):
        run(compiled.NativeBuild())
