"""Responses of `/api/chat`: one object, or lines.

Shapes: `ChatResponse`, `Message` in api/types.go, `writeChatResponse` in server/routes.go, of
ollama/ollama fb30760 (2026-08-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import Delta, Event, RowFinished, Timing, Usage
from trunkline.wire.codec import Answer
from trunkline.wire.ollama.answers import (
    Call,
    Calls,
    Token,
    encoder,
    last,
    reason,
    timestamp,
    tokens,
)


class _Message(msgspec.Struct):
    role: Literal["assistant"]
    content: str
    thinking: str | UnsetType = UNSET
    tool_calls: list[Call] | UnsetType = UNSET


class _Line(msgspec.Struct):
    model: str
    created_at: str
    message: _Message
    done: bool
    logprobs: list[Token] | UnsetType = UNSET


class _Last(msgspec.Struct):
    model: str
    created_at: str
    message: _Message
    done: Literal[True]
    done_reason: str
    logprobs: list[Token] | UnsetType = UNSET


def prepared(answer: Answer, why: str) -> bytes:
    """The answer to a call without messages: the model is loaded, or unloaded."""
    message = _Message("assistant", "")
    created = timestamp(answer.created)
    return encoder.encode(_Last(answer.model, created, message, True, why))


class _Chat:
    """What both renderers keep of the one row."""

    def __init__(self, answer: Answer) -> None:
        self._model = answer.model
        self._created = timestamp(answer.created)
        self._calls = Calls()
        self._reason = "stop"

    def _last(
        self, message: _Message, logprobs: list[Token], usage: Usage, timing: Timing
    ) -> bytes:
        body = _Last(self._model, self._created, message, True, self._reason, logprobs or UNSET)
        return last(body, usage, timing)


class ChatWhole(_Chat):
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._whole: list[Call] = []
        self._logprobs: list[Token] = []

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            if isinstance(event, Delta):
                self._text.append(event.text)
                self._thinking.append(event.reasoning)
                self._whole += self._calls.take(event.tool_calls)
                self._logprobs += tokens(event.logprobs or ())
            elif isinstance(event, RowFinished):
                self._reason = reason(event.reason)
                calls, cut = self._calls.end()
                self._whole += calls
                self._text.append(cut)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        message = _Message(
            "assistant",
            "".join(self._text),
            "".join(self._thinking) or UNSET,
            self._whole or UNSET,
        )
        return self._last(message, self._logprobs, usage, timing)


class ChatStream(_Chat):
    """Renders events as they come. The bytes around plain text are made once per call."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._head = b'{"model":%b,"created_at":%b,"message":{"role":"assistant","content":' % (
            encoder.encode(self._model),
            encoder.encode(self._created),
        )

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Lines for `events`."""
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                self._delta(event, out)
            elif isinstance(event, RowFinished):
                self._reason = reason(event.reason)
                calls, cut = self._calls.end()
                if calls or cut:
                    self._line(_Message("assistant", cut, UNSET, calls or UNSET), [], out)
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The last line."""
        return self._last(_Message("assistant", ""), [], usage, timing) + b"\n"

    def _delta(self, delta: Delta, out: list[bytes]) -> None:
        if not (delta.reasoning or delta.tool_calls or delta.logprobs):
            if delta.text:
                text = encoder.encode(delta.text)
                out.append(b'%b%b},"done":false}\n' % (self._head, text))
            return
        calls = self._calls.take(delta.tool_calls)
        logprobs = tokens(delta.logprobs or ())
        if calls or delta.text or delta.reasoning or logprobs:
            message = _Message("assistant", delta.text, delta.reasoning or UNSET, calls or UNSET)
            self._line(message, logprobs, out)

    def _line(self, message: _Message, logprobs: list[Token], out: list[bytes]) -> None:
        line = _Line(self._model, self._created, message, False, logprobs or UNSET)
        out.append(encoder.encode(line) + b"\n")
