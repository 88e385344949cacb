"""The arithmetic and the layout of the engines' comparison."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.engine import report


@pytest.fixture
def document() -> dict[str, Any]:
    ours = {
        "ready_s": 1.2,
        "prefill 512 tok_s": 400.0,
        "prefill 2048 tok_s": 300.0,
        "decode 1 greedy tok_s": 30.0,
        "decode 32 greedy tok_s": 300.0,
        "decode 32 sampled tok_s": 270.0,
        "mixed gap_s": 0.45,
        "mixed prefill_tok_s": 270.0,
        "prefix cold_s": 5.0,
        "memory_gb": 3.0,
    }
    rounds = {
        "trunkline": [ours | {"ready_s": 9.0}, ours],
        "trunkline --executor ggml": [{"prefill 512 tok_s": 9000.0}],
        "llama.cpp-native": [{"prefill 512 tok_s": 100.0, "decode 1 greedy tok_s": 25.0}],
        "openvino": [
            {"prefill 512 tok_s": 200.0, "decode 1 greedy tok_s": 40.0, "prefix cold_s": 8.0},
            {"prefill 512 tok_s": 300.0, "mixed gap_s": 4.0},
        ],
        # It never started.
        "vllm": [],
    }
    return {
        "command": "python -m benchmarks.engine.compare",
        "date": "2026-01-01",
        "machine": "2 cores",
        "threads": 2,
        "load_average": [0.1, 0.2, 0.3],
        "model": {
            "name": "m-q8_0",
            "weights": 500_000_000,
            "weight_bytes": 1_000_000_000,
            "bits": 8.5,
            "kv_memory": 1_000_000_000,
        },
        "roof": {"int8_gops": 600.0, "read_gbs": 20.0},
        "versions": {"trunkline": "Trunkline", "openvino": "openvino-genai 1"},
        "rounds": rounds,
        "failures": ["start, vllm: RuntimeError no"],
    }


def test_goals(document: dict[str, Any]) -> None:
    found = {goal.text: goal for goal in report.goals(document)}
    values = {text: goal.value for text, goal in found.items()}
    assert values == pytest.approx(
        {
            # The median of openvino's two rounds is the best peer's; our other executor is none.
            "prefill 512": 400 / 250,
            # openvino is faster, and not what this goal is held against.
            "decode, 1 stream, greedy, over llama.cpp": 30 / 25,
            "shared prefix, cold": 5 / 8,
            "share of sampling in a step, 32 streams": 0.1,
            "decode, 32 streams, greedy, of the arithmetic roof": 0.5,
            "decode, 32 streams, sampled, of the arithmetic roof": 0.45,
            "longest gap, mixed, s": 0.45,
            "prefill, mixed, of its speed alone": 0.9,
            "from start to ready, s, start 2 (goal: second, 0.6B, 8 bit)": 1.2,
            "resident memory, of weights and KV": 1.5,
        }
    )
    outcomes = {text: goal.outcome() for text, goal in found.items()}
    assert outcomes["prefill 512"] == "met"
    assert outcomes["decode, 1 stream, greedy, over llama.cpp"] == "missed by 4 %"
    assert outcomes["shared prefix, cold"] == "missed by 25 %"
    assert outcomes["longest gap, mixed, s"] == "missed by 50 %"
    assert outcomes["prefill, mixed, of its speed alone"] == "met"
    assert "250 (openvino)" in found["prefill 512"].peer
    assert "4 (openvino)" in found["longest gap, mixed, s"].peer


def test_the_goal_of_one_stream_depends_on_the_bits(document: dict[str, Any]) -> None:
    def limit() -> float:
        goals = report.goals(document)
        return next(goal.limit for goal in goals if goal.text.startswith("decode, 1 stream"))

    assert limit() == 1.25
    document["model"]["bits"] = 4.5
    assert limit() == 1.3


def test_what_was_not_measured_has_no_goal(document: dict[str, Any]) -> None:
    document["roof"] = {}
    document["rounds"] = {"trunkline": [{"prefill 512 tok_s": 1.0}]}
    assert report.goals(document) == []
    assert "| prefill 512 tok_s | 1 |  |" in report.render(document)


def test_the_report_is_written_anew(
    document: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "figures.json"
    path.write_text(json.dumps(document))
    monkeypatch.setattr(sys, "argv", ["report", str(path)])
    report.main()
    text = path.with_suffix(".md").read_text()
    assert "600 GOP/s" in text
    assert "start, vllm: RuntimeError no" in text
    lines = text.splitlines()
    # Ours to the best peer's, and a dash where a server has no figure.
    assert "| prefill 512 tok_s | 400 | 9000 | 100 | 250 | – | 1.60 |" in lines
    assert "| prefix cold_s | 5 | – | – | 8 | – | 0.62 |" in lines
    rows = [line.count("|") for line in lines if line.startswith("|")]
    assert set(rows) == {7, 8}
