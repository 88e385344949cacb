"""Trunkline against llama.cpp's own server: same GGUF, same threads, one run, side by side.

    python -m benchmarks.engine.compare MODEL.gguf --vocabulary 151936 --out results.json

All servers are started once, one after the other, and wait without work; each case is run on one
after the other, `--rounds` times. So what changes on the machine meanwhile meets all of them about
alike. Quote the ratios: absolute figures drift.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from benchmarks.engine import cases
from benchmarks.engine.servers import free_port, llama_cpp, resident, running, trunkline

Case = Callable[[int, cases.Prompts], Awaitable[dict[str, float]]]


def _decoding(streams: int, **options: float) -> Case:
    async def case(port: int, prompts: cases.Prompts) -> dict[str, float]:
        return await cases.decode(port, prompts, streams, **options)

    return case


def _cases() -> dict[str, Case]:
    table: dict[str, Case] = {
        "prefill 512": lambda port, p: cases.prefill(port, p, 512),
        "prefill 2048": lambda port, p: cases.prefill(port, p, 2048),
    }
    for streams in (1, 4, 8, 16, 32):
        table[f"decode {streams} greedy"] = _decoding(streams)
        table[f"decode {streams} sampled"] = _decoding(streams, **cases.SAMPLED)
    table["mixed"] = cases.mixed
    table["prefix"] = cases.prefix
    return table


def measure(
    servers: dict[str, int], vocabulary: int, only: str, results: dict[str, list[dict[str, float]]]
) -> None:
    """Run cases against each server; adds to its last figures.

    `servers` are ports by name; `only` as of the command line.
    """
    prompts = cases.Prompts(vocabulary)
    for name, case in _cases().items():
        if not any(part in name for part in only.split(",")):
            continue
        for server, port in servers.items():
            begun = time.perf_counter()
            result = asyncio.run(_run(case, port, prompts))
            results[server][-1] |= {f"{name} {key}": value for key, value in result.items()}
            shown = ", ".join(f"{key} {value:.3g}" for key, value in result.items())
            print(
                f"{name:20} {server:26} {shown} ({time.perf_counter() - begun:.0f} s)", flush=True
            )


async def _run(case: Case, port: int, prompts: cases.Prompts) -> dict[str, float]:
    return await case(port, prompts)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="path of a GGUF file")
    parser.add_argument("--vocabulary", type=int, required=True, help="entries of its vocabulary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument(
        "--only",
        default="",
        help="run the cases whose name contains this, or one of these with commas between them",
    )
    parser.add_argument(
        "--servers",
        default="trunkline,trunkline --executor ggml,llama.cpp,llama.cpp -b 256",
        help="which, with further options of ours (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    return parser


def _command(name: str, model: Path, port: int, threads: int) -> list[str]:
    if name.startswith("trunkline"):
        return trunkline(model, port, threads, *name.split()[1:])
    return llama_cpp(model, port, threads, 256 if name.endswith("-b 256") else 0)


def _report(results: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Median of each figure per server, printed as a table.

    The ratio is that of the first server to the best one that is not ours.
    """
    medians = {
        server: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for server, rounds in results.items()
    }
    peers = [server for server in medians if not server.startswith("trunkline")]
    ours = next((figures for name, figures in medians.items() if name not in peers), {})
    print(f"\n{'':34}" + "".join(f"{server:>26}" for server in medians) + f"{'ratio':>10}")
    for key in next(iter(medians.values())):
        best = max if key.endswith(("tok_s", "alive")) else min
        line = f"{key:34}" + "".join(f"{figures[key]:26.3f}" for figures in medians.values())
        if ours and peers:
            peer = best(medians[server][key] for server in peers)
            line += f"{ours[key] / peer:10.2f}" if peer else ""
        print(line)
    return medians


def main() -> int:
    """Run, print and write."""
    arguments = _parser().parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    names = arguments.servers.split(",")
    for number in range(arguments.rounds):
        print(f"round {number + 1}", flush=True)
        with tempfile.TemporaryDirectory() as logs, ExitStack() as stack:
            ports: dict[str, int] = {}
            pids: dict[str, int] = {}
            for server in names:
                port = ports[server] = free_port()
                command = _command(server, arguments.model, port, arguments.threads)
                log = Path(logs) / f"{port}.log"
                ready, pids[server] = stack.enter_context(running(command, port, log))
                results.setdefault(server, []).append({"ready_s": ready})
            measure(ports, arguments.vocabulary, arguments.only, results)
            for server, pid in pids.items():
                results[server][-1]["memory_gb"] = resident(pid) / 1e9
    medians = _report(results)
    if arguments.out:
        document = {
            "command": " ".join(["python -m benchmarks.engine.compare", *sys.argv[1:]]),
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.machine()}, {arguments.threads} threads",
            "median": medians,
            "rounds": results,
        }
        arguments.out.write_text(json.dumps(document, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
