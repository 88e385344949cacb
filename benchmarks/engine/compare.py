"""Trunkline beside other engines: same model, same threads, one run, through the HTTP API.

    benchmarks/engine/install_peers PEERS
    tools/make_random_model.py qwen3-0.6b MODELS --gguf-type Q8_0
    python -m benchmarks.engine.compare MODELS/qwen3-0.6b-q8_0.gguf --peers PEERS --rounds 2 \\
        --out benchmarks/results/DATE-engine.json

All servers are started once a round, one after the other, and wait without work; each case is run
on one after the other. So what changes on the machine meanwhile meets all of them about alike.
Where memory does not hold all of them, --apart starts each for its own cases only. A report is
written beside the figures, as Markdown. Quote the ratios: absolute figures drift.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.engine import cases, report, roof
from benchmarks.engine.model import Model, read
from benchmarks.engine.servers import free_port, resident, running
from benchmarks.engine.targets import TARGETS, Missing, Setup, target
from benchmarks.gateway.compare import machine
from benchmarks.gateway.processes import processor_seconds

Case = Callable[[int, cases.Prompts], Awaitable[dict[str, float]]]
# Seconds over which it is seen that servers without work do not compute.
_IDLE = 3.0


def _decoding(streams: int, **options: float) -> Case:
    async def case(port: int, prompts: cases.Prompts) -> dict[str, float]:
        return await cases.decode(port, prompts, streams, **options)

    return case


def table() -> dict[str, Case]:
    """All cases by name."""
    found: dict[str, Case] = {
        "prefill 512": lambda port, p: cases.prefill(port, p, 512),
        "prefill 2048": lambda port, p: cases.prefill(port, p, 2048),
    }
    for streams in (1, 4, 8, 16, 32):
        found[f"decode {streams} greedy"] = _decoding(streams)
        found[f"decode {streams} sampled"] = _decoding(streams, **cases.SAMPLED)
    found["mixed"] = cases.mixed
    found["prefix"] = cases.prefix
    return found


@dataclass
class Comparison:
    """What is compared, and what was found so far."""

    # By the words of --servers, without those that are missing.
    versions: dict[str, str]
    model: Model
    only: list[str]
    rounds: dict[str, list[dict[str, float]]]
    failures: list[str]

    def measure(self, ports: dict[str, int]) -> None:
        """Run the cases on servers that run, given by their ports; adds to the last round."""
        prompts = cases.Prompts(self.model.vocabulary)
        for name, case in table().items():
            if not any(part in name for part in self.only):
                continue
            for server, port in ports.items():
                self._case(name, case, server, port, prompts)

    def _case(self, name: str, case: Case, server: str, port: int, prompts: cases.Prompts) -> None:
        begun = time.perf_counter()
        try:
            result = asyncio.run(_run(case, port, prompts))
        except (RuntimeError, OSError, TimeoutError) as error:
            # The other servers' figures are worth having.
            self.fail(f"{name}, {server}", error)
            return
        self.rounds[server][-1] |= {f"{name} {key}": value for key, value in result.items()}
        shown = ", ".join(f"{key} {value:.3g}" for key, value in result.items())
        print(f"{name:20} {server:26} {shown} ({time.perf_counter() - begun:.0f} s)", flush=True)

    def fail(self, what: str, error: Exception) -> None:
        """Note and show what went wrong."""
        self.failures.append(f"{what}: {type(error).__name__} {error}".rstrip())
        print(self.failures[-1], flush=True)


async def _run(case: Case, port: int, prompts: cases.Prompts) -> dict[str, float]:
    return await case(port, prompts)


def together(
    comparison: Comparison, names: Iterable[str], setup: Callable[[int], Setup], logs: Path
) -> None:
    """Start these servers, run all cases on each in turn, end them."""
    with ExitStack() as stack:
        ports: dict[str, int] = {}
        pids: dict[str, int] = {}
        for server in names:
            port = free_port()
            wanted = target(server, setup(port))
            process = running(wanted.command, port, logs / f"{port}.log", wanted.environment)
            try:
                ready, pids[server] = stack.enter_context(process)
            except RuntimeError as error:
                comparison.fail(f"start, {server}", error)
                continue
            ports[server] = port
            comparison.rounds[server].append({"ready_s": ready})
            print(f"{'start':20} {server:26} ready_s {ready:.3g}", flush=True)
        before = {server: processor_seconds(pid) for server, pid in pids.items()}
        time.sleep(_IDLE)
        for server, pid in pids.items():
            spent = processor_seconds(pid) - before[server]
            comparison.rounds[server][-1]["idle cores"] = spent / _IDLE
        comparison.measure(ports)
        for server, pid in pids.items():
            try:
                comparison.rounds[server][-1]["memory_gb"] = resident(pid) / 1e9
            except OSError as error:
                comparison.fail(f"memory, {server}", error)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="path of a GGUF file")
    parser.add_argument(
        "--safetensors",
        type=Path,
        help="folder of the same model for servers that take no GGUF (default: beside the file, "
        "called as it is up to its last hyphen)",
    )
    parser.add_argument("--peers", type=Path, default=Path(), help="where install_peers put them")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--apart", action="store_true", help="one server at a time")
    parser.add_argument(
        "--only",
        default="",
        help="run the cases whose name contains this, or one of these with commas between them",
    )
    parser.add_argument(
        "--servers",
        default="trunkline,llama.cpp,llama.cpp-native,llama.cpp-native -b 256,openvino,vllm",
        help=f"of {', '.join(TARGETS)}, with further options of theirs (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="write all figures as JSON, the report beside it")
    return parser


def beside(path: Path) -> Path:
    """Where tools/make_random_model.py puts the safetensors of a model, by its GGUF file."""
    return path.with_name(path.stem.rpartition("-")[0] or path.stem)


def available(names: list[str], setup: Setup) -> dict[str, str]:
    """The versions of the servers that are installed; says what the others lack."""
    versions = {}
    for name in names:
        try:
            versions[name] = target(name, setup).version
        except Missing as missing:
            print(f"{name} is left out: {missing}", flush=True)
    return versions


def command(words: list[str]) -> str:
    """The command line without anybody's folders."""
    shown = [Path(word).name if Path(word).is_absolute() else word for word in words]
    quoted = [f'"{word}"' if " " in word else word for word in shown]
    return " ".join(["python -m benchmarks.engine.compare", *quoted])


def _write(document: dict[str, Any], out: Path | None) -> None:
    """Figures to `out`, the report beside it."""
    document["median"] = report.medians(document["rounds"])
    if out:
        out.write_text(json.dumps(document, indent=1) + "\n")
        out.with_suffix(".md").write_text(report.render(document))


def main() -> int:
    """Run, print and write; 1 where a case failed."""
    parser = _parser()
    arguments = parser.parse_args()
    names = arguments.servers.split(",")
    unknown = sorted(name for name in names if name.split()[0] not in TARGETS)
    if unknown:
        parser.error(f"unknown servers: {', '.join(unknown)}")
    path, model = arguments.model, read(arguments.model)
    folder = arguments.safetensors or beside(path)

    def setup(port: int) -> Setup:
        return Setup(path, model, folder, arguments.peers, port, arguments.threads)

    versions = available(names, setup(0))
    comparison = Comparison(
        versions, model, arguments.only.split(","), {name: [] for name in versions}, []
    )
    document: dict[str, Any] = {
        "command": command(sys.argv[1:]),
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "threads": arguments.threads,
        "load_average": [round(number, 2) for number in os.getloadavg()],
        "model": model.facts(),
        "versions": versions,
        "rounds": comparison.rounds,
        "failures": comparison.failures,
    }
    with tempfile.TemporaryDirectory() as name:
        document["roof"] = roof.measure(arguments.threads, Path(name))
        for number in range(arguments.rounds):
            print(f"round {number + 1}", flush=True)
            for group in [[one] for one in versions] if arguments.apart else [list(versions)]:
                together(comparison, group, setup, Path(name))
            _write(document, arguments.out)
    print(report.render(document))
    return int(bool(comparison.failures))


if __name__ == "__main__":
    raise SystemExit(main())
