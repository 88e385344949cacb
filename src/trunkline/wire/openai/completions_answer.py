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
    __slots__ = ("finish", "logprobs", "offset", "seen", "stop", "text", "total")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.logprobs = _Logprobs([], [], [], [])
        self.offset = 0
        # Sum of the tokens' log probabilities, and their number.
        self.total = 0.0
        self.seen = 0
        self.finish = "stop"
        self.stop: str | int | None = None

    def mean(self) -> float:
        """OpenAI: "best" is "the one with the highest log probability per token"."""
        return self.total / self.seen if self.seen else 0.0


class CompletionWhole:
    """Collects everything; one object at the end."""

    def __init__(
        self,
        answer: Answer,
        *,
        n: int,
        rows: int | None = None,
        logprobs: bool,
        echo: Sequence[str] = (),
    ) -> None:
        self._answer = answer
        self._n = n
        # Rows of each prompt, of which the best n are shown.
        self._of = rows or n
        self._logprobs = logprobs
        # The prompts, where they are to stand before their completions.
        self._echo = echo
        self._rows: dict[int, _Row] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        first = prompt * self._of
        for event in events:
            if isinstance(event, Delta):
                row = self._rows.setdefault(first + event.row, _Row())
                row.text.append(event.reasoning + event.text)
                for one in event.logprobs or ():
                    row.total += finite(one.logprob)
                    row.seen += 1
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
                [self._choice(index, row) for index, row in self._shown()],
                usage_body(usage),
                answer.fingerprint,
            )
        )

    def _shown(self) -> list[tuple[int, _Row]]:
        if self._of == self._n:
            return sorted(self._rows.items())
        shown: list[tuple[int, _Row]] = []
        for prompt in range(1 + max(self._rows, default=-1) // self._of):
            begin = prompt * self._of
            rows = [self._rows[i] for i in range(begin, begin + self._of) if i in self._rows]
            best = sorted(rows, key=_Row.mean, reverse=True)[: self._n]
            shown += [(prompt * self._n + index, row) for index, row in enumerate(best)]
        return shown

    def _choice(self, index: int, row: _Row) -> _Choice:
        logprobs = row.logprobs if self._logprobs else None
        before = self._echo[index // self._n] if self._echo else ""
        return _Choice(index, before + "".join(row.text), logprobs, row.finish, row.stop)


class CompletionStream:
    """Renders events as they come. The bytes around the text are made once per call."""

    def __init__(
        self, answer: Answer, *, n: int, include_usage: bool, echo: Sequence[str] = ()
    ) -> None:
        self._n = n
        # The prompts, where they are to stand before their completions.
        self._echo = echo
        # Choices that have begun.
        self._begun: set[int] = set()
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
                index = first + event.row
                text = self._before(index) + event.reasoning + event.text
                if event.logprobs:
                    self._with_logprobs(index, text, event.logprobs, out)
                elif text:
                    out.append(self._text(index, text))
            elif isinstance(event, RowFinished):
                if before := self._before(first + event.row):
                    out.append(self._text(first + event.row, before))
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

    def _before(self, index: int) -> str:
        """The prompt, once for each choice, where it is to be echoed."""
        if not self._echo or index in self._begun:
            return ""
        self._begun.add(index)
        return self._echo[index // self._n]

    def _text(self, index: int, text: str) -> bytes:
        return b'%b{"index":%d,"text":%b%b' % (
            self._head,
            index,
            encoder.encode(text),
            self._middle,
        )

    def _with_logprobs(
        self, index: int, text: str, logprobs: Sequence[TokenLogprob], out: list[bytes]
    ) -> None:
        shown = _Logprobs([], [], [], [])
        self._offsets[index] = _add(shown, self._offsets.get(index, 0), logprobs)
        out.append(
            b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":null}%b'
            % (self._head, index, encoder.encode(text), encoder.encode(shown), self._tail)
        )
