"""Responses of TGI's generating routes: an object, a list of one object, or events per token.

Shapes: `router/src/lib.rs` and `router/src/server.rs` (TGI db931fc, 2026-01-08). The last event of
a stream is that of the last token; so the newest token waits until it is known whether the row goes
on, but never longer than the batch of events it came in.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import (
    Delta,
    Event,
    PromptToken,
    PromptTokens,
    RowFinished,
    Timing,
    Usage,
)
from trunkline.wire.one_line import Encoder
from trunkline.wire.tgi.tokens import Step, Steps, Token, finite

encoder = Encoder()


class _PrefillToken(msgspec.Struct):
    id: int
    text: str
    # null: nothing comes before it.
    logprob: float | None


class _Sequence(msgspec.Struct):
    generated_text: str
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[_PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | UnsetType = UNSET


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[_PrefillToken]
    tokens: list[Token]
    best_of_sequences: list[_Sequence] | UnsetType = UNSET
    top_tokens: list[list[Token]] | UnsetType = UNSET


class _Generated(msgspec.Struct):
    generated_text: str
    details: _Details | UnsetType = UNSET


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int


class _StreamEvent(msgspec.Struct):
    index: int
    token: Token
    # Left out where nobody asked.
    top_tokens: list[Token] | UnsetType
    generated_text: str | None
    details: _StreamDetails | None


class Shown(msgspec.Struct, frozen=True):
    """What of the answer is wanted."""

    # Before each generated text.
    prompt: str = ""
    details: bool = False
    # Alternatives of each token.
    top: bool = False
    # As told in the details.
    seed: int | None = None
    # A list of one, as `POST /` gives.
    listed: bool = False


def finish_reason(finished: RowFinished) -> str:
    """In TGI's words."""
    if finished.reason == "length":
        return "length"
    return "eos_token" if finished.stop is None else "stop_sequence"


class _Row:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.steps: list[Step] = []
        self._reader = Steps()
        # Tokens generated, the hidden one included.
        self.tokens = 0
        self.reason = "eos_token"

    def take(self, event: Delta | RowFinished) -> None:
        if isinstance(event, Delta):
            self.text += (event.reasoning, event.text)
            self.tokens += len(event.token_ids)
            self.steps += self._reader.take(event)
            return
        self.reason = finish_reason(event)
        self.tokens += event.token_id is not None
        self.steps += self._reader.finish(event)

    @property
    def score(self) -> float:
        """Mean log probability."""
        if not self.steps:
            return float("-inf")
        return sum(step.token.logprob for step in self.steps) / len(self.steps)


class GenerateWhole:
    """Collects everything; one object at the end, that of the most probable row."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._rows: dict[int, _Row] = {}
        self._prefill: list[_PrefillToken] = []

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            if isinstance(event, PromptTokens):
                self._prefill += map(_prefill, event.tokens)
            elif isinstance(event, Delta | RowFinished):
                self._rows.setdefault(event.row, _Row()).take(event)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        rows = [row for _, row in sorted(self._rows.items())]
        best = max(rows, key=lambda row: row.score)
        if len(rows) == 1:
            best.tokens = best.tokens or usage.completion_tokens
        generated = _Generated(self._text(best))
        if self._shown.details:
            generated.details = self._details(best, [row for row in rows if row is not best])
        return encoder.encode([generated] if self._shown.listed else generated)

    def _text(self, row: _Row) -> str:
        return self._shown.prompt + "".join(row.text)

    def _details(self, best: _Row, others: list[_Row]) -> _Details:
        seed = self._shown.seed
        tokens = [step.token for step in best.steps]
        details = _Details(best.reason, best.tokens, seed, self._prefill, tokens)
        details.top_tokens = self._top(best)
        if others:
            details.best_of_sequences = [self._sequence(row) for row in others]
        return details

    def _sequence(self, row: _Row) -> _Sequence:
        tokens = [step.token for step in row.steps]
        text = self._text(row)
        sequence = _Sequence(text, row.reason, row.tokens, self._shown.seed, self._prefill, tokens)
        sequence.top_tokens = self._top(row)
        return sequence

    def _top(self, row: _Row) -> list[list[Token]] | UnsetType:
        return [step.top for step in row.steps] if self._shown.top else UNSET


def _prefill(one: PromptToken) -> _PrefillToken:
    logprob = None if one.logprob is None else finite(one.logprob)
    return _PrefillToken(one.token_id, one.token, logprob)


class GenerateStream:
    """Renders one event per token as they come."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        # Of the last event that was sent; TGI counts from 1.
        self._index = 0
        self._text: list[str] = []
        self._tokens = 0
        # Rendered with the events that follow it.
        self._newest: Step | None = None
        self._reader = Steps()
        self._reason = "eos_token"

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Events of all tokens but the one that may be the last."""
        out: list[bytes] = []
        over = False
        for event in events:
            if isinstance(event, Delta):
                self._text += (event.reasoning, event.text)
                self._tokens += len(event.token_ids)
                for step in self._reader.take(event):
                    self._push(step, out)
            elif isinstance(event, RowFinished):
                over = True
                self._reason = finish_reason(event)
                self._tokens += event.token_id is not None
                for step in self._reader.finish(event):
                    self._push(step, out)
        if not over:
            self._push(None, out)
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The event of the last token, with the whole text."""
        details = None
        if self._shown.details:
            tokens = self._tokens or usage.completion_tokens
            seed = self._shown.seed
            details = _StreamDetails(self._reason, tokens, seed, usage.prompt_tokens)
        # A row may end without a token of its own; the event that tells so needs one.
        last = self._newest or Step(Token(0, "", 0.0, True), [])
        return self._event(last, self._shown.prompt + "".join(self._text), details)

    def _push(self, step: Step | None, out: list[bytes]) -> None:
        newest, self._newest = self._newest, step
        if newest is not None:
            out.append(self._event(newest, None, None))

    def _event(self, step: Step, text: str | None, details: _StreamDetails | None) -> bytes:
        self._index += 1
        top = step.top if self._shown.top else UNSET
        event = _StreamEvent(self._index, step.token, top, text, details)
        return b"data:%b\n\n" % encoder.encode(event)
