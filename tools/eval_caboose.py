#!/usr/bin/env python3
"""Measures caboose on prompts that its training never showed.

The GGUF itself is run, through libllama (the `xllamacpp` wheel), greedily. Prompts come from the
generators of the training text, but only those whose facts are held out: the two numbers of a
sum, all values of a JSON object, a tool's name. That no prompt was trained on is checked as well,
by generating the training text again. Exits with 1 when a threshold is missed.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from caboose.corpus.mix import examples
from caboose.exam import FAMILIES, Family, Question, questions, readme_examples
from caboose.files import write_json
from caboose.serve import Engine, serving
from caboose.template import prompt

BUNDLED = Path(__file__).resolve().parent.parent / "src/trunkline/models_bundled/caboose.gguf"
STOPS_THRESHOLD = 0.99


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path, nargs="?", default=BUNDLED, help="the GGUF to measure")
    parser.add_argument("--count", type=int, default=200, help="prompts per family (default 200)")
    parser.add_argument("--seed", type=int, default=1, help="seed of the exam (default 1)")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads (default 2)")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument(
        "--card", action="store_true", help="also put the figures into the card beside the model"
    )
    parser.add_argument("--show", type=int, default=3, help="wrong answers to show per family")
    parser.add_argument("--only", help="only families whose name contains this text")
    return parser.parse_args(argv)


def seen_in_training(card: Path, asked: set[str]) -> set[str]:
    """Which of the prompts the training text contains (of every stream)."""
    facts = json.loads(card.read_text(encoding="utf-8"))
    seen: set[str] = set()
    for stream, count in facts["training_examples"].items():
        for example in itertools.islice(examples(facts["seed"], stream=stream), count):
            if example.messages:
                seen.add(prompt(example))
    return seen & asked


def measure(engine: Engine, family: Family, asked: list[Question], show: int) -> dict[str, Any]:
    """One family's figures; prints its row and its first wrong answers."""
    right = stopped = 0
    wrong: list[tuple[Question, str]] = []
    for question, answer in zip(asked, engine.answer_all([q.prompt for q in asked]), strict=True):
        stopped += answer.stopped
        if family.right(answer.text, question.wanted):
            right += 1
        else:
            wrong.append((question, answer.text))
    count = len(asked)
    passed = right / count >= family.threshold
    needed = f"{family.threshold:.0%}" if family.threshold else ""
    mark = "" if passed else "  MISSED"
    print(f"{family.name:38} {right / count:7.1%} {needed:>6} {stopped / count:9.1%}{mark}")
    for question, text in wrong[:show]:
        print(f"    asked  {question.prompt[-200:]!r}\n    wanted {question.wanted!r}")
        print(f"    said   {text[:200]!r}")
    return {
        "right": round(right / count, 4),
        "needed": family.threshold,
        "stopped": round(stopped / count, 4),
        "count": count,
        "passed": passed,
    }


def main(argv: list[str] | None = None) -> int:
    """Runs the exam; 0 when every threshold is met."""
    arguments = parse_arguments(argv)
    families = [f for f in FAMILIES if not arguments.only or arguments.only in f.name]
    exam = {f.name: questions(f, arguments.seed, arguments.count) for f in families}
    card = arguments.model.with_suffix(".json")
    leaked = seen_in_training(card, {q.prompt for asked in exam.values() for q in asked})
    # Small talk and no-call prompts hold no fact; the ones that training shows are not counted.
    for name, asked in exam.items():
        exam[name] = [q for q in asked if q.prompt not in leaked]
    figures: dict[str, Any] = {"seed": arguments.seed, "families": {}}
    print(f"{'':38} {'right':>7} {'needed':>6} {'stopped':>9}")
    with serving(arguments.model, arguments.threads) as engine:
        for family in families:
            row = measure(engine, family, exam[family.name], arguments.show)
            figures["families"][family.name] = row
        print("\nThe README's prompts:")
        figures["readme"] = []
        for example in readme_examples():
            said = engine.answer(prompt(example)).text
            text = example.messages[0]["content"]
            with_tool = " [tool: get_weather]" if example.tools else ""
            print(f"  {text}{with_tool}\n    {said!r}")
            figures["readme"].append({"prompt": text + with_tool, "answer": said})
    rows = figures["families"].values()
    total = sum(row["count"] for row in rows)
    stops = sum(row["stopped"] * row["count"] for row in rows) / total
    figures["stops_by_itself"] = round(stops, 4)
    figures["prompts_left_out_as_trained"] = len(leaked)
    figures["passed"] = stops >= STOPS_THRESHOLD and all(row["passed"] for row in rows)
    print(f"\nstops by itself {stops:.2%} of {total} (needed {STOPS_THRESHOLD:.0%});")
    print(f"prompts left out because training shows them: {len(leaked)}")
    if arguments.json:
        write_json(arguments.json, figures)
    if arguments.card:
        facts = json.loads(card.read_text(encoding="utf-8"))
        digest = hashlib.sha256(arguments.model.read_bytes()).hexdigest()
        if facts["sha256"] != digest:
            print(f"{card} describes another file: sha256 differs", file=sys.stderr)
            return 1
        write_json(card, {**facts, "evaluation": figures})
    return 0 if figures["passed"] else 1


if __name__ == "__main__":
    sys.exit(main())
