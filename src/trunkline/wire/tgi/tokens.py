"""Tokens with their texts, so that the texts of all but the special ones make up the answer.

Clients that stream show `token.text` of each event and nothing else.
"""

from __future__ import annotations

import codecs
import math
from collections.abc import Sequence

import msgspec

from trunkline.core.types import Delta, RowFinished, TokenLogprob

# What stands where a log probability cannot be said; JSON has no infinity.
_UNLIKELY = -9999.0


class Token(msgspec.Struct):
    """`Token` of TGI's schema."""

    id: int
    text: str
    logprob: float
    special: bool


class Step(msgspec.Struct):
    """One generated token and the best alternatives at its place."""

    token: Token
    top: list[Token]


class Steps:
    """Tells the tokens of one row.

    Invariant: the texts of the tokens told so far that are not special, joined, are the row's text
    up to `_carried`, text that came without the token it is part of.
    """

    def __init__(self) -> None:
        self._carried = ""
        # Some backends tell no tokens: each piece of their text is one.
        self._told = False

    def take(self, delta: Delta) -> list[Step]:
        """The tokens of `delta`.

        A token whose bytes do not occur in the text is a special one that was left out of it.
        """
        text = self._carried + delta.reasoning + delta.text
        logprobs = delta.logprobs or ()
        self._told = self._told or bool(logprobs or delta.token_ids)
        if not self._told:
            return [Step(Token(0, text, 0.0, False), [])] if text else []
        self._carried = "" if logprobs else text
        texts = _texts(text, [one.data for one in logprobs])
        return [
            _step(one, one.token if shown is None else shown, special=shown is None)
            for one, shown in zip(logprobs, texts, strict=True)
        ]

    def finish(self, finished: RowFinished) -> list[Step]:
        """The token that ended the text and is no part of it, if one did."""
        last = finished.logprob
        found = [] if last is None else [_step(last, last.token, special=True)]
        if self._carried:
            found.insert(0, Step(Token(0, self._carried, 0.0, False), []))
        return found


def _step(one: TokenLogprob, text: str, *, special: bool) -> Step:
    top = [Token(token, text, finite(value), False) for text, _, token, value in one.top]
    return Step(Token(one.token_id, text, finite(one.logprob), special), top)


def _texts(text: str, pieces: Sequence[bytes]) -> list[str | None]:
    """What each piece adds to `text`, in characters that it completes; None: it is left out."""
    rest = text.encode(errors="surrogatepass")
    decoder = codecs.getincrementaldecoder("utf-8")(errors="surrogatepass")
    texts: list[str | None] = []
    for index, piece in enumerate(pieces):
        last = index == len(pieces) - 1
        if piece and rest.startswith(piece):
            texts.append(decoder.decode(piece))
            rest = rest[len(piece) :]
        elif last and rest and piece.startswith(rest):
            # A stop sequence ended within this token.
            texts.append(decoder.decode(rest))
            rest = b""
        else:
            texts.append(None)
    if not rest and not decoder.getstate()[0]:
        return texts
    # Text and bytes differ (a leading space that is not shown, bytes that are no UTF-8).
    whole: list[str | None] = [""] * len(pieces)
    if whole:
        whole[-1] = text
    return whole


def finite(logprob: float) -> float:
    """`logprob`, or what stands for one that JSON cannot say."""
    return logprob if math.isfinite(logprob) else _UNLIKELY
