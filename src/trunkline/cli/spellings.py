"""The flags of other servers, turned into ours: ``--max-model-len``, ``-np``, ``--num-shard``.

What they mean is in `residency.engine_table`. A flag of an option that we do not have is refused,
with what to use instead; one that asks for what we do anyway is dropped.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from trunkline.cli.errors import UsageError
from trunkline.engine.config import EngineConfig
from trunkline.residency.engine_options import Spelling, canonical
from trunkline.residency.engine_table import ALWAYS

_ON = frozenset({"1", "true", "yes", "on"})
_OFF = frozenset({"0", "false", "no", "off"})


def translate(arguments: Sequence[str], parser: argparse.ArgumentParser) -> list[str]:
    """The same arguments, with foreign flags replaced. Raises `UsageError`."""
    known = {flag for action in parser._actions for flag in action.option_strings}
    found: list[str] = []
    rest = list(arguments)
    concurrent: tuple[str, str] | None = None
    while rest:
        argument = rest.pop(0)
        flag, equals, value = argument.partition("=")
        spelling = None if flag in known or argument == "--" else canonical(flag)
        if argument == "--":
            return [*_bounded(found, concurrent), argument, *rest]
        if spelling is None:
            found.append(argument)
        elif spelling.option.type == "switch":
            found += _switch(flag, spelling, value if equals else _next_truth(rest))
        else:
            if not equals:
                if not rest:
                    raise UsageError(f"{flag}: expected one argument")
                value = rest.pop(0)
            if spelling.option.ours == "max_concurrent_requests":
                concurrent = (flag, value)
            else:
                found += _value(flag, spelling, value)
    return _bounded(found, concurrent)


def _next_truth(rest: list[str]) -> str:
    """A truth that follows a switch, as in ``--sharded false``; taken out of `rest`."""
    if rest and rest[0].lower() in ("true", "false"):
        return rest.pop(0)
    return ""


def _switch(flag: str, spelling: Spelling, value: str) -> list[str]:
    option = spelling.option
    if value and value.lower() not in _ON | _OFF:
        raise UsageError(f"{flag}: expected true or false, not {value!r}")
    is_on = (value.lower() not in _OFF) != spelling.contrary
    if option.ours == ALWAYS:
        if not is_on:
            raise UsageError(f"{flag}: cannot be turned off here: {option.description}")
        return []
    if not option.ours:
        raise UsageError(f"{flag}: {option.instead}")
    return [f"--{'' if is_on else 'no-'}{option.ours.replace('_', '-')}"]


def _value(flag: str, spelling: Spelling, value: str) -> list[str]:
    option = spelling.option
    if not option.ours:
        raise UsageError(f"{flag}: {option.instead}")
    if option.ours == "model":
        return [value]
    return [f"--{option.ours.replace('_', '-')}", value]


def _bounded(arguments: list[str], concurrent: tuple[str, str] | None) -> list[str]:
    """A bound of all requests turned into those that are computed and those that wait."""
    if concurrent is None:
        return arguments
    flag, text = concurrent
    if not text.isdecimal() or int(text) < 1:
        raise UsageError(f"{flag}: expected a whole number of at least 1, not {text!r}")
    if any(name.startswith("--max-queue") for name in arguments):
        raise UsageError(f"{flag}: --max-queue is given as well; leave one of them out")
    rows = EngineConfig(name="", model="").max_num_seqs
    for name, value in zip(arguments, [*arguments[1:], ""], strict=True):
        given = value if name == "--max-num-seqs" else name.partition("--max-num-seqs=")[2]
        rows = int(given) if given.isdecimal() else rows
    rows = min(rows, int(text))
    return [*arguments, "--max-num-seqs", str(rows), "--max-queue", str(int(text) - rows)]
