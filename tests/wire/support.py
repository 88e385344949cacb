"""Events for codecs to render, and what is common to tests of codecs."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from trunkline.core.types import Delta, Event, Request, RowFinished, Timing, TokenLogprob, Usage
from trunkline.wire.codec import Answer

GOLDEN = Path(__file__).parent / "golden"
ANSWER = Answer("req-1", "m", 1_700_000_000, "fp")
USAGE = Usage(7, 3, 2)
TIMING = Timing(0.5, 0.25, 1.0)


class Asking(Protocol):
    """A decoded call."""

    def requests(self, request_id: str, model: str, tenant: str, /) -> tuple[Request, ...]:
        """What it asks for."""


def is_refused_here(asked: Asking, name: str) -> None:
    """Assert that each request has words that refuse `name`, and nothing else."""
    for request in asked.requests("r", "m", ""):
        assert list(request.beyond) == [name]
        assert name in request.beyond[name]


def token(text: str | bytes, token_id: int, logprob: float = -0.5, top: int = 0) -> TokenLogprob:
    """A token with `top` alternatives, the first of them itself."""
    data = text.encode() if isinstance(text, str) else text
    shown = data.decode(errors="replace")
    others = tuple((f"alt{i}", b"alt%d" % i, 900 + i, logprob - i) for i in range(1, top))
    best = ((shown, data, token_id, logprob), *others) if top else ()
    return TokenLogprob(shown, data, token_id, logprob, best)


def delta(text: str, *tokens: TokenLogprob, row: int = 0) -> Delta:
    """More output with its tokens."""
    ids = tuple(one.token_id for one in tokens)
    return Delta("r", row, text, ids, tokens or None)


def end(hidden: TokenLogprob | None = None, row: int = 0) -> Event:
    """The row ends with a token that is not shown."""
    token_id = hidden.token_id if hidden is not None else None
    return RowFinished("r", row, "stop", None, token_id, hidden)
