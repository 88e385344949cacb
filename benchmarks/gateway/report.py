"""The report of `benchmarks.gateway.compare`, from its figures.

    python -m benchmarks.gateway.report FIGURES.json

writes it anew, beside them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from benchmarks.gateway.targets import RUST_ROUTERS

Rounds = Mapping[str, list[dict[str, float]]]
Medians = dict[str, dict[str, float]]

_SIZES = ("1 KB", "70 KB")
_CONNECTIONS = (1, 16, 64)
_OURS = "trunkline"
_NOTHING = "–"

_EXPLANATION = """\
Medians, with the least and the most of all repetitions. Loaded without pause (closed loop), so that
at 16 and 64 connections a latency is mostly waiting in line: what a gateway adds is seen at one
connection, against the stand-in alone just before. CPU is the time on a processor of all threads of
the gateway. Streams: 64 at a time, each with its usage; full rate is 200 chunks as fast as they are
taken, paced is 100 chunks 20 ms apart. "foreign" is what other processes and the host took of the
cores meanwhile."""


def medians(rounds: Rounds) -> Medians:
    """The median of each figure of each target."""
    return {
        target: {
            key: statistics.median(one[key] for one in figures if key in one)
            for key in dict.fromkeys(key for one in figures for key in one)
        }
        for target, figures in rounds.items()
    }


def ratios(middle: Medians, key: str) -> dict[str, float]:
    """Ours over each other target's figure `key`, and over the fastest Rust router's."""
    ours = middle.get(_OURS, {}).get(key)
    others = {
        name: figures[key]
        for name, figures in middle.items()
        if name != _OURS and figures.get(key, 0) > 0
    }
    if ours is None:
        return {}
    routers = [others[name] for name in RUST_ROUTERS if name in others]
    found = {name: ours / value for name, value in others.items()}
    return found | ({"fastest Rust router": ours / max(routers)} if routers else {})


def _cell(rounds: list[dict[str, float]], key: str, scale: float, digits: int) -> str:
    values = [one[key] * scale for one in rounds if key in one]
    if not values:
        return _NOTHING
    middle = f"{statistics.median(values):,.{digits}f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({min(values):,.{digits}f}–{max(values):,.{digits}f})"


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = [*heads]
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


# (heading, key of the figure, factor, decimal places)
Column = tuple[str, str, float, int]


def _figures(rounds: Rounds, columns: list[Column]) -> str:
    def row(target: str) -> list[str]:
        cells = [_cell(rounds[target], key, scale, digits) for _, key, scale, digits in columns]
        return [target, *cells]

    shown = [target for target in rounds if rounds[target]]
    rows = [row(target) for target in shown]
    full = [one for one in rows if set(one[1:]) != {_NOTHING}]
    return _table(["", *(heading for heading, *_ in columns)], full)


def _cases(render: Callable[[str], Column]) -> list[Column]:
    return [render(f"{size} {n}") for size in _SIZES for n in _CONNECTIONS]


def _streams(kind: str) -> list[Column]:
    return [
        ("chunks/s", f"{kind} chunks_s", 1, 0),
        ("CPU us/chunk", f"{kind} cpu_us", 1, 1),
        ("first chunk p50 ms", f"{kind} first_p50_us", 1e-3, 2),
        ("on the way p50 ms", f"{kind} transit_p50_us", 1e-3, 2),
        ("p99 ms", f"{kind} transit_p99_us", 1e-3, 2),
        ("bad", f"{kind} bad", 1, 0),
        ("unfinished", f"{kind} unfinished", 1, 0),
        ("without usage", f"{kind} without_usage", 1, 0),
    ]


def _latency() -> list[Column]:
    columns: list[Column] = []
    for size in _SIZES:
        columns += [
            (f"{size}: stand-in alone", f"{size} 1 alone_p50_us", 1, 0),
            ("p50", f"{size} 1 p50_us", 1, 0),
            ("added p50", f"{size} 1 added_us", 1, 0),
            ("p99", f"{size} 1 p99_us", 1, 0),
        ]
    return columns


def _goals(middle: Medians) -> str:
    """What the project wants of the gateway, and what this run shows."""
    rows = []
    for size in _SIZES:
        for connections in _CONNECTIONS:
            found = ratios(middle, f"{size} {connections} rps")
            for peer, times in (("fastest Rust router", 2), ("litellm", 150)):
                if peer in found:
                    case = f"requests/s, {size}, {connections} connections, over {peer}"
                    rows.append([case, f"{found[peer]:.2f}", f"at least {times}"])
    for text, key, digits, goal in (
        ("added p50 at one connection, 1 KB, us", "1 KB 1 added_us", 0, "at most 250"),
        ("added p50 at one connection, 70 KB, us", "70 KB 1 added_us", 0, ""),
        ("CPU per chunk with usage, full rate, us", "full cpu_us", 1, "at most 35"),
        ("CPU per chunk with usage, paced, us", "paced cpu_us", 1, "at most 35"),
    ):
        if key in middle.get(_OURS, {}):
            rows.append([text, f"{middle[_OURS][key]:.{digits}f}", goal])
    return _table(["Trunkline", "here", "goal"], rows)


def _noise(rounds: Rounds) -> str:
    rows = []
    for target, figures in rounds.items():
        told = [value for one in figures for key, value in one.items() if key.endswith(" foreign")]
        if told:
            rows.append([target, f"{max(told):.2f}", f"{statistics.median(told):.2f}"])
    return _table(["", "foreign, most cores in any case", "median"], rows)


def render(document: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    rounds: Rounds = document["rounds"]
    versions = [f"{name}: {text}" for name, text in document["versions"].items() if text]
    load = ", ".join(map(str, document["load_average"]))
    memory: list[Column] = [
        ("start s", "start_s", 1, 2),
        ("idle MiB", "idle rss_mib", 1, 1),
        ("after the run MiB", "after rss_mib", 1, 1),
        ("processes", "after processes", 1, 0),
    ]
    errors = _cases(lambda case: (case, f"{case} errors", 1, 0))
    where = f"{document['date']}, {document['machine']}, load average before the run {load}"
    parts = [
        "# Gateways side by side",
        f"{where}; requests sent by {document['load']}. `{document['command']}`",
        "\n".join(f"- {line}" for line in versions),
        _EXPLANATION,
        "## Goals",
        _goals(medians(rounds)),
        "## Requests per second, by size of the body and connections",
        _figures(rounds, _cases(lambda case: (case, f"{case} rps", 1, 0))),
        "## CPU of the gateway per request, us",
        _figures({k: v for k, v in rounds.items() if k != "direct"}, _cases(_cpu)),
        "## Latency at one connection, us",
        _figures(rounds, _latency()),
        "## Streams at full rate",
        _figures(rounds, _streams("full")),
        "## Paced streams",
        _figures(rounds, _streams("paced")),
        "## Start and memory",
        _figures(rounds, memory),
        "## Requests that failed",
        _figures(rounds, errors),
        "## Noise",
        _noise(rounds),
    ]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def _cpu(case: str) -> Column:
    return (case, f"{case} cpu_us", 1, 0)


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    path = Path(sys.argv[1])
    path.with_suffix(".md").write_text(render(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
