"""Responses of chat completions: one object, or chunks.

Shapes: the official client's `types/chat/chat_completion.py` and `chat_completion_chunk.py` (openai
3.52, generated from OpenAI's OpenAPI description; read 2026-11-21). `stop_reason` (the stop string
or token id that matched) and `reasoning_content` are vLLM's additions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import Delta, Event, RowFinished, Timing, TokenLogprob, Usage
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import DONE, UsageBody, encoder, finite, usage_body


class _Top(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]


class _Token(_Top):
    top_logprobs: list[_Top]


class _Logprobs(msgspec.Struct):
    content: list[_Token]
    refusal: None = None


class _Message(msgspec.Struct):
    role: Literal["assistant"]
    content: str
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET


class _Choice(msgspec.Struct):
    index: int
    message: _Message
    logprobs: _Logprobs | None
    finish_reason: str
    stop_reason: str | int | None


class _Completion(msgspec.Struct):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody
    system_fingerprint: str


def _tokens(logprobs: Sequence[TokenLogprob]) -> list[_Token]:
    return [
        _Token(
            one.token,
            finite(one.logprob),
            list(one.data),
            [_Top(token, finite(value), list(data)) for token, data, _, value in one.top],
        )
        for one in logprobs
    ]


class _Row:
    __slots__ = ("finish", "logprobs", "reasoning", "stop", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.logprobs: list[_Token] = []
        self.finish = "stop"
        self.stop: str | int | None = None


class ChatWhole:
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer, *, logprobs: bool) -> None:
        self._answer = answer
        self._logprobs = logprobs
        self._rows: dict[int, _Row] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            if isinstance(event, Delta):
                row = self._rows.get(event.row) or self._rows.setdefault(event.row, _Row())
                row.text.append(event.text)
                if event.reasoning:
                    row.reasoning.append(event.reasoning)
                if event.logprobs and self._logprobs:
                    row.logprobs += _tokens(event.logprobs)
            elif isinstance(event, RowFinished):
                row = self._rows.setdefault(event.row, _Row())
                row.finish, row.stop = event.reason, event.stop
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        answer = self._answer
        return encoder.encode(
            _Completion(
                answer.id,
                "chat.completion",
                answer.created,
                answer.model,
                [self._choice(index, row) for index, row in sorted(self._rows.items())],
                usage_body(usage),
                answer.fingerprint,
            )
        )

    def _choice(self, index: int, row: _Row) -> _Choice:
        message = _Message("assistant", "".join(row.text))
        if row.reasoning:
            message.reasoning_content = "".join(row.reasoning)
        logprobs = _Logprobs(row.logprobs) if self._logprobs else None
        return _Choice(index, message, logprobs, row.finish, row.stop)


class ChatStream:
    """Renders events as they come. The bytes around the text are made once per call."""

    def __init__(self, answer: Answer, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._head = (
            b'data: {"id":%b,"object":"chat.completion.chunk","created":%d,"model":%b,'
            b'"system_fingerprint":%b,"choices":['
        ) % (
            encoder.encode(answer.id),
            answer.created,
            encoder.encode(answer.model),
            encoder.encode(answer.fingerprint),
        )
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._middle = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._open_rows: set[int] = set()

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Chunks for `events`."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                row = event.row
                if row not in self._open_rows:
                    self._open(row, out)
                if event.reasoning:
                    self._reasoning(row, event.reasoning, out)
                if event.logprobs:
                    self._with_logprobs(event, event.logprobs, out)
                elif event.text:
                    content = encoder.encode(event.text)
                    out.append(
                        b'%b{"index":%d,"delta":{"content":%b}%b'
                        % (self._head, row, content, self._middle)
                    )
            elif isinstance(event, RowFinished):
                if event.row not in self._open_rows:
                    self._open(event.row, out)
                self._finish_row(event, out)
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The chunk of usage, if asked for, and the end."""
        if not self._include_usage:
            return DONE
        figures = encoder.encode(usage_body(usage))
        return b'%b],"usage":%b}\n\n%b' % (self._head, figures, DONE)

    def _open(self, row: int, out: list[bytes]) -> None:
        self._open_rows.add(row)
        out.append(
            b'%b{"index":%d,"delta":{"role":"assistant","content":"","refusal":null}%b'
            % (self._head, row, self._middle)
        )

    def _reasoning(self, row: int, text: str, out: list[bytes]) -> None:
        content = encoder.encode(text)
        out.append(
            b'%b{"index":%d,"delta":{"reasoning_content":%b}%b'
            % (self._head, row, content, self._middle)
        )

    def _with_logprobs(
        self, event: Delta, logprobs: Sequence[TokenLogprob], out: list[bytes]
    ) -> None:
        out.append(
            b'%b{"index":%d,"delta":{"content":%b},"logprobs":%b,"finish_reason":null}%b'
            % (
                self._head,
                event.row,
                encoder.encode(event.text),
                encoder.encode(_Logprobs(_tokens(logprobs))),
                self._tail,
            )
        )

    def _finish_row(self, event: RowFinished, out: list[bytes]) -> None:
        out.append(
            b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b,"stop_reason":%b}%b'
            % (
                self._head,
                event.row,
                encoder.encode(event.reason),
                encoder.encode(event.stop),
                self._tail,
            )
        )
