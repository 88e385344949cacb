"""Translates and tries grammars in a process of its own (`engine.bounded_worker`).

What passes here is safe in the core, which compiles the same source under the same limits of
llguidance.
"""

from __future__ import annotations

import random
import re

from llguidance import LLMatcher, LLTokenizer

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Grammar
from trunkline.engine.bounded_worker import serve
from trunkline.engine.grammar.messages import Check, Configure
from trunkline.engine.grammar.vocabulary import limits, outline_tokenizer
from trunkline.text.grammar import to_llguidance
from trunkline.text.json_schema import SUPPORTED

# Texts begun at random to see whether the grammar is too complex to be followed, and their bytes.
_WALKS = 3
_WALK_BYTES = 24
# Longest part of a message of llguidance that is shown.
_MAX_REASON = 400

_UNIMPLEMENTED = re.compile(r"Unimplemented keys: \[(.*)\]")
_COMPLEX = re.compile(r"[Tt]oo many|[Tt]oo complex|max is|limit|too large|fuel")


def checked(grammar: Grammar, tokenizer: LLTokenizer) -> str:
    """The llguidance source of `grammar`. Raises `InvalidRequest`."""
    source = to_llguidance(grammar)
    matcher = LLMatcher(tokenizer, source, log_level=0, limits=limits())
    _raise_error(matcher, grammar)
    if not _allowed(matcher, grammar) and not matcher.is_accepting():
        raise InvalidRequest(f"the {grammar.kind} matches no text", param=grammar.kind)
    for walk in range(_WALKS):
        _walk(matcher.deep_copy(), grammar, random.Random(walk))
    return source


def _walk(matcher: LLMatcher, grammar: Grammar, choose: random.Random) -> None:
    for _ in range(_WALK_BYTES):
        allowed = _allowed(matcher, grammar)
        if not allowed or matcher.is_stopped():
            return
        matcher.consume_token(choose.choice(allowed))
        _raise_error(matcher, grammar)


def _allowed(matcher: LLMatcher, grammar: Grammar) -> list[int]:
    """Ids of the tokens that may come next."""
    mask = matcher.compute_bitmask()
    _raise_error(matcher, grammar)
    return [
        8 * index + bit
        for index, byte in enumerate(mask)
        if byte
        for bit in range(8)
        if byte >> bit & 1
    ]


def _raise_error(matcher: LLMatcher, grammar: Grammar) -> None:
    if not matcher.is_error():
        return
    reason = matcher.get_error().strip()
    kind = grammar.kind
    if found := _UNIMPLEMENTED.search(reason):
        why = f"uses {found[1]}, which is not supported; supported are: {', '.join(SUPPORTED)}"
    elif reason.startswith("NoExtension"):
        why = "matches no text"
    elif _COMPLEX.search(reason):
        why = f"is too complex: {_short(reason)}"
    else:
        why = f"cannot be used: {_short(reason)}"
    raise InvalidRequest(f"the {kind} {why}", param=kind)


def _short(reason: str) -> str:
    """Without the excerpt of our translation that llguidance adds."""
    lines = [line for line in reason.splitlines() if not re.match(r"\s*(\d+ \||\^)", line)]
    return " ".join(" ".join(lines).split())[:_MAX_REASON]


class _Worker:
    def __init__(self) -> None:
        self._tokenizer: LLTokenizer | None = None

    def answer(self, message: Configure | Check) -> str:
        """Raises `InvalidRequest`."""
        if isinstance(message, Configure):
            self._tokenizer = outline_tokenizer(message.outline)
            return ""
        assert self._tokenizer is not None, "the vocabulary comes first"
        return checked(message.grammar, self._tokenizer)


if __name__ == "__main__":
    serve(Configure | Check, _Worker().answer)
