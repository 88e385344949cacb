"""Names with `*`: a route called ``openai/*`` answers to every name that begins with ``openai/``.

In the model of a target, each `*` stands for what the route's `*` of the same number stood for, as
in LiteLLM's router (router_utils/pattern_match_deployments.py).
"""

from __future__ import annotations


def match(pattern: str, name: str) -> tuple[str, ...] | None:
    """What each `*` in `pattern` stands for in `name`; None when the name does not fit.

    An earlier `*` takes as much as it can. Nothing is tried twice: a long name costs little.
    """
    head, *between = pattern.split("*")
    if not between or not name.startswith(head):
        return None
    found: list[str] = []
    tail = between.pop()
    end = len(name) - len(tail)
    if end < len(head) or not name.endswith(tail):
        return None
    # From the right: where a later piece stands last, the earlier ones have the most room.
    for piece in reversed(between):
        at = name.rfind(piece, len(head), end)
        if at < 0:
            return None
        found.append(name[at + len(piece) : end])
        end = at
    return (name[len(head) : end], *reversed(found))


def fill(model: str, matched: tuple[str, ...], name: str) -> str:
    """The model to ask for, with what `match` returned of `name`.

    A model with fewer `*` than the route, but one, cannot say which it means: `name` is asked for.
    """
    head, *pieces = model.split("*")
    if 0 < len(pieces) < len(matched):
        return name
    # A `*` for which the route has none stays what it is.
    texts = (*matched, *("*" * (len(pieces) - len(matched))))
    return head + "".join(text + piece for text, piece in zip(texts, pieces, strict=False))


def most_specific(patterns: list[str]) -> list[str]:
    """The patterns in the order in which they should be tried: longest text first."""
    return sorted(patterns, key=len, reverse=True)
