"""What is asked of an engine's parser, with one that needs no engine."""

from __future__ import annotations

import argparse
from typing import Any

import pytest

from benchmarks.engine_parsers import problems


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser()
    made.add_argument("--size", "-s", type=int)
    made.add_argument("--tp-size", type=int)
    made.add_argument("--kind", choices=["a", "b"])
    made.add_argument("--cache", action=argparse.BooleanOptionalAction)
    made.add_argument("--plain", action="store_true")
    return made


def option(kind: str, on: str, off: str = "", name: str = "x") -> dict[str, Any]:
    return {"name": name, "type": kind, "on": on.split(), "off": off.split()}


@pytest.mark.parametrize(
    "good",
    [
        option("int", "--size -s"),
        # The beginning of one flag alone.
        option("int", "--tp"),
        option("text", "--kind"),
        option("switch", "--cache", "--no-cache"),
        option("switch", "--plain"),
    ],
)
def test_what_the_parser_takes(parser: argparse.ArgumentParser, good: dict[str, Any]) -> None:
    assert problems(parser, good) == []


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        (option("int", "--sise"), "--sise: unknown"),
        (option("text", "--size"), "invalid int value"),
        (option("int", "--size --tp-size"), "different things"),
        (option("switch", "--size"), "takes a value"),
        (option("int", "--plain"), "unrecognized arguments: 2"),
        (option("switch", "--cache", "--no-plain"), "--no-plain: unknown"),
    ],
)
def test_what_it_does_not(parser: argparse.ArgumentParser, bad: dict[str, Any], words: str) -> None:
    assert words in "; ".join(problems(parser, bad))
