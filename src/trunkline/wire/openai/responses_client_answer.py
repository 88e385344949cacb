"""Answers of the Responses API, read.

Events: as `responses_answer` has them. Reasoning comes as it is (`reasoning_text`: open models) or
as a summary; where both come, the first kind counts. A refusal is text, and ends as a content
filter does: what other dialects have for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from trunkline.core.errors import UpstreamFailed
from trunkline.core.types import Event, Request, ToolCallDelta, Usage
from trunkline.wire.openai.client_answer import Rows, Token, UsageDetails, UsageFields, told_tokens
from trunkline.wire.passing import EventPassing, event_data, renamed, with_data
from trunkline.wire.reading import decoded
from trunkline.wire.sse import ServerEvent
from trunkline.wire.told import reported

_REASONS = {"max_output_tokens": "length", "content_filter": "content_filter"}
_ENDS = frozenset(("completed", "incomplete"))
_LATER = frozenset(("queued", "in_progress", "cancelled"))


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: UsageDetails | None = None
    output_tokens_details: UsageDetails | None = None

    def fields(self) -> UsageFields:
        """The same in the words of chat completions."""
        return UsageFields(
            self.input_tokens,
            self.output_tokens,
            self.input_tokens_details,
            self.output_tokens_details,
        )


class _Part(msgspec.Struct):
    type: str = ""
    text: str | None = None
    refusal: str | None = None
    logprobs: list[Token] | None = None


class _Item(msgspec.Struct):
    type: str = ""
    call_id: str | None = None
    name: str | None = None
    arguments: str | None = None
    content: list[_Part] | None = None
    summary: list[_Part] | None = None


class _Incomplete(msgspec.Struct):
    reason: str | None = None


class _Error(msgspec.Struct):
    message: str | None = None
    code: str | None = None


class _Response(msgspec.Struct):
    status: str | None = None
    error: _Error | None = None
    incomplete_details: _Incomplete | None = None
    output: list[_Item] | None = None
    usage: _Usage | None = None


class _Event(msgspec.Struct):
    """All events that matter here; `error` has its fields at the top."""

    type: str
    delta: str = ""
    output_index: int = 0
    summary_index: int = 0
    item: _Item | None = None
    arguments: str | None = None
    logprobs: list[Token] | None = None
    response: _Response | None = None
    message: str | None = None
    code: str | None = None
    param: str | None = None


class _Kind(msgspec.Struct):
    type: str = ""


_HANDLED = frozenset(
    f"response.{name}"
    for name in (
        "output_item.added",
        "output_item.done",
        "output_text.delta",
        "refusal.delta",
        "reasoning_text.delta",
        "reasoning_summary_text.delta",
        "function_call_arguments.delta",
        "function_call_arguments.done",
        "completed",
        "incomplete",
        "failed",
    )
) | {"error"}

_kind = msgspec.json.Decoder(_Kind)
_event = msgspec.json.Decoder(_Event)
_response = msgspec.json.Decoder(_Response)


class ResponseAnswer:
    """See `reading.Body`."""

    def __init__(self, request: Request) -> None:
        self._rows = Rows(request)
        self._row = self._rows.row(0)
        self._logprobs = request.sampling.logprobs is not None
        # Calls whose arguments have come, by the place of their item.
        self._argued: set[int] = set()
        # Calls that have begun, by the same.
        self._begun: set[int] = set()
        # Whether text, or a thought, has come since an item of such was complete.
        self._texted = self._thinking = False
        # The kind of reasoning that came first, and the part of a summary that came last.
        self._thought = ""
        self._part = 0

    def piece(self, piece: ServerEvent) -> Iterable[Event]:
        """One event."""
        name = piece.name.decode(errors="replace")
        if not name:
            if piece.data.startswith(b"[DONE]"):
                return ()
            name = decoded(_kind, piece.data).type
        if name not in _HANDLED:
            return ()
        return self._take(decoded(_event, piece.data))

    def whole(self, body: bytes) -> Iterable[Event]:
        """All of an answer."""
        response = decoded(_response, body)
        for index, item in enumerate(response.output or ()):
            yield from self._item(index, item)
        yield from self._finish(response)

    def end(self) -> Sequence[Event]:
        """The last event."""
        return self._rows.end()

    def _take(self, event: _Event) -> Iterable[Event]:
        match event.type:
            case "response.output_text.delta":
                self._texted = True
                tokens = told_tokens(event.logprobs) if self._logprobs else None
                return self._row.delta(event.delta, logprobs=tokens)
            case "response.refusal.delta":
                self._texted = True
                return self._refusal(event.delta)
            case "response.reasoning_text.delta" | "response.reasoning_summary_text.delta":
                return self._reasoning(event)
            case "response.output_item.added" if event.item and event.item.type == "function_call":
                return self._call(event.output_index, event.item, "")
            case "response.function_call_arguments.delta":
                return self._arguments(event.output_index, event.delta)
            case "response.function_call_arguments.done":
                return self._rest(event.output_index, event.arguments)
            case "response.output_item.done" if event.item:
                return self._done(event.output_index, event.item)
            case "error":
                said = {"message": event.message, "code": event.code, "param": event.param}
                raise reported({"error": said})
        return () if event.response is None else self._finish(event.response)

    def _reasoning(self, event: _Event) -> Iterable[Event]:
        self._thinking = True
        self._thought = self._thought or event.type
        if self._thought != event.type:
            return ()
        new = event.summary_index != self._part
        self._part = event.summary_index
        return self._row.delta("", ("\n\n" if new else "") + event.delta)

    def _call(self, index: int, item: _Item, arguments: str) -> Iterable[Event]:
        self._begun.add(index)
        calls = self._row.call(index, item.call_id or "", item.name or "", arguments)
        return self._said(calls)

    def _arguments(self, index: int, text: str) -> Iterable[Event]:
        if text:
            self._argued.add(index)
        return self._said(self._row.call(index, "", "", text))

    def _rest(self, index: int, arguments: str | None) -> Iterable[Event]:
        """Arguments told at the end; most servers have sent them piece by piece."""
        events: Iterable[Event] = ()
        if arguments and index not in self._argued:
            events = self._arguments(index, arguments)
        self._row.close(index)
        return events

    def _done(self, index: int, item: _Item) -> Iterable[Event]:
        """An item that is complete; some servers tell nothing of it before."""
        if item.type == "function_call":
            begun = () if index in self._begun else self._call(index, item, "")
            return (*begun, *self._rest(index, item.arguments))
        came = self._thinking if item.type == "reasoning" else self._texted
        if item.type == "reasoning":
            self._thinking = False
        elif item.type == "message":
            self._texted = False
        return () if came else self._item(index, item)

    def _refusal(self, text: str) -> Iterable[Event]:
        self._row.refused = self._row.refused or bool(text)
        return self._row.delta(text)

    def _said(self, calls: Iterable[ToolCallDelta]) -> Iterable[Event]:
        return self._row.delta("", calls=tuple(calls))

    def _item(self, index: int, item: _Item) -> Iterable[Event]:
        if item.type == "function_call":
            yield from self._call(index, item, item.arguments or "")
            self._row.close(index)
        elif item.type == "reasoning":
            parts = item.content or item.summary or ()
            yield from self._row.delta("", "\n\n".join(part.text or "" for part in parts))
        for part in item.content or () if item.type == "message" else ():
            tokens = told_tokens(part.logprobs) if self._logprobs else None
            yield from self._row.delta(part.text or "", logprobs=tokens)
            yield from self._refusal(part.refusal or "")

    def _finish(self, response: _Response) -> Iterable[Event]:
        if response.usage is not None:
            self._rows.usage = response.usage.fields()
        _check(response)
        details = response.incomplete_details
        reason = _REASONS.get(details.reason or "", "length") if details else "stop"
        yield from self._row.finish(reason, None)


def _check(response: _Response, ends: frozenset[str] = _ENDS) -> None:
    """Raise what a response says that is not an answer."""
    if response.error is not None or response.status == "failed":
        error = response.error or _Error()
        raise reported({"error": {"message": error.message, "code": error.code}})
    if response.status not in ends:
        raise UpstreamFailed(f"The backend's answer ended as {response.status!r}.")


def look(body: bytes) -> Usage:
    """Usage of a whole answer. Raises what it reports."""
    response = decoded(_response, body)
    # One in the background is asked for again later.
    _check(response, _ENDS | _LATER)
    return response.usage.fields().usage() if response.usage else Usage(0, 0)


class ResponseStream(EventPassing):
    """Passes a stream on."""

    _token = b'.delta"'

    def __init__(self, request_id: str, name: str | None) -> None:
        super().__init__(request_id)
        # The client's name of the model, where it differs.
        self._name = name
        self._ended = False

    def _whole(self) -> bool:
        return self._ended

    def _special(self, data: bytes) -> bool:
        """Events that tell of the response as a whole, and errors."""
        return b'"response"' in data or b'"error"' in data

    def _event(self, event: bytes) -> bytes | None:
        data = event_data(event)
        if not data.startswith(b"{"):
            return event
        kind = decoded(_kind, data).type
        if kind in ("error", "response.failed", "response.completed", "response.incomplete"):
            found = decoded(_event, data)
            if found.response is None:
                said = {"message": found.message, "code": found.code, "param": found.param}
                raise reported({"error": said})
            _check(found.response)
            if found.response.usage is not None:
                self._usage = found.response.usage.fields().usage()
            self._ended = True
        if self._name is None or b'"response"' not in data:
            return event
        return with_data(event, renamed(data, self._name, "response"))
