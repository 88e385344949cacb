"""Responses of `/completion`: objects, or events.

Shapes: `server_task_result_cmpl_final` and `_partial` in tools/server/server-task.cpp,
`server_slot_stats` in server-common.cpp, of llama.cpp b11549, and transcripts of that server.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Json,
    PromptTokens,
    RowFinished,
    Timing,
    TokenLogprob,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.one_line import Encoder

encoder = Encoder()

# Its stand-in for the logarithm of 0: the least float.
_LOWEST = -3.4028234663852886e38


class Wanted(msgspec.Struct, frozen=True):
    """What a call asks of its response."""

    # Text of each prompt; None: as its tokens say.
    prompts: tuple[str | None, ...]
    # Answers to each prompt.
    rows: int
    settings: Json
    return_tokens: bool
    logprobs: bool
    # Paths such as "timings/prompt_ms"; () = everything.
    response_fields: tuple[str, ...] = ()


class _Top(msgspec.Struct):
    id: int
    token: str
    bytes: list[int]
    logprob: float


class _Probability(_Top):
    top_logprobs: list[_Top]


class _Timings(msgspec.Struct):
    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float


class _Partial(msgspec.Struct):
    index: int
    content: str
    tokens: list[int]
    stop: bool
    id_slot: int
    tokens_predicted: int
    completion_probabilities: list[_Probability] | UnsetType = UNSET


class _Final(msgspec.Struct):
    index: int
    content: str
    tokens: list[int]
    id_slot: int
    stop: bool
    model: str
    tokens_predicted: int
    tokens_evaluated: int
    generation_settings: Json
    prompt: str
    has_new_line: bool
    truncated: bool
    stop_type: str
    stopping_word: str
    tokens_cached: int
    timings: _Timings
    completion_probabilities: list[_Probability] | UnsetType = UNSET


class _Row:
    """What came of one answer."""

    def __init__(self) -> None:
        self.text: list[str] = []
        self.tokens: list[int] = []
        self.predicted = 0
        self.probabilities: list[_Probability] = []
        self.new_line = False
        self.stop_type = "none"
        self.stopping_word = ""

    def take(self, delta: Delta) -> str:
        """Note `delta`; returns its text."""
        text = delta.reasoning + delta.text
        self.predicted += len(delta.token_ids)
        self.new_line = self.new_line or "\n" in text
        return text

    def end(self, event: RowFinished) -> None:
        """Note why it ended."""
        if event.reason == "length":
            self.stop_type = "limit"
        elif isinstance(event.stop, str):
            self.stop_type, self.stopping_word = "word", event.stop
        else:
            self.stop_type = "eos"


class _Completion:
    """What both renderers share: rows, and the object that each ends with."""

    def __init__(self, answer: Answer, wanted: Wanted) -> None:
        self._model = answer.model
        self._wanted = wanted
        # (prompt, row) -> what came of it.
        self._rows: dict[tuple[int, int], _Row] = {}
        # What the tokens of each prompt say, where they are told.
        self._said: dict[int, bytes] = {}

    def _read_prompt(self, prompt: int, event: PromptTokens) -> None:
        said = b"".join(one.data for one in event.tokens)
        self._said[prompt] = self._said.get(prompt, b"") + said

    def _prompt(self, prompt: int) -> str:
        text = self._wanted.prompts[prompt]
        return self._said.get(prompt, b"").decode(errors="replace") if text is None else text

    def _row(self, prompt: int, event: Delta | RowFinished) -> _Row:
        key = (prompt, event.row)
        return self._rows.get(key) or self._rows.setdefault(key, _Row())

    def _index(self, prompt: int, row: int) -> int:
        return prompt * self._wanted.rows + row

    def _finals(self, prompt: int, event: Completed) -> list[bytes]:
        """The objects of a prompt's rows, encoded."""
        found = []
        for number in range(self._wanted.rows):
            row = self._rows.pop((prompt, number), None) or _Row()
            final = self._final(prompt, number, row, event)
            if self._wanted.response_fields:
                body = _picked(self._wanted.response_fields, msgspec.to_builtins(final))
                found.append(encoder.encode(body))
            else:
                found.append(encoder.encode(final))
        return found

    def _final(self, prompt: int, number: int, row: _Row, event: Completed) -> _Final:
        wanted, usage = self._wanted, event.usage
        # The end-of-text token is counted, though it has no place in the text.
        predicted = usage.completion_tokens if wanted.rows == 1 else row.predicted
        final = _Final(
            index=self._index(prompt, number),
            content="".join(row.text),
            tokens=row.tokens,
            id_slot=self._index(prompt, number),
            stop=True,
            model=self._model,
            tokens_predicted=predicted,
            tokens_evaluated=usage.prompt_tokens,
            generation_settings=wanted.settings,
            prompt=self._prompt(prompt),
            has_new_line=row.new_line,
            truncated=False,
            stop_type=row.stop_type,
            stopping_word=row.stopping_word,
            tokens_cached=max(0, usage.prompt_tokens + predicted - 1),
            timings=_timings(usage, event.timing, predicted),
        )
        if row.probabilities:
            final.completion_probabilities = row.probabilities
        return final


class CompletionWhole(_Completion):
    """Collects everything; one object, or a list of them where there are several answers."""

    def __init__(self, answer: Answer, wanted: Wanted) -> None:
        super().__init__(answer, wanted)
        # Encoded objects by prompt.
        self._done: dict[int, list[bytes]] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            if isinstance(event, Delta):
                row = self._row(prompt, event)
                row.text.append(row.take(event))
                if self._wanted.return_tokens:
                    row.tokens += event.token_ids
                if self._wanted.logprobs:
                    row.probabilities += _probabilities(event.logprobs or ())
            elif isinstance(event, RowFinished):
                self._row(prompt, event).end(event)
            elif isinstance(event, PromptTokens):
                self._read_prompt(prompt, event)
            elif isinstance(event, Completed):
                self._done[prompt] = self._finals(prompt, event)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The objects, in the order of the prompts."""
        every = [one for prompt in sorted(self._done) for one in self._done[prompt]]
        return every[0] if len(every) == 1 else b"[%b]" % b",".join(every)


class CompletionStream(_Completion):
    """Renders events as they come."""

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Events of the response."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                partial = self._partial(prompt, event)
                if partial.content or partial.tokens:
                    out.append(b"data: %b\n\n" % encoder.encode(partial))
            elif isinstance(event, RowFinished):
                self._row(prompt, event).end(event)
            elif isinstance(event, PromptTokens):
                self._read_prompt(prompt, event)
            elif isinstance(event, Completed):
                out += [b"data: %b\n\n" % final for final in self._finals(prompt, event)]
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """Nothing more: each answer has ended with its own object."""
        return b""

    def _partial(self, prompt: int, delta: Delta) -> _Partial:
        row = self._row(prompt, delta)
        text = row.take(delta)
        partial = _Partial(
            index=self._index(prompt, delta.row),
            content=text,
            tokens=list(delta.token_ids),
            stop=False,
            id_slot=-1,
            tokens_predicted=row.predicted,
        )
        if self._wanted.logprobs and delta.logprobs:
            partial.completion_probabilities = _probabilities(delta.logprobs)
        return partial


def _timings(usage: Usage, timing: Timing, predicted: int) -> _Timings:
    fresh = usage.prompt_tokens - usage.cached_tokens
    # Its clock ticks in microseconds, and never reads 0.
    prompt = max(0.001, round(timing.prefill * 1e3, 3))
    output = max(0.001, round(timing.decode * 1e3, 3))
    return _Timings(
        cache_n=usage.cached_tokens,
        prompt_n=fresh,
        prompt_ms=prompt,
        prompt_per_token_ms=prompt / max(1, fresh),
        prompt_per_second=fresh * 1e3 / prompt,
        predicted_n=predicted,
        predicted_ms=output,
        predicted_per_token_ms=output / max(1, predicted),
        predicted_per_second=predicted * 1e3 / output,
    )


def _probabilities(logprobs: Sequence[TokenLogprob]) -> list[_Probability]:
    return [
        _Probability(
            one.token_id,
            one.token,
            list(one.data),
            _finite(one.logprob),
            [
                _Top(number, token, list(data), _finite(value))
                for token, data, number, value in one.top
            ],
        )
        for one in logprobs
    ]


def _finite(logprob: float) -> float:
    return logprob if math.isfinite(logprob) else _LOWEST


def _picked(paths: Sequence[str], body: Mapping[str, Any]) -> Json:
    """The fields at `paths`, each under its path; what does not exist is left out."""
    found: Json = {}
    for path in paths:
        current: Any = body
        for key in path.split("/"):
            current = current.get(key, UNSET) if isinstance(current, Mapping) else UNSET
        if current is not UNSET:
            found[path] = current
    return found
