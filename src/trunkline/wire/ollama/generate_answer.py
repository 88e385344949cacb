"""Responses of `/api/generate`: one object, or lines.

Shapes: `GenerateResponse` in api/types.go, `GenerateHandler` in server/routes.go, of ollama/ollama
fb30760 (2026-08-21).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import Completed, Delta, Event, RowFinished, Timing, Usage
from trunkline.wire.codec import Answer
from trunkline.wire.ollama.answers import (
    Token,
    encoder,
    last,
    reason,
    timestamp,
    tokens,
)


class _Line(msgspec.Struct):
    model: str
    created_at: str
    response: str
    done: bool
    thinking: str | UnsetType = UNSET
    logprobs: list[Token] | UnsetType = UNSET


class _Last(msgspec.Struct):
    model: str
    created_at: str
    response: str
    done: Literal[True]
    done_reason: str
    thinking: str | UnsetType = UNSET
    # The conversation so far, to be sent with the next request.
    context: list[int] | UnsetType = UNSET
    logprobs: list[Token] | UnsetType = UNSET


def prepared(answer: Answer, why: str) -> bytes:
    """The answer to an empty prompt: the model is loaded, or unloaded."""
    created = timestamp(answer.created)
    return encoder.encode(_Last(answer.model, created, "", True, why))


class _Generate:
    """What both renderers keep of the one row."""

    def __init__(self, answer: Answer) -> None:
        self._model = answer.model
        self._created = timestamp(answer.created)
        self._reason = "stop"
        self._prompt_ids: tuple[int, ...] = ()
        self._output_ids: list[int] = []

    def _note(self, event: Event) -> None:
        if isinstance(event, Delta):
            self._output_ids += event.token_ids
        elif isinstance(event, RowFinished):
            self._reason = reason(event.reason)
        elif isinstance(event, Completed):
            self._prompt_ids = event.prompt_ids

    def _last(
        self, text: str, thinking: str, logprobs: list[Token], usage: Usage, timing: Timing
    ) -> bytes:
        body = _Last(self._model, self._created, text, True, self._reason)
        body.thinking = thinking or UNSET
        # Without the prompt's part it would be no conversation: raw calls get none.
        if self._prompt_ids:
            body.context = [*self._prompt_ids, *self._output_ids]
        body.logprobs = logprobs or UNSET
        return last(body, usage, timing)


class GenerateWhole(_Generate):
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._logprobs: list[Token] = []

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        for event in events:
            self._note(event)
            if isinstance(event, Delta):
                self._text.append(event.text)
                self._thinking.append(event.reasoning)
                self._logprobs += tokens(event.logprobs or ())
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        text, thinking = "".join(self._text), "".join(self._thinking)
        return self._last(text, thinking, self._logprobs, usage, timing)


class GenerateStream(_Generate):
    """Renders events as they come. The bytes around plain text are made once per call."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer)
        self._head = b'{"model":%b,"created_at":%b,"response":' % (
            encoder.encode(self._model),
            encoder.encode(self._created),
        )

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Lines for `events`."""
        out: list[bytes] = []
        for event in events:
            self._note(event)
            if not isinstance(event, Delta):
                continue
            if event.reasoning or event.logprobs:
                logprobs = tokens(event.logprobs or ())
                line = _Line(self._model, self._created, event.text, False)
                line.thinking = event.reasoning or UNSET
                line.logprobs = logprobs or UNSET
                out.append(encoder.encode(line) + b"\n")
            elif event.text:
                text = encoder.encode(event.text)
                out.append(b'%b%b,"done":false}\n' % (self._head, text))
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The last line."""
        return self._last("", "", [], usage, timing) + b"\n"
