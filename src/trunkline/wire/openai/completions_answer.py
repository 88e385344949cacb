"""Responses of completions: one object, or chunks of the same shape.

Shapes: the official client's `types/completion.py` and `completion_choice.py` (openai 3.52,
generated from OpenAI's OpenAPI description; read 2026-11-21). `stop_reason` is vLLM's addition, as
is what `prompt_details` tells of. With `echo` the prompt's tokens come first in `logprobs`, the
first of them with null for both probabilities.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import (
    Delta,
    Event,
    PromptToken,
    RowFinished,
    Timing,
    TokenLogprob,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import DONE, UsageBody, chunk_head, encoder, finite, usage_body
from trunkline.wire.openai.prompt_details import PromptLogprobs, Prompts, prompt_logprobs


class Shown(msgspec.Struct, frozen=True):
    """What of the answers is wanted."""

    # Answers to each prompt.
    n: int
    # Rows of each prompt, of which the best n are shown.
    rows: int
    # Alternatives of each token; None: no log probabilities.
    logprobs: int | None = None
    # The prompts, where they are to stand before their answers; None: as their tokens say.
    echo: tuple[str | None, ...] = ()
    # vLLM's: alternatives of each prompt token, and ids.
    prompt_logprobs: int | None = None
    token_ids: bool = False


class _Logprobs(msgspec.Struct):
    text_offset: list[int]
    token_logprobs: list[float | None]
    tokens: list[str]
    top_logprobs: list[dict[str, float] | None]

    def extend(self, other: _Logprobs) -> None:
        """Append those of `other`."""
        self.text_offset += other.text_offset
        self.token_logprobs += other.token_logprobs
        self.tokens += other.tokens
        self.top_logprobs += other.top_logprobs


class _Choice(msgspec.Struct):
    index: int
    text: str
    logprobs: _Logprobs | None
    finish_reason: str
    stop_reason: str | int | None
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET
    token_ids: list[int] | UnsetType = UNSET


class _Completion(msgspec.Struct):
    id: str
    object: Literal["text_completion"]
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody
    system_fingerprint: str


def _logprobs(
    tokens: Sequence[PromptToken | TokenLogprob], offset: int, top: int | None
) -> _Logprobs:
    """Log probabilities of tokens, the first of which begins at character `offset`, with the `top`
    best (None: all that came). An offset below 0 is shown as 0.
    """
    shown = _Logprobs([], [], [], [])
    for one in tokens:
        shown.text_offset.append(max(0, offset))
        shown.tokens.append(one.token)
        shown.token_logprobs.append(None if one.logprob is None else finite(one.logprob))
        shown.top_logprobs.append(_top(one, top))
        offset += _characters(one)
    return shown


def _top(one: PromptToken | TokenLogprob, top: int | None) -> dict[str, float] | None:
    if one.logprob is None:
        return None
    best: dict[str, float] = {}
    for token, _, _, value in one.top[:top]:
        # Parts of characters look alike: the best of them stands for all.
        best.setdefault(token, finite(value))
    # "There may be up to logprobs+1 elements": the chosen token is always among them.
    best.setdefault(one.token, finite(one.logprob))
    return best


def _characters(one: PromptToken | TokenLogprob) -> int:
    """How many characters begin in a token: its bytes but for those that continue one."""
    return sum(byte & 0xC0 != 0x80 for byte in one.data)


class _Echo:
    """What stands before the answers."""

    def __init__(self, shown: Shown) -> None:
        self._shown = shown
        self.prompts = Prompts()

    def text(self, prompt: int) -> str:
        """The prompt, where it is to be echoed."""
        if not self._shown.echo:
            return ""
        known = self._shown.echo[prompt]
        return self.prompts.text(prompt) if known is None else known

    def logprobs(self, prompt: int) -> _Logprobs:
        """Those of its tokens, where they are to be echoed too."""
        tokens = self.prompts.tokens(prompt) if self._shown.echo else []
        offset = 0
        if tokens and not self.text(prompt).encode(errors="replace").startswith(tokens[0].data):
            # BOS, which the text does not show.
            offset = -_characters(tokens[0])
        return _logprobs(tokens, offset, self._shown.logprobs)


class _Row:
    __slots__ = ("finish", "ids", "stop", "text", "tokens", "total")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.tokens: list[TokenLogprob] = []
        self.ids: list[int] = []
        # Sum of the tokens' log probabilities.
        self.total = 0.0
        self.finish = "stop"
        self.stop: str | int | None = None

    def take(self, event: Delta | RowFinished) -> None:
        if isinstance(event, Delta):
            self.text.append(event.reasoning + event.text)
            self.ids += event.token_ids
            self.tokens += event.logprobs or ()
            self.total += sum(finite(one.logprob) for one in event.logprobs or ())
            return
        self.finish, self.stop = event.reason, event.stop
        if event.token_id is not None:
            self.ids.append(event.token_id)

    def mean(self) -> float:
        """OpenAI: "best" is "the one with the highest log probability per token"."""
        return self.total / len(self.tokens) if self.tokens else 0.0


class CompletionWhole:
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer, shown: Shown) -> None:
        self._answer = answer
        self._shown = shown
        self._echo = _Echo(shown)
        self._rows: dict[int, _Row] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        self._echo.prompts.take(prompt, events)
        first = prompt * self._shown.rows
        for event in events:
            if isinstance(event, Delta | RowFinished):
                self._rows.setdefault(first + event.row, _Row()).take(event)
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
                [self._choice(index, row) for index, row in self._best()],
                usage_body(usage),
                answer.fingerprint,
            )
        )

    def _best(self) -> list[tuple[int, _Row]]:
        n, of = self._shown.n, self._shown.rows
        if of == n:
            return sorted(self._rows.items())
        shown: list[tuple[int, _Row]] = []
        for prompt in range(1 + max(self._rows, default=-1) // of):
            begin = prompt * of
            rows = [self._rows[i] for i in range(begin, begin + of) if i in self._rows]
            best = sorted(rows, key=_Row.mean, reverse=True)[:n]
            shown += [(prompt * n + index, row) for index, row in enumerate(best)]
        return shown

    def _choice(self, index: int, row: _Row) -> _Choice:
        shown, prompt = self._shown, index // self._shown.n
        before = self._echo.text(prompt)
        choice = _Choice(index, before + "".join(row.text), None, row.finish, row.stop)
        if shown.logprobs is not None:
            choice.logprobs = self._echo.logprobs(prompt)
            choice.logprobs.extend(_logprobs(row.tokens, len(before), shown.logprobs))
        if shown.prompt_logprobs is not None:
            tokens = self._echo.prompts.tokens(prompt)
            choice.prompt_logprobs = prompt_logprobs(tokens, shown.prompt_logprobs)
        if shown.token_ids:
            choice.prompt_token_ids = self._echo.prompts.ids(prompt)
            choice.token_ids = row.ids
        return choice


class CompletionStream:
    """Renders events as they come. The bytes around the text are made once per call."""

    def __init__(self, answer: Answer, shown: Shown, *, include_usage: bool) -> None:
        self._shown = shown
        self._echo = _Echo(shown)
        # Choices that have begun.
        self._begun: set[int] = set()
        self._include_usage = include_usage
        self._answer = answer
        self._head = chunk_head("text_completion", answer)
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._middle = b',"logprobs":null,"finish_reason":null}' + self._tail
        # Characters of each choice's tokens so far.
        self._offsets: dict[int, int] = {}

    def succeed(self, relayed: bytes) -> None:
        """As of `codec.Successor`."""
        self._head = chunk_head("text_completion", self._answer, relayed)

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Chunks for `events`."""
        self._echo.prompts.take(prompt, events)
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Delta | RowFinished):
                index = prompt * self._shown.n + event.row
                if index not in self._begun:
                    self._begin(index, prompt, out)
                if isinstance(event, Delta):
                    self._delta(index, event, out)
                else:
                    self._finish(index, event, out)
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The chunk of usage, if asked for, and the end."""
        if not self._include_usage:
            return DONE
        figures = encoder.encode(usage_body(usage))
        return b'%b],"usage":%b}\n\n%b' % (self._head, figures, DONE)

    def _begin(self, index: int, prompt: int, out: list[bytes]) -> None:
        """The prompt, as far as it is to be shown."""
        self._begun.add(index)
        text, shown = self._echo.text(prompt), self._shown
        logprobs = None
        if shown.echo and shown.logprobs is not None:
            self._offsets[index] = len(text)
            logprobs = self._echo.logprobs(prompt)
        ids = b""
        if shown.token_ids:
            ids = b',"prompt_token_ids":%b' % encoder.encode(self._echo.prompts.ids(prompt))
        if text or logprobs is not None or ids:
            self._chunk(index, text, logprobs, ids, out)

    def _delta(self, index: int, event: Delta, out: list[bytes]) -> None:
        text = event.reasoning + event.text
        logprobs = None
        if event.logprobs and self._shown.logprobs is not None:
            offset = self._offsets.get(index, 0)
            logprobs = _logprobs(event.logprobs, offset, self._shown.logprobs)
            self._offsets[index] = offset + sum(map(_characters, event.logprobs))
        ids = self._ids(event.token_ids)
        if logprobs is None and not ids:
            if text:
                shown = encoder.encode(text)
                out.append(b'%b{"index":%d,"text":%b%b' % (self._head, index, shown, self._middle))
            return
        self._chunk(index, text, logprobs, ids, out)

    def _finish(self, index: int, event: RowFinished, out: list[bytes]) -> None:
        ids = self._ids(() if event.token_id is None else (event.token_id,))
        out.append(
            b'%b{"index":%d,"text":"","logprobs":null,"finish_reason":%b,"stop_reason":%b%b}%b'
            % (
                self._head,
                index,
                encoder.encode(event.reason),
                encoder.encode(event.stop),
                ids,
                self._tail,
            )
        )

    def _ids(self, ids: Sequence[int]) -> bytes:
        return b',"token_ids":%b' % encoder.encode(ids) if ids and self._shown.token_ids else b""

    def _chunk(
        self, index: int, text: str, logprobs: _Logprobs | None, ids: bytes, out: list[bytes]
    ) -> None:
        out.append(
            b'%b{"index":%d,"text":%b,"logprobs":%b,"finish_reason":null%b}%b'
            % (self._head, index, encoder.encode(text), encoder.encode(logprobs), ids, self._tail)
        )
