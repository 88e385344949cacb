"""Only tested builds of libllama are used, and struct layouts are verified at load."""

from __future__ import annotations

import ctypes
import hashlib
import os
from pathlib import Path
from typing import Any

import pytest

from trunkline.libllama import library as module
from trunkline.libllama.api import PROTOTYPES, bind
from trunkline.libllama.library import LibraryUnusable, check_structs, library, locate, verify
from trunkline.libllama.model import LoadFailed, Model
from trunkline.libllama.structs import ContextParams, ModelParams


def test_the_installed_build_is_a_tested_one() -> None:
    lib = library()
    assert lib is library()
    assert lib.call.llama_version() == b"0.6.0-dev"
    assert verify(locate()).version == "2026.10.11549"


def test_every_platform_that_gets_a_wheel_has_a_build() -> None:
    """Without libllama nothing runs: native too has its vocabularies from there."""
    workflow = (Path(__file__).parents[2] / ".github" / "workflows" / "wheels.yml").read_text()
    wheels = {"manylinux_2_17_x86_64": "linux x86-64", "manylinux_2_17_aarch64": "linux arm64"}
    wheels |= {"macosx_13_0_arm64": "macOS arm64", "macosx_13_0_x86_64": "macOS x86-64"}
    assert workflow.count("platform: m") == len(wheels)
    assert all(name in workflow for name in wheels)
    known = [tested.platform for tested in module.TESTED]
    assert all(any(one.startswith(name) for one in known) for name in wheels.values())
    assert len({tested.sha256 for tested in module.TESTED}) == len(known)
    assert {tested.version for tested in module.TESTED} == {"2026.10.11549"}


def test_an_unknown_build_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "xllamacpp.so"
    path.write_bytes(b"another build")
    digest = hashlib.sha256(b"another build").hexdigest()
    with pytest.raises(LibraryUnusable, match=r"pip install xllamacpp==2026\.10\.11549") as caught:
        verify(path)
    assert digest in str(caught.value)


def test_the_stamp_spares_the_second_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, stamp = tmp_path / "lib.so", tmp_path / "home" / "stamp"
    path.write_bytes(b"a build")
    tested = module.Tested(hashlib.sha256(b"a build").hexdigest(), "1", "here")
    monkeypatch.setattr(module, "TESTED", (tested,))
    assert verify(path, stamp) is tested
    # Whoever makes the folder of all state first makes it for its owner alone.
    assert stamp.parent.stat().st_mode & 0o077 == 0
    monkeypatch.setattr(hashlib, "file_digest", lambda *_: pytest.fail("hashed again"))
    assert verify(path, stamp) is tested
    monkeypatch.undo()
    monkeypatch.setattr(module, "TESTED", (tested,))
    # Changed under the stamp, even with the old size and time.
    info = path.stat()
    path.unlink()
    path.write_bytes(b"b build")
    os.utime(path, ns=(info.st_atime_ns, info.st_mtime_ns + 1))
    with pytest.raises(LibraryUnusable, match="not a tested build"):
        verify(path, stamp)


def test_a_stamp_that_cannot_be_written_does_no_harm(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert verify(locate(), tmp_path / "file" / "stamp").version == "2026.10.11549"


class _Other:
    """A build with another default."""

    def __init__(self, **changes: int) -> None:
        self._changes = changes

    def __getattr__(self, name: str) -> Any:
        def call() -> Any:
            params = getattr(library().call, name)()
            for field, value in self._changes.items():
                if hasattr(params, field):
                    setattr(params, field, value)
            return params

        return call


@pytest.mark.parametrize(
    ("field", "value"), [("n_ctx", 1024), ("swa_full", 0), ("vocab_only", 1), ("abort_callback", 8)]
)
def test_other_defaults_are_refused(field: str, value: int) -> None:
    check_structs(library().call)
    with pytest.raises(LibraryUnusable, match=f"{field} is"):
        check_structs(_Other(**{field: value}))  # type: ignore[arg-type]


def test_missing_functions_are_named() -> None:
    assert bind(ctypes.CDLL(None)) == [name for name, *_ in PROTOTYPES]


def test_sizes() -> None:
    assert (ctypes.sizeof(ModelParams), ctypes.sizeof(ContextParams)) == (80, 168)


def test_libllamas_reason_for_a_refusal_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(LoadFailed, match=r"bad\.gguf"):
        Model(library(), path)
    assert caplog.records
