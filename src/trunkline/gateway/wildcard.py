"""Names with a `*`: a route called ``openai/*`` answers to every name that begins with ``openai/``.

In the model of a target, `*` stands for what the route's `*` stood for.
"""

from __future__ import annotations


def match(pattern: str, name: str) -> str | None:
    """What the one `*` in `pattern` stands for in `name`; None when the name does not fit."""
    head, star, tail = pattern.partition("*")
    if not star or len(name) < len(head) + len(tail):
        return None
    if not (name.startswith(head) and name.endswith(tail)):
        return None
    return name[len(head) : len(name) - len(tail)]


def fill(model: str, matched: str) -> str:
    """The model to ask for, with what `match` returned."""
    return model.replace("*", matched, 1)


def most_specific(patterns: list[str]) -> list[str]:
    """The patterns in the order in which they should be tried: longest text first."""
    return sorted(patterns, key=len, reverse=True)
