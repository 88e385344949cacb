"""What the readers of chat completions and completions share: rows, tool calls, usage.

Readers are lenient where servers differ: null for what is missing, arguments of a call as an object
instead of its text, all calls under one index (Gemini's and older Ollama's compatible endpoints),
reasoning as `reasoning_content` (DeepSeek, vLLM) or `reasoning` (OpenRouter, newer vLLM), content
in parts (Mistral).
"""

from __future__ import annotations

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
    __slots__ = ("arguments", "id", "index", "name", "shown")

    def __init__(self, index: int) -> None:
        self.index = index
        self.id = ""
        self.name = ""
        # What came before the name.
        self.arguments = ""
        # Characters of arguments that went out; -1 = not even the name.
        self.shown = -1


class Row:
    """One of the answers."""

    __slots__ = ("_by_index", "_calls", "_index", "_request", "finished", "said")

    def __init__(self, request: Request, index: int) -> None:
        self._request = request
        self._index = index
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self.finished = False
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
    ) -> Iterable[ToolCallDelta]:
        """More of a tool call."""
        call = self._find(index, call_id, name)
        call.id = call.id or call_id
        call.name = call.name or name
        if call.shown >= 0:
            if arguments:
                call.shown += len(arguments)
                yield ToolCallDelta(call.index, None, None, arguments)
            return
        call.arguments += arguments
        if call.name:
            call.shown = len(call.arguments)
            yield self._begun(call, call.arguments)

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
        empty = [self._empty(call) for call in self._calls if call.shown <= 0]
        yield from self.delta("", calls=tuple(empty))
        if meaning == "stop" and self._calls and stop is None:
            meaning = "tool_calls"
        yield RowFinished(
            self._request.id, self._index, meaning, stop if meaning == "stop" else None
        )

    def _find(self, index: int | None, call_id: str, name: str) -> _Call:
        if index is None:
            index = len(self._calls) if call_id or name or not self._calls else len(self._calls) - 1
        known = self._by_index.get(index)
        if known is not None and not (name and call_id and known.id and call_id != known.id):
            return known
        call = self._by_index[index] = _Call(len(self._calls))
        self._calls.append(call)
        return call

    def _begun(self, call: _Call, arguments: str) -> ToolCallDelta:
        given = call.id or f"call_{self._request.id}_{self._index}_{call.index}"
        return ToolCallDelta(call.index, given, call.name, arguments)

    def _empty(self, call: _Call) -> ToolCallDelta:
        if call.shown < 0:
            return self._begun(call, call.arguments or "{}")
        return ToolCallDelta(call.index, None, None, "{}")


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
