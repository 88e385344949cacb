"""Trunkline against llama.cpp's own server: same GGUF, same threads, one run, side by side.

    python -m benchmarks.engine.compare MODEL.gguf --vocabulary 151936 --out results.json

Every case is run on each server in turn, `--rounds` times, each server alone on the machine.
Both servers are started once per round. Quote the ratios: absolute figures drift.
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
from pathlib import Path

from benchmarks.engine import cases
from benchmarks.engine.servers import free_port, llama_cpp, running, trunkline

Case = Callable[[int, cases.Prompts], Awaitable[dict[str, float]]]


def _cases() -> dict[str, Case]:
    table: dict[str, Case] = {
        "prefill 512": lambda port, p: cases.prefill(port, p, 512),
        "prefill 2048": lambda port, p: cases.prefill(port, p, 2048),
    }
    for streams in (1, 4, 8, 16):
        table[f"decode {streams} greedy"] = lambda port, p, n=streams: cases.decode(port, p, n)
        table[f"decode {streams} sampled"] = lambda port, p, n=streams: cases.decode(
            port, p, n, **cases.SAMPLED
        )
    table["mixed"] = cases.mixed
    table["prefix"] = cases.prefix
    return table


async def measure(port: int, vocabulary: int, only: str) -> dict[str, float]:
    """Run the cases whose name contains `only` against the server at `port`."""
    prompts = cases.Prompts(vocabulary)
    figures: dict[str, float] = {}
    for name, case in _cases().items():
        if only not in name:
            continue
        begun = time.perf_counter()
        result = await case(port, prompts)
        figures |= {f"{name} {key}": value for key, value in result.items()}
        shown = ", ".join(f"{key} {value:.3g}" for key, value in result.items())
        print(f"    {name}: {shown} ({time.perf_counter() - begun:.0f} s)", flush=True)
    return figures


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, help="path of a GGUF file")
    parser.add_argument("--vocabulary", type=int, required=True, help="entries of its vocabulary")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    parser.add_argument("--servers", default="trunkline,llama.cpp,llama.cpp -b 256")
    parser.add_argument("--out", type=Path, help="write all figures as JSON")
    return parser


def _command(name: str, model: Path, port: int, threads: int) -> list[str]:
    if name == "trunkline":
        return trunkline(model, port, threads)
    return llama_cpp(model, port, threads, 256 if name.endswith("-b 256") else 0)


def _report(results: dict[str, list[dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Median of each figure per server, printed as a table with the ratio to the best peer."""
    medians = {
        server: {key: statistics.median(r[key] for r in rounds) for key in rounds[0]}
        for server, rounds in results.items()
    }
    ours = medians.get("trunkline", {})
    peers = [server for server in medians if server != "trunkline"]
    print(f"\n{'':34}" + "".join(f"{server:>20}" for server in medians) + f"{'ratio':>10}")
    for key in next(iter(medians.values())):
        best = min if key.endswith("_s") and "tok_s" not in key else max
        line = f"{key:34}" + "".join(f"{figures[key]:20.3f}" for figures in medians.values())
        if ours and peers:
            peer = best(medians[server][key] for server in peers)
            line += f"{ours[key] / peer:10.2f}" if peer else ""
        print(line)
    return medians


def main() -> int:
    """Run, print and write."""
    arguments = _parser().parse_args()
    results: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory() as logs:
        for number in range(arguments.rounds):
            for server in arguments.servers.split(","):
                port = free_port()
                print(f"round {number + 1}: {server}", flush=True)
                command = _command(server, arguments.model, port, arguments.threads)
                with running(command, port, Path(logs) / "server.log") as ready:
                    figures = asyncio.run(measure(port, arguments.vocabulary, arguments.only))
                results.setdefault(server, []).append({"ready_s": ready, **figures})
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
