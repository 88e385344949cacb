"""The report of `benchmarks.engine.compare`, from its figures.

    python -m benchmarks.engine.report FIGURES.json

writes it anew, beside them.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rounds = Mapping[str, list[dict[str, float]]]
Medians = dict[str, dict[str, float]]

_OURS = "trunkline"
_NOTHING = "–"
# Below so many bits per weight it is a 4-bit model.
_FEW_BITS = 6.0

_EXPLANATION = """\
Medians of the rounds; tokens/s, seconds, GB (proportional set size, after the cases). Prefill: from
request to first token. Decode: all streams together, prompts of 128 tokens, greedy and with
temperature 1 and top_p 0.95. Mixed: four streams decode while a prompt of 2,048 tokens comes.
Prefix: 16 requests that share 1,024 tokens, four at a time, then again. Prompts are random token
ids, weights are random; all servers have the same threads and the same number of tokens in their
KV cache. Ratios are ours to the best peer's."""


def medians(rounds: Rounds) -> Medians:
    """The median of each figure of each server."""
    return {
        server: {
            key: statistics.median(one[key] for one in figures if key in one)
            for key in dict.fromkeys(key for one in figures for key in one)
        }
        for server, figures in rounds.items()
    }


def more_is_better(key: str) -> bool:
    """Whether a larger figure `key` is the better one."""
    return key.endswith("tok_s")


def best_peer(middle: Medians, key: str, family: str = "") -> tuple[str, float] | None:
    """Name and figure of the best server that is not ours and whose name begins with `family`."""
    found = {
        server: figures[key]
        for server, figures in middle.items()
        if not server.startswith(_OURS) and server.startswith(family) and figures.get(key, 0) > 0
    }
    if not found:
        return None
    best = (max if more_is_better(key) else min)(found, key=lambda server: found[server])
    return best, found[best]


@dataclass(frozen=True)
class Goal:
    """One wish, and what this run shows."""

    text: str
    # What is held against the limit: a ratio, seconds or a share.
    value: float
    limit: float
    at_least: bool
    # Our figure and the best peer's, in words; empty where there is none.
    ours: str = ""
    peer: str = ""

    def cells(self) -> list[str]:
        """A row of the table."""
        limit = f"at {'least' if self.at_least else 'most'} {self.limit:g}"
        return [self.text, self.ours, self.peer, f"{self.value:.3g}", limit, self.outcome()]

    def outcome(self) -> str:
        """Met, or by how much it is missed, in percent of the limit."""
        short = (self.limit - self.value) / self.limit * (1 if self.at_least else -1)
        return "met" if short <= 0 else f"missed by {100 * short:.0f} %"


def goals(document: Mapping[str, Any]) -> list[Goal]:
    """The project's goals that the figures of this run speak of."""
    middle = medians(document["rounds"])
    ours = middle.get(_OURS, {})
    found = [
        goal
        for text, key, limit, family in _ratios(document["model"]["bits"] < _FEW_BITS)
        if (goal := _against(middle, text, key, limit, family)) is not None
    ]
    return found + _sampling(ours) + _alone(document, ours)


def _ratios(few_bits: bool) -> Iterable[tuple[str, str, float, str]]:
    """(text, key, limit of the ratio to the best peer, which peers)."""
    yield "prefill 512", "prefill 512 tok_s", 1.4, ""
    yield "prefill 2048", "prefill 2048 tok_s", 1.4, ""
    for kind in ("greedy", "sampled"):
        text = f"decode, 1 stream, {kind}, over llama.cpp"
        yield text, f"decode 1 {kind} tok_s", 1.3 if few_bits else 1.25, "llama.cpp"
        for streams, limit in ((4, 2.0), (8, 2.5), (16, 2.5)):
            key = f"decode {streams} {kind} tok_s"
            yield f"decode, {streams} streams, {kind}", key, limit, ""
    yield "shared prefix, cold", "prefix cold_s", 0.5, ""
    yield "shared prefix, warm", "prefix warm_s", 0.5, ""


def _against(middle: Medians, text: str, key: str, limit: float, family: str) -> Goal | None:
    peer = best_peer(middle, key, family)
    own = middle.get(_OURS, {}).get(key)
    if peer is None or own is None:
        return None
    words = f"{peer[1]:.4g} ({peer[0]})"
    return Goal(text, own / peer[1], limit, more_is_better(key), f"{own:.4g}", words)


def _sampling(ours: Mapping[str, float]) -> list[Goal]:
    found = []
    for streams in (16, 32):
        greedy, sampled = (
            ours.get(f"decode {streams} {kind} tok_s") for kind in ("greedy", "sampled")
        )
        if greedy and sampled:
            share = max(0.0, 1 - sampled / greedy)
            words = f"{sampled:.4g} and {greedy:.4g} tokens/s"
            text = f"share of sampling in a step, {streams} streams"
            found.append(Goal(text, share, 0.05, False, words))
    return found


def _alone(document: Mapping[str, Any], ours: Mapping[str, float]) -> list[Goal]:
    """What is measured against the machine or the clock, not against a peer."""
    model, roof = document["model"], document.get("roof", {}).get("int8_gops", 0)
    found = []
    for kind in ("greedy", "sampled"):
        speed = ours.get(f"decode 32 {kind} tok_s")
        if speed and roof:
            most = roof * 1e9 / (2 * model["weights"])
            words, peer = f"{speed:.4g}", f"{most:.4g} (the roof)"
            text = f"decode, 32 streams, {kind}, of the arithmetic roof"
            found.append(Goal(text, speed / most, 0.6, True, words, peer))
    if gap := ours.get("mixed gap_s"):
        best = best_peer(medians(document["rounds"]), "mixed gap_s")
        words = f"{best[1]:.4g} ({best[0]})" if best else ""
        found.append(Goal("longest gap, mixed, s", gap, 0.3, False, f"{gap:.4g}", words))
    beside, alone = (ours.get(key) for key in ("mixed prefill_tok_s", "prefill 2048 tok_s"))
    if beside and alone:
        words = f"{beside:.4g} and {alone:.4g}"
        found.append(Goal("prefill, mixed, of its speed alone", beside / alone, 0.85, True, words))
    rounds = document["rounds"].get(_OURS) or [{}]
    if ready := rounds[-1].get("ready_s"):
        text = f"from start to ready, s, start {len(rounds)} (goal: second, 0.6B, 8 bit)"
        found.append(Goal(text, ready, 1.5, False, f"{ready:.4g}"))
    if held := ours.get("memory_gb"):
        needed = (model["weight_bytes"] + model["kv_memory"]) / 1e9
        text = "resident memory, of weights and KV"
        found.append(
            Goal(text, held / needed, 1.15, False, f"{held:.3g}", f"{needed:.3g} (needed)")
        )
    return found


def table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown, ragged as it comes."""
    head = [*heads]
    lines = [head, ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def figures(middle: Medians) -> str:
    """Every figure of every server, and the ratio of ours to the best peer's."""
    keys = list(dict.fromkeys(key for figures in middle.values() for key in figures))
    rows = []
    for key in keys:
        shown = [f"{one[key]:.4g}" if key in one else _NOTHING for one in middle.values()]
        goal = _against(middle, key, key, 1, "")
        compared = key.endswith(("_s", "_gb"))
        rows.append([key, *shown, f"{goal.value:.2f}" if goal and compared else ""])
    return table(["", *middle, "ratio"], rows)


def render(document: Mapping[str, Any]) -> str:
    """The report as Markdown."""
    model, roof = document["model"], document.get("roof", {})
    versions = [f"- {name}: {text}" for name, text in document["versions"].items()]
    load = ", ".join(map(str, document["load_average"]))
    machine = f"{document['machine']}, load average before the run {load}"
    limits = (
        f"This machine, {document['threads']} threads: {roof['int8_gops']:.0f} GOP/s in int8 out "
        f"of registers, {roof['read_gbs']:.1f} GB/s read."
        if roof
        else ""
    )
    size = (
        f"{model['name']}: {model['weights'] / 1e6:.0f} M weights in products, "
        f"{model['bits']:.2f} bits each."
    )
    heads = ["", "ours", "best peer", "value", "goal", ""]
    parts = [
        f"# Engines side by side: {model['name']}",
        f"{document['date']}, {machine}. `{document['command']}`",
        "\n".join(versions),
        " ".join(filter(None, [size, limits])),
        _EXPLANATION,
        "## Goals",
        table(heads, (goal.cells() for goal in goals(document))),
        "## All figures",
        figures(medians(document["rounds"])),
    ]
    if document["failures"]:
        parts += ["## What failed", "\n".join(f"- {line}" for line in document["failures"])]
    return "\n\n".join(part.rstrip("\n") for part in parts) + "\n"


def main() -> None:
    """The command."""
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    path = Path(sys.argv[1])
    path.with_suffix(".md").write_text(render(json.loads(path.read_text())))


if __name__ == "__main__":
    main()
