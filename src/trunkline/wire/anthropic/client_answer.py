"""Answers of the Messages API, read and passed on.

Shapes: the official client's `types/message.py` and `types/raw_*_event.py` (anthropic 2.11), and
platform.claude.com/docs/en/build-with-claude/streaming (read 2026-11-21).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import ContentRefused
from trunkline.core.pieces import Events
from trunkline.core.types import (
    ChatInput,
    Delta,
    Event,
    FinishReason,
    Relayed,
    Request,
    Thought,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.asked import text_of
from trunkline.wire.passing import EventPassing, event_data, renamed, with_data
from trunkline.wire.reading import Row, decoded
from trunkline.wire.sse import ServerEvent
from trunkline.wire.told import reported

_REASONS: dict[str, FinishReason] = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
# What ends a stream.
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    """Totals; what an event leaves out stays as it was."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Counts:
    """Usage, put together from the first event and the last."""

    def __init__(self) -> None:
        self._input = self._written = self._read = self._output = self._thought = 0

    def take(self, usage: _Usage | None) -> None:
        """Take over what is told."""
        if usage is None:
            return
        if usage.input_tokens is not None:
            self._input = usage.input_tokens
        if usage.cache_creation_input_tokens is not None:
            self._written = usage.cache_creation_input_tokens
        if usage.cache_read_input_tokens is not None:
            self._read = usage.cache_read_input_tokens
        if usage.output_tokens is not None:
            self._output = usage.output_tokens
        if usage.output_tokens_details is not None:
            self._thought = usage.output_tokens_details.thinking_tokens or 0

    def usage(self) -> Usage:
        """Anthropic counts input without what the cache read or wrote."""
        prompt = self._input + self._written + self._read
        return Usage(prompt, self._output, self._read, self._thought, self._written)


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    # Of redacted thinking.
    data: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = Raw(b"{}")


class _Delta(msgspec.Struct):
    """Of a block, or of the message."""

    type: str = ""
    text: str | None = None
    thinking: str | None = None
    signature: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None


class _Message(msgspec.Struct):
    type: str = ""
    content: list[_Block] | None = None
    stop_reason: str | None = None
    stop_sequence: str | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None


_event = msgspec.json.Decoder(_Event)
_message = msgspec.json.Decoder(_Message)
_any = msgspec.json.Decoder()


class MessageAnswer:
    """See `reading.Body`."""

    def __init__(self, request: Request, *, seals: bool) -> None:
        """`seals`: what signs thoughts there wants them back as they were."""
        self._id = request.id
        self._seals = seals
        self._row = Row(request)
        self._counts = _Counts()
        # White space that ends an answer to be continued; it was not sent and may come again.
        self._space = _trailing_space(request)
        # Place of a block -> number of the call, and the calls that have arguments.
        self._calls: dict[int, int] = {}
        self._argued: set[int] = set()
        self._said = False
        self._reason: str | None = None
        self._stop: str | None = None

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """One event."""
        if piece.name == b"ping":
            return ()
        event = decoded(_event, piece.data)
        match event.type:
            case "content_block_delta" if event.delta is not None:
                return self._delta(event.index, event.delta)
            case "content_block_start" if event.content_block is not None:
                return self._block(event.index, event.content_block)
            case "content_block_stop":
                return self._close(event.index)
            case "message_start" if event.message is not None:
                self._counts.take(event.message.usage)
            case "message_delta" if event.delta is not None:
                self._counts.take(event.usage)
                self._reason = event.delta.stop_reason or self._reason
                self._stop = event.delta.stop_sequence or self._stop
            case "message_stop":
                return self._finish()
            case "error":
                raise _reported(piece.data)
        return ()

    def whole(self, body: bytes) -> Iterable[Event]:
        """All of an answer."""
        message = decoded(_message, body)
        if message.type != "message":
            raise _reported(body)
        self._counts.take(message.usage)
        self._reason, self._stop = message.stop_reason, message.stop_sequence
        for index, block in enumerate(message.content or ()):
            yield from self._block(index, block)
            yield from self._close(index)
        yield from self._finish()

    def end(self) -> Sequence[Event]:
        """The last event; once there is a reason to stop, all has been said."""
        self._row.usage = self._counts.usage()
        last = () if self._reason is None else self._finish()
        return [*last, *self._row.completed()]

    def _block(self, index: int, block: _Block) -> Iterable[Event]:
        if block.type == "tool_use":
            number = self._calls[index] = len(self._calls)
            data = bytes(block.input)
            text = data.decode() if data not in (b"{}", b"null") else ""
            if text:
                self._argued.add(index)
            self._said = True
            call = ToolCallDelta(number, block.id or f"call_{number}", block.name or "", text)
            return self._row.delta(calls=(call,))
        if block.type == "redacted_thinking":
            return self._seal(Thought("", sealed=block.data or ""))
        events = self._text(block.text or "", block.thinking or "")
        return [*events, *self._seal(Thought("", block.signature or ""))]

    def _delta(self, index: int, delta: _Delta) -> Iterable[Event]:
        if delta.partial_json and index in self._calls:
            self._argued.add(index)
            call = ToolCallDelta(self._calls[index], None, None, delta.partial_json)
            return self._row.delta(calls=(call,))
        if delta.signature:
            return self._seal(Thought("", delta.signature))
        return self._text(delta.text or "", delta.thinking or "")

    def _seal(self, thought: Thought) -> Iterable[Event]:
        sealed = thought.sealed or thought.signature not in ("", SIGNATURE)
        return (Delta(self._id, 0, "", seal=thought),) if sealed and self._seals else ()

    def _text(self, text: str, reasoning: str) -> Iterable[Event]:
        while self._space and text:
            # Said again: the client has it already.
            self._space, text = (
                (self._space[1:], text[1:]) if text[0] == self._space[0] else ("", text)
            )
        self._said = self._said or bool(text)
        return self._row.delta(text, reasoning=reasoning)

    def _close(self, index: int) -> Iterable[Event]:
        if index not in self._calls or index in self._argued:
            return ()
        # Arguments are a JSON object; a call without any may have sent none.
        self._argued.add(index)
        return self._row.delta(calls=(ToolCallDelta(self._calls[index], None, None, "{}"),))

    def _finish(self) -> Iterable[Event]:
        reason = _REASONS.get(self._reason or "", "stop")
        if reason == "content_filter" and not self._said:
            raise ContentRefused("The backend's model refused to answer.")
        return self._row.finish(reason, self._stop if reason == "stop" else None)


def _trailing_space(request: Request) -> str:
    source = request.input
    if not isinstance(source, ChatInput) or not source.continue_final_message:
        return ""
    text = text_of(source.messages[-1])
    return text[len(text.rstrip()) :]


def _reported(body: bytes) -> Exception:
    """The error that an event, or a body, tells of."""
    return reported(decoded(_any, body))


def look(body: bytes) -> Usage:
    """Usage of a whole answer. Raises what it reports."""
    message = decoded(_message, body)
    if message.type != "message":
        raise _reported(body)
    counts = _Counts()
    counts.take(message.usage)
    return counts.usage()


class MessagePassing(EventPassing):
    """Passes a stream on."""

    _token = b'"content_block_delta"'
    _plain = Events(b"\n\n", _token, (b'"message_', b'"error"'))

    def __init__(self, request_id: str, name: str | None) -> None:
        super().__init__(request_id)
        # The client's name of the model, where it differs.
        self._name = name
        # There was a reason to stop, with which all has been said; and the event behind it.
        self._stopped = self._ended = False
        self._counts = _Counts()

    def end(self) -> Sequence[Event]:
        """As of `EventPassing`; what only says that it is the end is put where it is missing."""
        events = super().end()
        return events if self._ended else (*events[:-1], Relayed(self._id, _STOP), events[-1])

    def _whole(self) -> bool:
        return self._ended or self._stopped

    def _special(self, data: bytes) -> bool:
        """The events around the blocks, and errors."""
        return b'"message_' in data or b'"error"' in data

    def _event(self, event: bytes) -> bytes | None:
        data = event_data(event)
        if not data.startswith(b"{"):
            return event
        found = decoded(_event, data)
        if found.type == "error":
            raise _reported(data)
        if found.type == "message_stop":
            self._ended = True
        elif found.delta is not None and found.delta.stop_reason is not None:
            self._stopped = True
        self._counts.take(found.usage)
        if found.message is not None:
            self._counts.take(found.message.usage)
            if self._name is not None:
                event = with_data(event, renamed(data, self._name, "message"))
        self._usage = self._counts.usage()
        return event
