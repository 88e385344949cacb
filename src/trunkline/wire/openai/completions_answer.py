"""Responses of completions: one object, or chunks of the same shape.

Shapes: the official client's `types/completion.py` and `completion_choice.py` (openai 3.52,
generated from OpenAI's OpenAPI description; read 2026-11-21). `stop_reason` is vLLM's addition.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

from trunkline.core.types import Delta, Event, RowFinished, Timing, TokenLogprob, Usage
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import DONE, UsageBody, encoder, finite, usage_body


class _Logprobs(msgspec.Struct):
    text_offset: list[int]
    token_logprobs: list[float]
    tokens: list[str]
    top_logprobs: list[dict[str, float]]


class _Choice(msgspec.Struct):
    index: int
    text: str
    logprobs: _Logprobs | None
    finish_reason: str
    stop_reason: str | int | None


class _Completion(msgspec.Struct):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody
    system_fingerprint: str


def _add(into: _Logprobs, offset: int, logprobs: Sequence[TokenLogprob]) -> int:
    """Append `logprobs`, the first of which begins at character `offset`; returns the next."""
    for one in logprobs:
        into.text_offset.append(offset)
        into.tokens.append(one.token)
        into.token_logprobs.append(finite(one.logprob))
        top = {token: finite(value) for token, _, _, value in one.top}
        # "There may be up to logprobs+1 elements": the chosen token is always among them.
        top.setdefault(one.token, finite(one.logprob))
        into.top_logprobs.append(top)
        offset += len(one.token)
    return offset


class _Row:
    __slots__ = ("finish", "logprobs", "offset", "stop", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs = _Logprobs([], [], [], [])
        self.offset = 0
        self.finish = "stop"
        self.stop: str | int | None = None


class CompletionWhole:
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer, *, n: int, logprobs: bool) -> None:
        self._answer = answer
        self._n = n
        self._logprobs = logprobs
        self._rows: dict[int, _Row] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        first = prompt * self._n
        for event in events:
            if isinstance(event, Delta):
                row = self._rows.setdefault(first + event.row, _Row())
                row.text.append(event.reasoning + event.text)
                if event.logprobs and self._logprobs:
                    row.offset = _add(row.logprobs, row.offset, event.logprobs)
            elif isinstance(event, RowFinished):
                row = self._rows.setdefault(first + event.row, _Row())
                row.finish, row.stop = event.reason, event.stop
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        answer = self._answer
        return encoder.encode(
            _Completion(
                answer.id,
                "text_completion",
                answer.created,
                answer.model,
                [self._choice(index, row) for index, row in sorted(self._rows.items())],
                usage_body(usage),
                answer.fingerprint,
            )
        )

    def _choice(self, index: int, row: _Row) -> _Choice:
        logprobs = row.logprobs if self._logprobs else None
        return _Choice(index, "".join(row.text), logprobs, row.finish, row.stop)


class CompletionStream:
    """Renders events as they come. The bytes around the text are made once per call."""

    def __init__(self, answer: Answer, *, n: int, include_usage: bool) -> None:
        self._n = n
        self._include_usage = include_usage
        self._head = (
            b'data: {"id":%b,"object":"text_completion","created":%d,"model":%b,'
            b'"system_fingerprint":%b,"choices":['
        ) % (
            encoder.encode(answer.id),
            answer.created,
            encoder.encode(answer.model),
            encoder.encode(answer.fingerprint),
        )
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._middle = b',"logprobs":null,"finish_reason":null}' + self._tail
        # Characters of each choice's tokens so far.
        self._offsets: dict[int, int] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Chunks for `events`."""
        out: list[bytes] = []
        first = prompt * self._n
        for event in events:
            if isinstance(event, Delta):
                text = event.reasoning + event.text
                if event.logprobs:
                    self._with_logprobs(first + event.row, text, event.logprobs, out)
                elif text:
                    out.append(
                        b'%b{"index":%d,"text":%b%b'
                        % (self._head, first + event.row, encoder.encode(text), self._middle)
                    )
            elif isinstance(event, RowFinished):
                out.append(
                    b'%b{"index":%d,"text":"","logprobs":null,"finish_reason":%b,"stop_reason":%b}%b'
                    % (
                        self._head,
                        first + event.row,
                        encoder.encode(event.reason),
                        encoder.encode(event.stop),
                        self._tail,
                    )
                )
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The chunk of usage, if asked for, and the end."""
        if not self._include_usage:
            return DONE
        figures = encoder.encode(usage_body(usage))
        return b'%b],"usage":%b}\n\n%b' % (self._head, figures, DONE)

    def _with_logprobs(
        self, index: int, text: str, logprobs: Sequence[TokenLogprob], out: list[bytes]
    ) -> None:
        shown = _Logprobs([], [], [], [])
        self._offsets[index] = _add(shown, self._offsets.get(index, 0), logprobs)
        out.append(
            b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":null}%b'
            % (self._head, index, encoder.encode(text), encoder.encode(shown), self._tail)
        )
