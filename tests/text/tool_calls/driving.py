"""Running a parser over text cut into pieces."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from tests.text.tool_calls.golden import TOOLS
from trunkline.text.tool_calls import Dialect, by_name
from trunkline.text.tool_calls.reader import (
    Arguments,
    CallEnd,
    CallStart,
    Parser,
    Piece,
    Reasoning,
    Text,
)
from trunkline.text.tool_calls.tools import Tools


class Read(NamedTuple):
    """What a parser made of an output."""

    text: str
    reasoning: str
    # Of each call: name, id, arguments, and whether it is complete.
    calls: tuple[tuple[str, str | None, str, bool], ...]

    @property
    def parsed(self) -> tuple[tuple[str, Any], ...]:
        """Names and arguments, decoded."""
        return tuple((name, json.loads(arguments)) for name, _, arguments, _ in self.calls)


def dialect(name: str) -> Dialect:
    """The dialect of that name, which must be there."""
    found = by_name(name)
    assert found is not None
    return found


def read(name: str, pieces: Iterable[str], tools: list[dict[str, Any]] = TOOLS) -> Read:
    """Feed `pieces` to a dialect's parser."""
    return collect(dialect(name).parser(Tools(tools)), pieces)


def collect(parser: Parser, pieces: Iterable[str]) -> Read:
    """Feed `pieces` to a parser and put together what comes out."""
    out: list[Piece] = []
    for piece in pieces:
        out += parser.feed(piece)
    out += parser.finish()
    text = reasoning = ""
    calls: list[tuple[str, str | None, str, bool]] = []
    for item in out:
        match item:
            case Text(more):
                text += more
            case Reasoning(more):
                reasoning += more
            case CallStart(name, call_id):
                calls.append((name, call_id, "", False))
            case Arguments(more):
                name, call_id, so_far, ended = calls[-1]
                assert not ended, "arguments behind the end of their call"
                calls[-1] = (name, call_id, so_far + more, False)
            case CallEnd():
                assert not calls[-1][3], "a call ended twice"
                calls[-1] = (*calls[-1][:3], True)
    return Read(text, reasoning, tuple(calls))
