"""What the readers of chat completions and completions share: rows, tool calls, usage.

Readers are lenient where servers differ: null for what is missing, arguments of a call as an object
instead of its text, all calls under one index (Gemini's and older Ollama's compatible endpoints),
reasoning as `reasoning_content` (DeepSeek, vLLM) or `reasoning` (OpenRouter, newer vLLM), content
in parts (Mistral). A refusal of OpenAI's is text, and ends as a content filter does: what other
dialects have for it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import msgspec
from msgspec import Raw

from trunkline.core.errors import ContentRefused, UpstreamFailed
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    FinishReason,
    Request,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.reading import decoded
from trunkline.wire.sse import ServerEvent
from trunkline.wire.told import Reports

C = TypeVar("C")

# OpenAI's words, and those of servers that have others.
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "tool_calls": "tool_calls",
    "content_filter": "content_filter",
    "function_call": "tool_calls",
    "max_tokens": "length",
    "model_length": "length",
}
# The server gave up: that is no answer.
_BROKEN = frozenset(("error", "abort", "insufficient_system_resource", "network_error"))

# What matters for where a JSON value ends; a backslash takes the next character with it.
_MARKS = re.compile(r'\\.|["{}\[\]\\]', re.DOTALL)
# Characters of calls that wait for an earlier one.
_MAX_HELD = 16 << 20

_text = msgspec.json.Decoder(str)


class UsageDetails(msgspec.Struct):
    """Parts of a count."""

    cached_tokens: int | None = None
    reasoning_tokens: int | None = None


class UsageFields(msgspec.Struct):
    """`usage`."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: UsageDetails | None = None
    completion_tokens_details: UsageDetails | None = None
    # DeepSeek's.
    prompt_cache_hit_tokens: int | None = None

    def usage(self) -> Usage:
        """The same as the core has it."""
        read, said = self.prompt_tokens_details, self.completion_tokens_details
        cached = read.cached_tokens if read else None
        return Usage(
            self.prompt_tokens or 0,
            self.completion_tokens or 0,
            cached or self.prompt_cache_hit_tokens or 0,
            (said.reasoning_tokens or 0) if said else 0,
        )


class Top(msgspec.Struct):
    """A token that might have been, or was."""

    token: str
    logprob: float
    octets: list[int] | None = msgspec.field(name="bytes", default=None)

    def data(self) -> bytes:
        """The token's bytes; where they are not told, its text's."""
        return self.token.encode() if self.octets is None else bytes(self.octets)


class Token(Top):
    """A token of the answer."""

    top_logprobs: list[Top] | None = None


class Logprobs(msgspec.Struct):
    """`logprobs` of a choice."""

    content: list[Token] | None = None


class _Call:
    __slots__ = ("_depth", "_escaped", "_quoted", "held", "id", "index", "name", "over", "shown")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        # Arguments that have not gone out: the name is not known, or an earlier call goes on.
        self.held: list[str] = []
        # Characters of arguments that went out; -1 = not even the name.
        self.shown = -1
        # True: it has all its arguments, or can get no more.
        self.over = False
        # Of the arguments so far: brackets that are open, and whether they end within a string,
        # behind a backslash.
        self._depth = 0
        self._quoted = self._escaped = False

    def scan(self, text: str) -> None:
        """More of the arguments: are they a whole object now?"""
        if self._escaped:
            text, self._escaped = text[1:], False
        for mark in _MARKS.findall(text):
            if mark == '"':
                self._quoted = not self._quoted
            elif mark == "\\":
                self._escaped = True
            elif self._quoted or len(mark) == 2:
                continue
            elif mark in "{[":
                self._depth += 1
            else:
                self._depth -= 1
                self.over = self.over or self._depth == 0


class Row:
    """One of the answers.

    Whatever a server does, the core gets its calls one after the other: all of a call comes before
    the first piece of the next. Some servers send several at once, each piece with its `index`; of
    those the later calls are held back until the arguments of the earlier are a whole object, or
    the row is complete.
    """

    __slots__ = ("_at", "_by_index", "_calls", "_held", "_index", "_request", "finished", "refused",
                 "said")  # fmt: skip

    def __init__(self, request: Request, index: int) -> None:
        self._request = request
        self._index = index
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        # The call whose pieces go out: earlier ones are complete, later ones are held back.
        self._at = 0
        # Characters held back.
        self._held = 0
        self.finished = False
        # True: what was said is a refusal of the model's.
        self.refused = False
        # Deltas so far.
        self.said = 0

    def delta(
        self,
        text: str,
        reasoning: str = "",
        calls: tuple[ToolCallDelta, ...] = (),
        logprobs: tuple[TokenLogprob, ...] | None = None,
    ) -> Iterable[Event]:
        """More of the row, if it is anything."""
        if not (text or reasoning or calls or logprobs):
            return ()
        self.said += 1
        return (Delta(self._request.id, self._index, text, (), logprobs, reasoning, calls),)

    def call(
        self, index: int | None, call_id: str, name: str, arguments: str
    ) -> Sequence[ToolCallDelta]:
        """More of a tool call: what may go out now.

        Raises `UpstreamFailed` for more of a call that was complete, or too much to hold back.
        """
        call = self._find(index, call_id, name)
        call.id = call.id or call_id
        call.name = call.name or name
        if call.index < self._at:
            if arguments.strip():
                raise UpstreamFailed("The backend went on with a tool call that was complete.")
            return ()
        if arguments:
            call.scan(arguments)
        if call.index > self._at or not call.name:
            self._held += len(arguments)
            if self._held > _MAX_HELD:
                raise UpstreamFailed("The backend's tool calls are too long to be put in order.")
            call.held.append(arguments)
        elif call.shown < 0:
            call.held.append(arguments)
        elif arguments:
            call.shown += len(arguments)
            found = [ToolCallDelta(call.index, None, None, arguments)]
            return found if call.index + 1 == len(self._calls) else [*found, *self._next()]
        return self._next()

    def close(self, index: int) -> None:
        """The call `index` is complete, whatever its arguments look like."""
        call = self._by_index.get(index)
        if call is not None:
            call.over = True

    def finish(self, reason: str, stop: str | int | None) -> Iterable[Event]:
        """The row is complete. Raises `ContentRefused`, or `UpstreamFailed` if the server gave up.

        A second time it is nothing.
        """
        if self.finished:
            return
        self.finished = True
        if reason in _BROKEN:
            raise UpstreamFailed(f"The backend gave up in the middle ({reason!r}).")
        meaning = _REASONS.get(reason, "stop")
        if meaning == "content_filter" and not self.said:
            raise ContentRefused("The backend's content filter refused to answer.")
        # Arguments are a JSON object; a call without any may have sent none.
        rest = [one for call in self._calls[self._at :] for one in self._rest(call)]
        yield from self.delta("", calls=tuple(rest))
        if meaning == "stop" and self.refused:
            meaning = "content_filter"
        elif meaning == "stop" and self._calls and stop is None:
            meaning = "tool_calls"
        yield RowFinished(
            self._request.id, self._index, meaning, stop if meaning == "stop" else None
        )

    def _find(self, index: int | None, call_id: str, name: str) -> _Call:
        if index is None:
            index = len(self._calls) if call_id or name or not self._calls else len(self._calls) - 1
            if index and index == len(self._calls):
                # Without an index there is no way back to the one before.
                self._calls[-1].over = True
        known = self._by_index.get(index)
        if known is not None and not (name and call_id and known.id and call_id != known.id):
            return known
        if known is not None:
            known.over = True
        call = self._by_index[index] = _Call(len(self._calls))
        self._calls.append(call)
        return call

    def _next(self) -> list[ToolCallDelta]:
        """What may go out of the call at hand, and of those behind it."""
        found: list[ToolCallDelta] = []
        while True:
            call = self._calls[self._at]
            if call.name and call.shown < 0:
                found.append(self._begun(call, ""))
            if not (call.over and call.shown >= 0 and self._at + 1 < len(self._calls)):
                return found
            found += self._rest(call)
            self._at += 1

    def _rest(self, call: _Call) -> Sequence[ToolCallDelta]:
        """What is left to be said of a call. Arguments are an object, if need be an empty one."""
        if call.shown < 0:
            return (self._begun(call, "{}"),)
        return () if call.shown else (ToolCallDelta(call.index, None, None, "{}"),)

    def _begun(self, call: _Call, default: str) -> ToolCallDelta:
        arguments = "".join(call.held) or default
        self._held -= sum(map(len, call.held))
        call.held.clear()
        call.shown = len(arguments)
        given = call.id or f"call_{self._request.id}_{self._index}_{call.index}"
        return ToolCallDelta(call.index, given, call.name, arguments)


class Rows:
    """All rows of an answer."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._rows: dict[int, Row] = {}
        self.usage: UsageFields | None = None

    def row(self, index: int) -> Row:
        """The row number `index`. Raises `UpstreamFailed` for one that nobody asked for."""
        row = self._rows.get(index)
        if row is None:
            if not 0 <= index < self._request.n:
                raise UpstreamFailed(f"The backend sent a choice {index} that nobody asked for.")
            row = self._rows[index] = Row(self._request, index)
        return row

    def end(self) -> Sequence[Event]:
        """The last event. Raises `UpstreamFailed` where a row has not ended."""
        rows = self._rows.values()
        if not rows or not all(row.finished for row in rows):
            raise UpstreamFailed("The backend's answer is cut off.")
        # A server that does not count: each delta is a token, more or less.
        spoken = sum(row.said for row in rows)
        usage = Usage(0, spoken) if self.usage is None else self.usage.usage()
        return (Completed(self._request.id, usage, Timing()),)


class Chunk(Reports, Generic[C]):
    """A chunk, or all of an answer: they differ in what a choice has."""

    choices: list[C] | None = None
    usage: UsageFields | None = None


class ChoicesAnswer(Generic[C]):
    """See `reading.Body`; what one choice tells, the dialect says."""

    def __init__(self, request: Request, decoder: msgspec.json.Decoder[Chunk[C]]) -> None:
        self._rows = Rows(request)
        self._logprobs = request.sampling.logprobs is not None
        self._decoder = decoder

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """A chunk."""
        if piece.data.startswith(b"[DONE]"):
            return ()
        return self.whole(piece.data)

    def whole(self, body: bytes) -> Iterable[Event]:
        """A chunk, or all of an answer."""
        chunk = decoded(self._decoder, body)
        chunk.check(body)
        if chunk.usage is not None:
            self._rows.usage = chunk.usage
        events: list[Event] = []
        for choice in chunk.choices or ():
            self._choice(choice, events)
        return events

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._rows.end()

    def _choice(self, choice: C, into: list[Event]) -> None:
        """Put into `into` what `choice` says."""
        raise NotImplementedError


def argument_text(raw: Raw) -> str:
    """The text of a call's arguments, however they were sent. Raises `UpstreamFailed`."""
    data = bytes(raw)
    if not data.startswith(b'"'):
        return "" if data == b"null" else data.decode()
    try:
        return _text.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise UpstreamFailed(f"The backend's answer makes no sense ({error}).") from error


def told_tokens(tokens: Iterable[Token] | None) -> tuple[TokenLogprob, ...] | None:
    """Log probabilities as the core has them."""
    found = [
        TokenLogprob(
            one.token,
            one.data(),
            -1,
            one.logprob,
            tuple((top.token, top.data(), -1, top.logprob) for top in one.top_logprobs or ()),
        )
        for one in tokens or ()
    ]
    return tuple(found) or None
