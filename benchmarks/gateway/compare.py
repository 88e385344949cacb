"""Gateways side by side before one stand-in: requests, added latency, streams, memory, start.

    benchmarks/gateway/install_peers PEERS
    python -m benchmarks.gateway.compare --peers PEERS --reps 3 \\
        --out benchmarks/results/DATE-gateway.json

Each repetition runs every target in turn, each in a fresh process: the gateway alone on core 0,
the stand-in and the load on core 1. A report is written beside the figures, as Markdown. Quote
ratios of one run; absolute figures drift. Nothing else should run meanwhile: "foreign" in the
report says what did.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from benchmarks.engine.servers import free_port
from benchmarks.gateway import report
from benchmarks.gateway.load import BODIES, GATEWAY_CORE, PATH, Load, Tools, compile_tools, mock
from benchmarks.gateway.processes import memory
from benchmarks.gateway.targets import KEY, TARGETS, Missing, Setup, Target

# Seconds until a gateway must answer.
_START = 300.0
_BOUND = 20.0
DIRECT = "direct"

Figures = dict[str, float]


@contextmanager
def started(target: Target, port: int, log: Path) -> Iterator[tuple[int, float]]:
    """Run a gateway; yields its process and the seconds to its first answer."""
    begun = time.monotonic()
    with log.open("ab") as output:
        process = subprocess.Popen(
            ["taskset", "-c", GATEWAY_CORE, *target.command],
            env=os.environ | target.environment,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        _wait_for(process, port, log)
        yield process.pid, time.monotonic() - begun
    finally:
        _end(process)


def _wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    url, deadline = f"http://127.0.0.1:{port}{PATH}", time.monotonic() + _START
    headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
    with httpx.Client(timeout=_BOUND, headers=headers) as client:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"it ended with {process.returncode}: {log.read_text()[-2000:]}")
            try:
                if client.post(url, content=BODIES["1 KB"]).status_code == httpx.codes.OK:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.02)
    raise RuntimeError(f"it never answered: {log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """The process and its group: SIGTERM, then SIGKILL."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
            process.wait(_BOUND / 2)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue


def measure(load: Load, direct: Load, arguments: argparse.Namespace) -> Figures:
    """All cases on one gateway. Just before one connection's turn comes the stand-in alone."""
    figures: Figures = {}
    load.requests(BODIES["1 KB"], 16, min(2, arguments.seconds))
    for size, body in BODIES.items():
        load.requests(body, 16, 1)
        for connections in (1, 16, 64):
            case = f"{size} {connections}"
            if connections == 1 and load.gateway is not None:
                alone = direct.requests(body, 1, arguments.seconds)["p50_us"]
                figures[f"{case} alone_p50_us"] = alone
            told = load.requests(body, connections, arguments.seconds)
            figures |= {f"{case} {name}": value for name, value in told.items()}
            if f"{case} alone_p50_us" in figures:
                figures[f"{case} added_us"] = told["p50_us"] - figures[f"{case} alone_p50_us"]
    streams = arguments.streams
    full = load.streams(64, streams, 200, 0, 20)
    paced = load.streams(64, streams // 2, 100, 20, 20)
    figures |= {f"full {name}": value for name, value in full.items()}
    return figures | {f"paced {name}": value for name, value in paced.items()}


def run(name: str, tools: Tools, arguments: argparse.Namespace) -> Figures:
    """One repetition of one target."""
    with tempfile.TemporaryDirectory() as folder, mock(tools) as stand_in:
        directory = Path(folder)
        direct = Load(tools, directory, stand_in, None, stand_in[1])
        if name == DIRECT:
            return measure(direct, direct, arguments)
        setup = Setup(arguments.peers, directory, free_port(), stand_in[1])
        with started(TARGETS[name](setup), setup.port, directory / "log") as (process, seconds):
            time.sleep(1.5)
            idle = memory(process)
            load = Load(tools, directory, stand_in, process, setup.port)
            figures = {"start_s": seconds} | {f"idle {k}": v for k, v in idle.items()}
            figures |= measure(load, direct, arguments)
            return figures | {f"after {key}": value for key, value in memory(process).items()}


def available(names: list[str], peers: Path) -> dict[str, str]:
    """The versions of the targets that are installed; says what the others lack."""
    versions = {}
    with tempfile.TemporaryDirectory() as directory:
        for name in names:
            try:
                setup = Setup(peers, Path(directory), 0, 0)
                versions[name] = "" if name == DIRECT else TARGETS[name](setup).version
            except Missing as missing:
                print(f"{name} is left out, it is not installed: {missing}", flush=True)
    return versions


def machine() -> str:
    """The machine in words."""
    rows = dict(
        line.split(":", 1) for line in Path("/proc/cpuinfo").read_text().splitlines() if ":" in line
    )
    model = next((value.strip() for key, value in rows.items() if key.startswith("model name")), "")
    memory_gib = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    system = f"Linux {platform.release().split('-', maxsplit=1)[0]}"
    processor = f"{platform.machine()}, {model}".strip(", ")
    return f"{os.cpu_count()} cores ({processor}), {memory_gib:.0f} GiB, {system}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    every = ",".join([DIRECT, *TARGETS])
    parser.add_argument("--targets", default=every, help=f"of {every}")
    parser.add_argument("--peers", type=Path, default=Path(), help="where install_peers put them")
    parser.add_argument("--reps", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=5, help="for each case of requests")
    parser.add_argument("--streams", type=int, default=256, help="at full rate; half so many paced")
    parser.add_argument("--out", type=Path, help="write all figures as JSON, the report beside it")
    return parser


def _command(words: list[str]) -> str:
    """The command line without anybody's folders."""
    shown = [Path(word).name if Path(word).is_absolute() else word for word in words]
    return " ".join(["python -m benchmarks.gateway.compare", *shown])


def main() -> int:
    """Run, print and write; 1 where a repetition failed."""
    parser = _parser()
    arguments = parser.parse_args()
    names = arguments.targets.split(",")
    unknown = set(names) - {DIRECT, *TARGETS}
    if unknown or (os.cpu_count() or 1) < 2:
        parser.error(f"unknown targets {unknown}" if unknown else "two cores are needed")
    versions = available(names, arguments.peers)
    rounds: dict[str, list[Figures]] = {name: [] for name in versions}
    document = {
        "command": _command(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "load_average": [round(number, 2) for number in os.getloadavg()],
        "versions": versions,
        "rounds": rounds,
    }
    failed = False
    with tempfile.TemporaryDirectory() as folder:
        tools = compile_tools(Path(folder))
        document["load"] = "wrk" if tools.wrk else "benchmarks/gateway/load.c"
        for number in range(arguments.reps):
            for name in versions:
                begun = time.monotonic()
                try:
                    rounds[name].append(run(name, tools, arguments))
                except (RuntimeError, subprocess.SubprocessError) as error:
                    failed = True
                    print(f"repetition {number + 1}: {name} failed: {error}", flush=True)
                took = time.monotonic() - begun
                print(f"repetition {number + 1}: {name}, {took:.0f} s", flush=True)
    document["median"] = report.medians(rounds)
    text = report.render(document)
    print(text)
    if arguments.out:
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
        arguments.out.with_suffix(".md").write_text(text)
    return int(failed)


if __name__ == "__main__":
    raise SystemExit(main())
