"""Responses of SGLang's `/generate`: an object or a list of them, or events with all text so far.

Shapes: `_handle_batch_output` in `managers/tokenizer_manager.py` and the printed answers of
docs/basic_usage/send_request (sgl-project/sglang, June 2026). The token that ended a text by itself
is one of `output_ids`, as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    PromptToken,
    PromptTokens,
    RowFinished,
    Timing,
    TokenLogprob,
    Usage,
)
from trunkline.wire.one_line import Encoder
from trunkline.wire.sglang.errors import DONE
from trunkline.wire.sglang.fields import Logprobs

# What stands where a log probability cannot be said; JSON has no infinity.
_UNLIKELY = -9999.0

_encoder = Encoder()

# (log probability, token id, text or null); of the first prompt token that is told there is none.
_Logprob = tuple[float | None, int, str | None]


class _Meta(msgspec.Struct):
    id: str
    finish_reason: dict[str, Any] | None
    completion_tokens: int
    # Known when the request has completed; left out of events before that.
    prompt_tokens: int | UnsetType = UNSET
    cached_tokens: int | UnsetType = UNSET
    e2e_latency: float | UnsetType = UNSET
    input_token_logprobs: list[_Logprob] | UnsetType = UNSET
    output_token_logprobs: list[_Logprob] | UnsetType = UNSET
    output_token_logprobs_length: int | UnsetType = UNSET
    input_top_logprobs: list[list[_Logprob] | None] | UnsetType = UNSET
    output_top_logprobs: list[list[_Logprob]] | UnsetType = UNSET


class _Output(msgspec.Struct):
    text: str
    output_ids: list[int]
    meta_info: _Meta
    index: int | UnsetType = UNSET


class Shown(msgspec.Struct, frozen=True):
    """What of the answers is wanted."""

    # Of each prompt.
    ids: tuple[str, ...]
    # Answers of each prompt.
    rows: int
    # The answers are a list.
    several: bool
    # Of each prompt.
    logprobs: tuple[Logprobs | None, ...]
    # Log probabilities have the texts of their tokens.
    texts: bool = False


class _Row:
    def __init__(self) -> None:
        self.text: list[str] = []
        self.ids: list[int] = []
        self.logprobs: list[TokenLogprob] = []
        self._end: RowFinished | None = None

    def take(self, event: Delta | RowFinished) -> None:
        if isinstance(event, Delta):
            self.text += (event.reasoning, event.text)
            self.ids += event.token_ids
            self.logprobs += event.logprobs or ()
            return
        if event.token_id is not None:
            self.ids.append(event.token_id)
        if event.logprob is not None:
            self.logprobs.append(event.logprob)
        self._end = event

    def ended(self, tokens: int) -> dict[str, Any] | None:
        """Why, after so many tokens."""
        end = self._end
        if end is None:
            return None
        if end.reason == "length":
            return {"type": "length", "length": tokens}
        return {"type": "stop", "matched": end.token_id if end.stop is None else end.stop}


class _Answers:
    """The rows of all prompts as far as they have come."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self._rows: dict[int, _Row] = {}
        self._completed: dict[int, Completed] = {}
        # Of each prompt: the tokens that have come.
        self._prompts: dict[int, list[PromptToken]] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> list[int]:
        """Keep `events`; returns the numbers of the rows that have more to show, in order.

        How a row ended is shown with what the request took: that is in the last event there.
        """
        touched: dict[int, None] = {}
        first = prompt * self._shown.rows
        for event in events:
            if isinstance(event, Completed):
                self._completed[prompt] = event
                ended = (number for number in self._rows if 0 <= number - first < self._shown.rows)
                touched |= dict.fromkeys(sorted(ended))
            elif isinstance(event, PromptTokens):
                self._prompts.setdefault(prompt, []).extend(event.tokens)
            elif isinstance(event, Delta | RowFinished):
                number = first + event.row
                self._rows.setdefault(number, _Row()).take(event)
                if isinstance(event, Delta):
                    touched[number] = None
        return list(touched)

    def outputs(self) -> list[_Output]:
        """All of them, prompt by prompt."""
        return [self.output(number) for number in sorted(self._rows)]

    def output(self, number: int) -> _Output:
        """One answer so far."""
        prompt = number // self._shown.rows
        row = self._rows[number]
        meta = _Meta(self._shown.ids[prompt], None, len(row.ids))
        completed = self._completed.get(prompt)
        if completed is not None:
            if not row.ids and self._shown.rows == 1:
                # Who answered tells no ids, but how many there were.
                meta.completion_tokens = completed.usage.completion_tokens
            meta.finish_reason = row.ended(meta.completion_tokens)
            meta.prompt_tokens = completed.usage.prompt_tokens
            meta.cached_tokens = completed.usage.cached_tokens
            took = completed.timing
            meta.e2e_latency = took.queue + took.prefill + took.decode
        wanted = self._shown.logprobs[prompt]
        if wanted is not None:
            self._add_logprobs(meta, row, prompt, wanted)
        return _Output("".join(row.text), row.ids, meta)

    def _add_logprobs(self, meta: _Meta, row: _Row, prompt: int, wanted: Logprobs) -> None:
        told = self._prompts.get(prompt, [])[wanted.start :] if wanted.start >= 0 else []
        meta.input_token_logprobs = [
            self._logprob(one.logprob, one.token_id, one.token) for one in told
        ]
        meta.output_token_logprobs = [
            self._logprob(one.logprob, one.token_id, one.token) for one in row.logprobs
        ]
        meta.output_token_logprobs_length = len(row.logprobs)
        if wanted.top:
            meta.input_top_logprobs = [
                None if one.logprob is None else self._top(one.top) for one in told
            ]
            meta.output_top_logprobs = [self._top(one.top) for one in row.logprobs]

    def _top(self, top: Sequence[tuple[str, bytes, int, float]]) -> list[_Logprob]:
        return [self._logprob(value, token, text) for text, _, token, value in top]

    def _logprob(self, value: float | None, token: int, text: str) -> _Logprob:
        known = value is None or math.isfinite(value)
        return (value if known else _UNLIKELY, token, text if self._shown.texts else None)


class GenerateWhole:
    """Collects everything; one object, or a list, at the end."""

    def __init__(self, shown: Shown) -> None:
        self._several = shown.several
        self._answers = _Answers(shown)

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        self._answers.take(prompt, events)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object, or the list."""
        outputs = self._answers.outputs()
        return _encoder.encode(outputs if self._several else outputs[0])


class GenerateStream:
    """One event for each row of a batch of events, with all of its text so far."""

    def __init__(self, shown: Shown) -> None:
        self._several = shown.several
        self._answers = _Answers(shown)

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Events for the rows that have more to show."""
        return b"".join(self._event(row) for row in self._answers.take(prompt, events))

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The end."""
        return DONE

    def _event(self, number: int) -> bytes:
        output = self._answers.output(number)
        if self._several:
            output.index = number
        return b"data: %b\n\n" % _encoder.encode(output)
