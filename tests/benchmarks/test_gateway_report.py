"""The arithmetic and the layout of the gateways' comparison."""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gateway import report


def _round(rps: float, **more: float) -> dict[str, float]:
    return {"1 KB 16 rps": rps, **more}


@pytest.fixture
def document() -> dict[str, Any]:
    rounds = {
        "direct": [_round(20_000)],
        "trunkline": [
            _round(9_000, **{"1 KB 1 added_us": 200.0, "full cpu_us": 12.34, "full foreign": 0.5}),
            _round(3_000, **{"1 KB 1 added_us": 100.0, "full cpu_us": 10.0, "full foreign": 0.1}),
            _round(6_000, **{"1 KB 1 added_us": 150.0, "full cpu_us": 11.0, "full foreign": 0.2}),
        ],
        "vllm-router": [_round(1_500)],
        "sglang-router": [_round(2_000)],
        "litellm": [_round(30)],
        # Every repetition failed.
        "nginx": [],
    }
    return {
        "command": "python -m benchmarks.gateway.compare --reps 3",
        "date": "2026-01-02",
        "machine": "2 cores",
        "load_average": [0.1, 0.2, 0.3],
        "load": "wrk",
        "versions": {"direct": "", "litellm": "litellm 1.0, 1 worker"},
        "rounds": rounds,
    }


def test_medians_take_the_repetitions_that_have_a_figure() -> None:
    rounds = {"a": [{"x": 1.0, "y": 5.0}, {"x": 9.0}, {"x": 2.0}], "b": []}
    assert report.medians(rounds) == {"a": {"x": 2.0, "y": 5.0}, "b": {}}


def test_ratios_are_of_medians_and_name_the_fastest_router(document: dict[str, Any]) -> None:
    found = report.ratios(report.medians(document["rounds"]), "1 KB 16 rps")
    assert found == {
        "direct": 0.3,
        "vllm-router": 4.0,
        "sglang-router": 3.0,
        "litellm": 200.0,
        "fastest Rust router": 3.0,
    }


def test_no_ratio_without_us_or_without_anybody_else() -> None:
    assert report.ratios({"litellm": {"rps": 3.0}}, "rps") == {}
    assert report.ratios({"trunkline": {"rps": 3.0}, "litellm": {"rps": 0.0}}, "rps") == {}


def test_report(document: dict[str, Any]) -> None:
    text = report.render(document)
    assert "requests/s, 1 KB, 16 connections, over fastest Rust router | 3.00" in text
    assert "requests/s, 1 KB, 16 connections, over litellm | 200.00 | at least 150" in text
    assert "| added p50 at one connection, 1 KB, us | 150 | at most 250 |" in text
    assert "| trunkline | – | 6,000 (3,000–9,000) | – | – | – | – |" in text
    assert "| trunkline | – | 11.0 (10.0–12.3) |" in text
    assert "| trunkline | 0.50 | 0.20 |" in text
    assert "- litellm: litellm 1.0, 1 worker\n" in text
    assert "- direct" not in text
    assert "| nginx |" not in text
    # Every line of a table has as many cells as the one above.
    lines = ["", *text.splitlines()]
    widths = [(above.count("|"), line.count("|")) for above, line in pairwise(lines)]
    assert all(above in (0, here) for above, here in widths if here)


def test_the_report_is_written_anew_from_the_figures(
    tmp_path: Path, document: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    figures = tmp_path / "figures.json"
    figures.write_text(json.dumps(document))
    monkeypatch.setattr(sys, "argv", ["report", str(figures)])
    report.main()
    assert figures.with_suffix(".md").read_text() == report.render(document)
