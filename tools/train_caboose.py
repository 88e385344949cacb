#!/usr/bin/env python3
"""Trains caboose, the tiny demo and test model that Trunkline bundles.

Everything is made here: the text is generated from a seed (tools/caboose/corpus), the byte-level
BPE is learnt from it, a Llama of 3.8 million parameters is trained on the CPU, and the result is
one GGUF file. Nothing is downloaded. The same seed gives the same corpus everywhere; the same
seed, thread count, torch version and processor type give the same weights.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from caboose.batches import Plan
from caboose.export import export, read_weights, round_to_file
from caboose.files import write_json
from caboose.layout import parameter_count
from caboose.model import SHAPE, Llama
from caboose.tokenizer import train_tokenizer
from caboose.trainer import Figures, Settings, second_round, train

BUNDLED = Path(__file__).resolve().parent.parent / "src/trunkline/models_bundled/caboose.gguf"
# Steps of the first and of the second round.
FULL_STEPS = 3200
SECOND_STEPS = 2600
QUICK_STEPS = 100


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=(
            "examples:\n"
            "  train_caboose.py                                the model that is bundled\n"
            "  train_caboose.py --quick --out /tmp/pilot.gguf  two minutes: does it learn at all?\n"
            "  eval_caboose.py /tmp/pilot.gguf                 how good is it?"
        ),
    )
    parser.add_argument("--out", type=Path, default=BUNDLED, help="the GGUF file to write")
    parser.add_argument("--seed", type=int, default=7, help="seed of text and weights (default 7)")
    parser.add_argument(
        "--steps", type=int, default=None, help=f"steps of the first round (default {FULL_STEPS})"
    )
    parser.add_argument(
        "--second-steps",
        type=int,
        default=None,
        help=f"steps of the second round (default {SECOND_STEPS})",
    )
    parser.add_argument(
        "--first-round",
        type=Path,
        help="go on from this file, which the first round wrote; its card lies beside it",
    )
    parser.add_argument(
        "--threads", type=int, default=2, help="CPU threads; part of the result (default 2)"
    )
    parser.add_argument(
        "--quick", action="store_true", help=f"a pilot of {QUICK_STEPS} steps, about two minutes"
    )
    parser.add_argument(
        "--checkpoints", action="store_true", help="also write the file every 200 steps"
    )
    arguments = parser.parse_args(argv)
    if arguments.steps is None:
        arguments.steps = QUICK_STEPS if arguments.quick else FULL_STEPS
    if arguments.second_steps is None:
        arguments.second_steps = 0 if arguments.quick else SECOND_STEPS
    return arguments


def card(arguments: argparse.Namespace, figures: Figures, seconds: float) -> dict[str, Any]:
    """What the file is and how it came to be."""
    command = f"python tools/train_caboose.py --seed {arguments.seed} --steps {arguments.steps}"
    return {
        "name": "caboose",
        "purpose": "demo and test model",
        "license": "Apache-2.0",
        "architecture": SHAPE.architecture,
        "parameters": parameter_count(SHAPE),
        "layers": SHAPE.layers,
        "hidden": SHAPE.hidden,
        "vocabulary": SHAPE.vocab,
        "context": SHAPE.context,
        "seed": arguments.seed,
        "steps": arguments.steps,
        "second_steps": arguments.second_steps,
        "threads": arguments.threads,
        "torch": torch.__version__,
        "command": (
            f"{command} --second-steps {arguments.second_steps} --threads {arguments.threads}"
        ),
        "training_tokens": figures.tokens,
        "training_examples": figures.drawn,
        "training_seconds": round(figures.seconds, 1),
        "training_processor_seconds": round(figures.processor_seconds, 1),
        "wall_seconds": round(seconds, 1),
        "final_loss": round(figures.loss, 4),
        "bytes": arguments.out.stat().st_size,
        "sha256": hashlib.sha256(arguments.out.read_bytes()).hexdigest(),
    }


def first_round(
    arguments: argparse.Namespace,
    model: Llama,
    tokenizer: Tokenizer,
    checkpoint: Callable[[int], None] | None,
) -> Figures:
    """Trains from nothing, or takes what an earlier call of this tool came to."""
    if arguments.first_round is None:
        settings = Settings(seed=arguments.seed, steps=arguments.steps, threads=arguments.threads)
        return train(model, tokenizer, settings, Plan(), checkpoint)
    read_weights(arguments.first_round, SHAPE, model)
    facts = json.loads(arguments.first_round.with_suffix(".json").read_text(encoding="utf-8"))
    if (facts["seed"], facts["steps"]) != (arguments.seed, arguments.steps):
        raise SystemExit("the first round had another seed or another number of steps")
    return Figures(
        facts["training_tokens"],
        facts["training_examples"],
        facts["training_seconds"],
        facts["training_processor_seconds"],
        facts["final_loss"],
    )


def wall_seconds(path: Path) -> float:
    """How long the first round took, by its card."""
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    return float(facts["wall_seconds"])


def main(argv: list[str] | None = None) -> None:
    """Generates, trains, writes the GGUF and its card."""
    arguments = parse_arguments(argv)
    started = time.monotonic()
    torch.use_deterministic_algorithms(True)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    print("learning the tokenizer ...", file=sys.stderr)
    tokenizer, data = train_tokenizer(arguments.seed)
    model = Llama(SHAPE)
    print(f"training {parameter_count(SHAPE) / 1e6:.2f} M parameters ...", file=sys.stderr)

    def checkpoint(_step: int) -> None:
        export(arguments.out, SHAPE, model, data)

    each = checkpoint if arguments.checkpoints else None
    figures = first_round(arguments, model, tokenizer, each)
    if arguments.second_steps:
        # As a file holds them, so that both ways to come here give the same.
        round_to_file(model)
        settings = second_round(arguments.seed, arguments.second_steps, arguments.threads)
        figures = figures.plus(train(model, tokenizer, settings, Plan(), each))
    export(arguments.out, SHAPE, model, data)
    seconds = time.monotonic() - started
    if arguments.first_round is not None:
        seconds += json.loads(arguments.first_round.with_suffix(".json").read_text())[
            "wall_seconds"
        ]
    written = card(arguments, figures, seconds)
    write_json(arguments.out.with_suffix(".json"), written)
    print(json.dumps(written, indent=2))


if __name__ == "__main__":
    main()
