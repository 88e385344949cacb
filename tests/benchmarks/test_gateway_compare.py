"""What the comparison of gateways measures with: its load, its costs, its command line."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.engine.servers import free_port
from benchmarks.gateway import compare
from benchmarks.gateway.load import BODIES, Load, Tools, compile_tools, mock
from benchmarks.gateway.processes import memory, processor_seconds, tree
from benchmarks.gateway.targets import TARGETS, Missing, Setup

pytestmark = pytest.mark.skipif(
    shutil.which("cc") is None or not sys.platform.startswith("linux") or os.cpu_count() == 1,
    reason="needs cc, Linux and two cores, as the comparison does",
)


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Without wrk, so that our own load is tested wherever the tests run."""
    compiled = compile_tools(tmp_path_factory.mktemp("tools"))
    return Tools(compiled.mock, compiled.load, None)


@pytest.mark.parametrize("size", BODIES)
def test_requests(tools: Tools, tmp_path: Path, size: str) -> None:
    assert abs(len(BODIES[size]) / (1024 * int(size.split(maxsplit=1)[0])) - 1) < 0.05
    with mock(tools) as stand_in:
        told = Load(tools, tmp_path, stand_in, None, stand_in[1]).requests(BODIES[size], 4, 0.2)
    assert told["errors"] == 0
    assert told["rps"] > 10
    assert 0 < told["p50_us"] <= told["p99_us"]
    assert told["cpu_us"] == 0


@pytest.mark.parametrize("interval", [0, 2])
def test_streams(tools: Tools, tmp_path: Path, interval: int) -> None:
    with mock(tools) as stand_in:
        load = Load(tools, tmp_path, stand_in, stand_in[0], stand_in[1])
        # More chunks than fit into the buffers of a connection at once.
        told = load.streams(4, 10, 400, interval, 20)
    assert [told[name] for name in ("bad", "unfinished", "without_usage")] == [0, 0, 0]
    assert 0 < told["transit_p50_us"] <= told["transit_p99_us"]
    assert told["chunks_s"] > 100
    if interval:
        assert told["chunks_s"] < 4 * 1000 / interval * 1.1


def test_a_refusal_is_an_error_not_an_answer(tools: Tools, tmp_path: Path) -> None:
    with mock(tools) as stand_in:
        load = Load(tools, tmp_path, stand_in, None, stand_in[1])
        body = b'{"model": "mock", "messages": []}'
        good = load.streams(1, 2, 3, 0, 5)
        request = f"POST /nowhere HTTP/1.1\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
        (tmp_path / "wrong").write_bytes(request)
        command = [tools.load, "requests", str(stand_in[1]), "1", "0.1", str(tmp_path / "wrong")]
        told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert good["bad"] == 0
    assert '"requests":0,' in told
    assert '"errors":0,' not in told


def test_costs_include_what_a_process_starts() -> None:
    # Works until it has spent what is asked for, however fast the machine is.
    inner = "import time\nwhile time.process_time() < 0.1: pass\nprint(flush=True)\ninput()"
    work = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    with subprocess.Popen(
        [sys.executable, "-c", work], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"\n"
        parent, child = tree(process.pid)
        assert parent == process.pid
        both = processor_seconds(process.pid)
        assert both > processor_seconds(child) >= 0.05
        told = memory(process.pid)
        assert told["processes"] == 2
        assert 0 < told["pss_mib"] < told["rss_mib"]


def test_what_is_not_installed_is_said_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare.available(["direct", "trunkline", "litellm"], tmp_path)
    assert list(found) == ["direct", "trunkline"]
    assert "litellm is left out, it is not installed: benchmarks/gateway/install_peers" in (
        capsys.readouterr().out
    )
    with pytest.raises(Missing):
        TARGETS["vllm-router"](Setup(tmp_path, tmp_path, 1, 2))


def test_a_gateway_is_started_measured_and_ended(tools: Tools, tmp_path: Path) -> None:
    with mock(tools) as stand_in:
        setup = Setup(tmp_path, tmp_path, free_port(), stand_in[1])
        target = TARGETS["trunkline"](setup)
        with compare.started(target, setup.port, tmp_path / "log") as (process, seconds):
            assert seconds > 0
            load = Load(tools, tmp_path, stand_in, process, setup.port)
            whole = load.requests(BODIES["1 KB"], 2, 0.5)
            streamed = load.streams(2, 4, 50, 0, 20)
            assert whole["cpu_us"] > 0
        assert not Path(f"/proc/{process}").exists()
    assert whole["errors"] == 0
    assert [streamed[name] for name in ("bad", "without_usage", "unfinished")] == [0, 0, 0]


def test_the_command_is_shown_without_folders() -> None:
    shown = compare._command(["--peers", "/home/somebody/peers", "--out", "benchmarks/x.json"])
    assert shown.endswith("compare --peers peers --out benchmarks/x.json")
