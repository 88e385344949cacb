"""Bedrock's `Converse` and `ConverseStream`, spoken to the service.

Shapes and errors: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html
and the service model of bedrock-runtime 2023-09-30 in botocore 1.44 (read 2026-11-21). The stream
is `eventstream`'s; `:message-type` tells events from exceptions, `:event-type` which one it is, and
`contentBlockIndex` which block a piece belongs to.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Iterable, Sequence

import msgspec
from msgspec import Raw

from trunkline.core.errors import (
    ContentRefused,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.core.types import Delta, Event, RawRequest, Request, Thought, ToolCallDelta, Usage
from trunkline.wire.asked import Asked, chat_input
from trunkline.wire.bedrock.encode import body_of
from trunkline.wire.bedrock.eventstream import EventStreamReader, Message
from trunkline.wire.calls import Calls
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Terms
from trunkline.wire.failures import failure, rejected, retry_after_of, shown
from trunkline.wire.reading import Row, StreamReader, WholeReader, decoded, is_whole

_LIMITED = frozenset(
    ("throttlingexception", "modelnotreadyexception", "servicequotaexceededexception")
)
_REFUSED = frozenset(
    (
        "accessdeniedexception",
        "unrecognizedclientexception",
        "invalidsignatureexception",
        "incompletesignatureexception",
        "missingauthenticationtokenexception",
        "expiredtokenexception",
        "resourcenotfoundexception",
    )
)
_POLICY = ("guardrail_intervened", "content_filtered")
_LENGTH = ("max_tokens", "model_context_window_exceeded")


class _ToolUse(msgspec.Struct, rename="camel"):
    tool_use_id: str = ""
    name: str = ""
    # Text in a stream, an object in a whole answer.
    input: Raw = Raw(b"")


class _Thought(msgspec.Struct):
    text: str | None = None
    signature: str | None = None


class _Reasoning(msgspec.Struct, rename="camel"):
    """Of a stream, but for `reasoning_text`; that is of a whole answer."""

    text: str | None = None
    signature: str | None = None
    # Base64.
    redacted_content: str | None = None
    reasoning_text: _Thought | None = None


class _Block(msgspec.Struct, rename="camel"):
    text: str | None = None
    tool_use: _ToolUse | None = None
    reasoning_content: _Reasoning | None = None


class _Said(msgspec.Struct):
    content: list[_Block]


class _Output(msgspec.Struct):
    message: _Said | None = None


class _Usage(msgspec.Struct, rename="camel"):
    input_tokens: int = 0
    output_tokens: int = 0
    cache_read_input_tokens: int = 0
    cache_write_input_tokens: int = 0

    def usage(self) -> Usage:
        """What the cache holds is no part of `inputTokens` there."""
        cached = self.cache_read_input_tokens
        prompt = self.input_tokens + cached + self.cache_write_input_tokens
        written = self.cache_write_input_tokens
        return Usage(prompt, self.output_tokens, cached, cache_write_tokens=written)


class _More(msgspec.Struct):
    """What was asked for besides (`STOP_PATH`)."""

    stop_sequence: str | None = None


class _Answer(msgspec.Struct, rename="camel"):
    """The payload of one event of a stream, or a whole answer."""

    content_block_index: int = 0
    start: _Block | None = None
    delta: _Block | None = None
    stop_reason: str | None = None
    additional_model_response_fields: _More | None = None
    usage: _Usage | None = None
    output: _Output | None = None


class _Failure(msgspec.Struct):
    message: str = ""
    upper: str = msgspec.field(name="Message", default="")
    type: str = msgspec.field(name="__type", default="")


_answer = msgspec.json.Decoder(_Answer)
_failure = msgspec.json.Decoder(_Failure)
_string = msgspec.json.Decoder(str)


class _Body:
    def __init__(self, request: Request) -> None:
        self._row = Row(request)
        self._id = request.id
        self._stops = request.stop
        self._calls = Calls(request)
        # Of the open block of reasoning.
        self._signature = ""
        # Whether there is any of an answer, besides thoughts.
        self._said = False

    def piece(self, piece: Message) -> Iterable[Event]:
        """Events of one message."""
        kind = piece.headers.get(":message-type", "event")
        if kind == "exception":
            name = str(piece.headers.get(":exception-type", ""))
            raise _reported(name, _decoded_failure(piece.payload), Head(500, {}))
        if kind == "error":
            words = (str(piece.headers.get(name)) for name in (":error-code", ":error-message"))
            said = ": ".join(words)
            raise UpstreamFailed(f"The backend failed: {shown(said)}")
        answer = decoded(_answer, piece.payload)
        match piece.headers.get(":event-type"):
            case "contentBlockStart" if answer.start is not None:
                return self._start(answer.content_block_index, answer.start.tool_use)
            case "contentBlockDelta" if answer.delta is not None:
                return self._delta(answer.content_block_index, answer.delta)
            case "contentBlockStop":
                calls = self._calls.end(answer.content_block_index)
                return [*self._sealed(), *self._row.delta(calls=calls)]
            case "messageStop":
                return [*self._row.delta(calls=self._calls.rest()), *self._finish(answer)]
            case "metadata" if answer.usage is not None:
                self._row.usage = answer.usage.usage()
        return []

    def whole(self, body: bytes) -> Iterable[Event]:
        """Events of a whole answer."""
        answer = decoded(_answer, body)
        if answer.output is None or answer.output.message is None:
            raise UpstreamFailed("The backend's answer has no message.")
        if answer.usage is not None:
            self._row.usage = answer.usage.usage()
        events: list[Event] = []
        for block in answer.output.message.content:
            if block.tool_use is not None:
                events += self._call(block.tool_use)
            elif block.reasoning_content is not None:
                events += self._reason(block.reasoning_content)
                events += self._sealed()
            else:
                events += self._text(block.text or "")
        return [*events, *self._finish(answer)]

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._row.completed()

    def _start(self, index: int, use: _ToolUse | None) -> list[Event]:
        if use is None:
            return []
        self._said = True
        return self._row.delta(calls=self._calls.begin(index, use.tool_use_id, use.name, ""))

    def _delta(self, index: int, block: _Block) -> list[Event]:
        if block.tool_use is not None:
            pieces = decoded(_string, bytes(block.tool_use.input) or b'""')
            return self._row.delta(calls=self._calls.more(index, pieces))
        if block.reasoning_content is not None:
            return self._reason(block.reasoning_content)
        return self._text(block.text or "")

    def _text(self, text: str) -> list[Event]:
        self._said = self._said or bool(text)
        return self._row.delta(text)

    def _reason(self, thought: _Reasoning) -> list[Event]:
        """More of a thought; its signature is kept until its block ends."""
        if thought.redacted_content:
            return self._seal(Thought("", sealed=thought.redacted_content))
        told = thought.reasoning_text or thought
        self._signature += told.signature or ""
        return self._row.delta(reasoning=told.text or "")

    def _seal(self, seal: Thought) -> list[Event]:
        return [Delta(self._id, 0, "", seal=seal)]

    def _sealed(self) -> list[Event]:
        """A block has ended: the signature of its thought, if it was one."""
        if not self._signature:
            return []
        seal, self._signature = Thought("", signature=self._signature), ""
        return self._seal(seal)

    def _call(self, use: _ToolUse) -> list[Event]:
        self._said = True
        arguments = bytes(use.input).decode() or "{}"
        call = ToolCallDelta(self._row.calls, use.tool_use_id, use.name, arguments)
        return self._row.delta(calls=(call,))

    def _finish(self, answer: _Answer) -> list[Event]:
        reason = answer.stop_reason
        if reason in _POLICY:
            if not self._said:
                raise ContentRefused(f"The provider's policy ends the answer: {reason}")
            # What a guardrail is set to say instead is text, too.
            return self._row.finish("content_filter")
        if reason is not None and reason.startswith("malformed_"):
            raise UpstreamFailed(f"The backend broke the answer off: {reason}")
        if reason == "stop_sequence":
            return self._row.finish("stop", self._matched(answer))
        return self._row.finish("length" if reason in _LENGTH else "stop")

    def _matched(self, answer: _Answer) -> str | None:
        more = answer.additional_model_response_fields
        if more is not None and more.stop_sequence:
            return more.stop_sequence
        return self._stops[0] if len(self._stops) == 1 else None


class ConverseSpeaker:
    """`POST /model/{model}/converse-stream`, or `.../converse`."""

    operation = "bedrock.converse"

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        """See `Speaker`."""
        asked = Asked(request, terms)
        body = body_of(asked, chat_input(request, "Bedrock's Converse"), request)
        name = urllib.parse.quote(terms.model, safe="")
        ending = "-stream" if asked.has("stream") else ""
        return asked.outgoing(f"/model/{name}/converse{ending}", body)

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        """Messages for a stream, else one object."""
        body = _Body(request)
        return WholeReader(body) if is_whole(head) else StreamReader(EventStreamReader(), body)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        """No client speaks this dialect to us."""
        raise Unsupported("Requests in Bedrock's dialect are not taken.")

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        """As `patch`."""
        raise Unsupported("Requests in Bedrock's dialect are not taken.")

    def error(self, head: Head, body: bytes) -> TrunklineError:
        """The type stands in x-amzn-errortype, or in the body."""
        found = _decoded_failure(body)
        kind = head.headers.get("x-amzn-errortype") or found.type
        # "ThrottlingException:http://internal.amazon.com/..." and "com.amazon#Throttling...".
        return _reported(kind.partition(":")[0].rpartition("#")[2], found, head)


def _decoded_failure(body: bytes) -> _Failure:
    try:
        return _failure.decode(body)
    except msgspec.DecodeError:
        return _Failure(body[:600].decode(errors="replace"))


def _reported(kind: str, found: _Failure, head: Head) -> TrunklineError:
    said = found.message or found.upper
    name = kind.lower()
    after = retry_after_of(head)
    if name in _LIMITED:
        return RateLimited(f"The backend takes no more for now: {shown(said)}", retry_after=after)
    if name in _REFUSED or "model identifier is invalid" in said:
        return UpstreamRefused(f"The backend refused ({kind or head.status}): {shown(said)}")
    if name == "validationexception":
        return rejected(said)
    if name == "modeltimeoutexception":
        return UpstreamTimeout(f"The backend ran out of time: {shown(said)}")
    return failure(head, said)


CONVERSE = ConverseSpeaker()
