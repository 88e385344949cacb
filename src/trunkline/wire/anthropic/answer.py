"""Responses: one message, or the events of a stream.

Shapes: the official client's `types/message.py`, `types/raw_*_event.py` and what they name
(anthropic 2.11), and platform.claude.com/docs/en/build-with-claude/streaming. Read 2026-11-21.

    message_start, ping, (content_block_start, content_block_delta..., content_block_stop)...,
    message_delta, message_stop

`message_start` goes out with the first token, before the prompt's tokens are known to have come
from the cache or not: its counts are 0. Those of `message_delta` are totals, and clients take them
in place of the first ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from msgspec import Raw

from trunkline.core.types import Delta, Event, RowFinished, Thought, Timing, ToolCallDelta, Usage
from trunkline.wire.anthropic.calls import InTurn, Piece, Said, as_object
from trunkline.wire.anthropic.said import progress
from trunkline.wire.codec import Answer
from trunkline.wire.one_line import Encoder

# Clients send a thinking block back only with a signature. Ours signs nothing.
SIGNATURE = "dHJ1bmtsaW5l"

# A block of whitespace alone is held back until something follows, up to so many characters.
_MOST_SPACE = 64

_STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}

_Kind = Literal["", "text", "thinking", "redacted_thinking", "tool_use", "other"]
# Kind of a block -> type of its deltas, and their field.
_DELTAS: Mapping[_Kind, tuple[bytes, bytes]] = {
    "text": (b"text_delta", b"text"),
    "thinking": (b"thinking_delta", b"thinking"),
    "tool_use": (b"input_json_delta", b"partial_json"),
}

_encoder = Encoder()


class Style(msgspec.Struct, frozen=True):
    """What a request says about the form of its answer."""

    # The request asks for caching: what was not read from the cache counts as written to it.
    caching: bool = False
    # Thinking blocks have no text.
    hide_thinking: bool = False
    # `max_tokens` is 0: the prompt was wanted in the cache, and nothing else.
    silent: bool = False


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int


class _Usage(msgspec.Struct):
    input_tokens: int
    cache_creation_input_tokens: int
    cache_read_input_tokens: int
    output_tokens: int
    output_tokens_details: _OutputDetails


class _MessageUsage(_Usage):
    service_tier: Literal["standard"] = "standard"


class _Message(msgspec.Struct, kw_only=True, tag_field="type", tag="message"):
    id: str
    role: Literal["assistant"] = "assistant"
    model: str
    content: list[Any]
    stop_reason: str | None = None
    stop_sequence: str | None = None
    stop_details: None = None
    usage: _MessageUsage


class _Ending(msgspec.Struct):
    stop_reason: str
    stop_sequence: str | None
    stop_details: None = None


class _Text(msgspec.Struct, tag_field="type", tag="text"):
    text: str


class _Thinking(msgspec.Struct, tag_field="type", tag="thinking"):
    thinking: str
    signature: str


class _Redacted(msgspec.Struct, tag_field="type", tag="redacted_thinking"):
    data: str


class _ToolUse(msgspec.Struct, tag_field="type", tag="tool_use"):
    id: str
    name: str
    input: Raw


_Block = _Text | _Thinking | _Redacted | _ToolUse


def _counts(usage: Usage, style: Style) -> tuple[int, int, int, int, _OutputDetails]:
    """The fields of `_Usage`. Anthropic counts input without what the cache read or wrote."""
    fresh = usage.prompt_tokens - usage.cached_tokens
    written = usage.cache_write_tokens
    if style.caching and not written:
        # The last token of a prompt is computed in any case, and never read from the cache.
        written = max(0, fresh - 1)
    spoken = 0 if style.silent else usage.completion_tokens
    details = _OutputDetails(usage.reasoning_tokens)
    return fresh - written, written, usage.cached_tokens, spoken, details


class _Blocks:
    """Finds the blocks in an answer; subclasses write them down."""

    def __init__(self, answer: Answer, style: Style) -> None:
        self._answer = answer
        self._style = style
        # Of the block that is open, or was the last; -1 = there was none.
        self._index = -1
        # Which block is open: "" = none.
        self._open: _Kind = ""
        # What its provider signed the open thinking block with, once that is known.
        self._signature = ""
        # Whitespace that belongs to the next text block, if there is one.
        self._space = ""
        self._reason: str = "stop"
        self._stop: str | None = None

    def _take(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Delta) and not self._style.silent:
                if event.reasoning:
                    self._thinking(event.reasoning)
                if event.seal is not None:
                    self._seal(event.seal)
                if event.text:
                    self._text(event.text)
                for call in event.tool_calls:
                    self._tool_use(call)
            elif isinstance(event, RowFinished):
                self._end(event)

    def _thinking(self, text: str) -> None:
        if self._open != "thinking":
            self._turn("thinking")
            self._begin(_Thinking("", ""))
        if not self._style.hide_thinking:
            self._more(text)

    def _seal(self, thought: Thought) -> None:
        if thought.sealed:
            self._turn("redacted_thinking")
            self._begin(_Redacted(thought.sealed))
        else:
            if self._open != "thinking":
                # Its provider does not show what it thought.
                self._turn("thinking")
                self._begin(_Thinking("", ""))
            self._signature = thought.signature
        self._turn("")

    def _text(self, text: str) -> None:
        if self._open != "text":
            text = self._space + text
            self._space = ""
            if text.isspace() and len(text) <= _MOST_SPACE:
                self._space = text
                return
            self._turn("text")
            self._begin(_Text(""))
        self._more(text)

    def _tool_use(self, call: ToolCallDelta) -> None:
        raise NotImplementedError

    def _end(self, event: RowFinished) -> None:
        if self._space and self._index < 0:
            # It is all there is.
            self._turn("text")
            self._begin(_Text(""))
            self._more(self._space)
        self._turn("")
        stopped = event.reason == "stop" and isinstance(event.stop, str)
        self._stop = event.stop if stopped and isinstance(event.stop, str) else None
        default = "stop_sequence" if stopped else "end_turn"
        self._reason = _STOP_REASONS.get(event.reason, default)
        if self._style.silent:
            self._reason, self._stop = "max_tokens", None

    def _turn(self, kind: _Kind) -> None:
        """Close the open block; if `kind` says so, another begins."""
        if self._open:
            self._close()
        self._signature = ""
        self._open = kind
        self._index += kind != ""

    def _signed(self) -> str:
        """What the open thinking block is signed with."""
        return self._signature or SIGNATURE

    def _begin(self, block: _Block) -> None:
        raise NotImplementedError

    def _more(self, text: str) -> None:
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError


class MessageWhole(_Blocks):
    """Collects everything; one message at the end."""

    def __init__(self, answer: Answer, style: Style) -> None:
        super().__init__(answer, style)
        self._content: list[_Block] = []
        self._pieces: list[str] = []
        # The calls by their number, each with the pieces of its arguments.
        self._calls: dict[int, tuple[_ToolUse, list[str]]] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        self._take(events)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The message."""
        for block, pieces in self._calls.values():
            block.input = Raw(as_object("".join(pieces)))
        if self._open:
            # There is more after the end.
            self._turn("")
        return _encoder.encode(
            _Message(
                id=self._answer.id,
                model=self._answer.model,
                content=self._content,
                stop_reason=self._reason,
                stop_sequence=self._stop,
                usage=_MessageUsage(*_counts(usage, self._style)),
            )
        )

    def _tool_use(self, call: ToolCallDelta) -> None:
        found = self._calls.get(call.index)
        if found is None:
            if call.name is None:
                # Of a call that never began.
                return
            self._space = ""
            self._turn("tool_use")
            found = self._calls[call.index] = _ToolUse(call.id or "", call.name, Raw(b"{}")), []
            self._begin(found[0])
        found[1].append(call.arguments)

    def _begin(self, block: _Block) -> None:
        self._content.append(block)

    def _more(self, text: str) -> None:
        self._pieces.append(text)

    def _close(self) -> None:
        text = "".join(self._pieces)
        self._pieces.clear()
        block = self._content[-1]
        if isinstance(block, _Text):
            block.text = text
        elif isinstance(block, _Thinking):
            block.thinking, block.signature = text, self._signed()


class MessageStream(_Blocks):
    """Renders events as they come."""

    def __init__(self, answer: Answer, style: Style) -> None:
        super().__init__(answer, style)
        self._out: list[bytes] = []
        self._started = False
        self._calls = InTurn()
        # Of the open call: it has arguments; and those that are no object, to the last.
        self._given = False
        self._odd: list[str] = []
        # The bytes before the pieces of the open block.
        self._before = b""
        # True: what comes next has been sent by somebody else.
        self._sent = False

    def succeed(self, relayed: bytes) -> None:
        """As of `codec.Successor`."""
        self._started = self._sent = True
        found = progress(relayed)
        self._index, self._signature = found.index, found.signature
        if found.open == "text":
            self._open = "text"
        elif found.open == "thinking":
            self._open = "thinking"
        elif found.open:
            # Nobody goes on in such a one.
            self._open = "other"
        self._go_on()

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Events of the stream for `events`."""
        if self._sent:
            self._sent = False
            return b""
        if not self._started:
            self._start()
        self._take(events)
        data = b"".join(self._out)
        self._out.clear()
        return data

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """Why it ended, what it took, and the end."""
        if self._open:
            # There is more after the end.
            self._settle()
        left = b"".join(self._out)
        self._out.clear()
        return left + (
            b'event: message_delta\ndata: {"type":"message_delta","delta":%b,"usage":%b}\n\n'
            b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        ) % (
            _encoder.encode(_Ending(self._reason, self._stop)),
            _encoder.encode(_Usage(*_counts(usage, self._style))),
        )

    def _start(self) -> None:
        self._started = True
        usage = _MessageUsage(*_counts(Usage(0, 0), self._style))
        message = _Message(id=self._answer.id, model=self._answer.model, content=[], usage=usage)
        self._out.append(
            b'event: message_start\ndata: {"type":"message_start","message":%b}\n\n'
            b'event: ping\ndata: {"type":"ping"}\n\n' % _encoder.encode(message)
        )

    def _thinking(self, text: str) -> None:
        if self._waits():
            self._play(self._calls.hold(Said("thinking", [text])))
        else:
            super()._thinking(text)

    def _seal(self, thought: Thought) -> None:
        if self._waits():
            self._play(self._calls.hold(thought))
        else:
            super()._seal(thought)

    def _text(self, text: str) -> None:
        if self._waits():
            self._play(self._calls.hold(Said("text", [text])))
        else:
            super()._text(text)

    def _tool_use(self, call: ToolCallDelta) -> None:
        self._play(self._calls.take(call))

    def _end(self, event: RowFinished) -> None:
        self._settle()
        super()._end(event)

    def _waits(self) -> bool:
        """Whether a call that is open needs more before anything else may come."""
        return self._open == "tool_use" and self._calls.waits()

    def _settle(self) -> None:
        """Write down what waits, and close the last block."""
        self._play(self._calls.rest())
        self._calls.close()
        self._turn("")

    def _play(self, pieces: Sequence[Piece]) -> None:
        for piece in pieces:
            if isinstance(piece, ToolCallDelta):
                self._call_piece(piece)
            elif isinstance(piece, Thought):
                super()._seal(piece)
            elif piece.kind == "text":
                super()._text(piece.text())
            else:
                super()._thinking(piece.text())

    def _call_piece(self, call: ToolCallDelta) -> None:
        if call.name is not None:
            self._space = ""
            self._turn("tool_use")
            self._given = False
            self._begin(_ToolUse(call.id or "", call.name, Raw(b"{}")))
        if not call.arguments:
            return
        if not self._given and (start := call.arguments.lstrip()):
            self._given = True
            if start[0] != "{":
                self._odd.append("")
        if self._odd:
            self._odd.append(call.arguments)
        else:
            self._more(call.arguments)

    def _begin(self, block: _Block) -> None:
        self._out.append(
            b'event: content_block_start\ndata: {"type":"content_block_start","index":%d,'
            b'"content_block":%b}\n\n' % (self._index, _encoder.encode(block))
        )
        self._go_on()

    def _go_on(self) -> None:
        """Pieces of the open block follow, if it is one that has some."""
        if self._open in _DELTAS:
            self._before = _delta_head(self._index, *_DELTAS[self._open])

    def _more(self, text: str) -> None:
        self._out.append(b"%b%b}}\n\n" % (self._before, _encoder.encode(text)))

    def _close(self) -> None:
        if self._open == "thinking":
            head = _delta_head(self._index, b"signature_delta", b"signature")
            self._out.append(b"%b%b}}\n\n" % (head, _encoder.encode(self._signed())))
        if self._odd:
            self._more(as_object("".join(self._odd)).decode())
            self._odd.clear()
        self._out.append(
            b'event: content_block_stop\ndata: {"type":"content_block_stop","index":%d}\n\n'
            % self._index
        )


def _delta_head(index: int, kind: bytes, field: bytes) -> bytes:
    return (
        b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,'
        b'"delta":{"type":"%b","%b":'
    ) % (index, kind, field)
