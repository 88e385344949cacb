"""Answers of the Responses API: one object, or the events of its making.

Order and fields of the events: the "Streaming" examples of OpenAI's OpenAPI description (commit
f85dbe2 of github.com/openai/openai-openapi, 2026-08-21) and the official client's
`types/responses/*_event.py` (openai 3.52). Read 2026-11-21.

    response.created, response.in_progress
    for each item:      response.output_item.added
        reasoning:      content_part.added, reasoning_text.delta ..., .done, content_part.done
          summarized:   reasoning_summary_part.added, reasoning_summary_text.delta ..., .done,
                        reasoning_summary_part.done
        message:        content_part.added, output_text.delta ..., .done, content_part.done
        function call:  function_call_arguments.delta ..., .done
        custom call:    custom_tool_call_input.delta ..., .done
                        response.output_item.done
    response.completed, or response.incomplete, or response.failed

Who asks for a summary of the reasoning gets the reasoning itself in its place: no model of ours
writes one, and a client that shows summaries would show nothing else.

A call is done when another item begins. One whose arguments are no JSON by then stays open beside
that item, and takes what comes of it later, until the response ends: chat completions may send
pieces of several calls in turn, told apart by `index`, and clients tell items by `output_index`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.errors import TrunklineError
from trunkline.core.types import (
    Delta,
    Event,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.state.responses import StoredResponse
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import encoder
from trunkline.wire.openai.chat_answer import tokens
from trunkline.wire.openai.custom_input import CustomInput
from trunkline.wire.openai.responses_body import (
    CustomCallItem,
    FunctionCallItem,
    MessageItem,
    OutputItem,
    OutputText,
    Reasoning,
    ReasoningItem,
    ReasoningText,
    ResponseBody,
    Status,
    response_error,
    response_usage,
)
from trunkline.wire.openai.responses_items import Item, hidden_reasoning, shown
from trunkline.wire.openai.responses_said import read
from trunkline.wire.openai.responses_tools import Called

# What cut an answer short, as `incomplete_details` says it.
_CUT = {"length": "max_output_tokens", "content_filter": "content_filter"}


class _OpenCall:
    """A call that is not done."""

    __slots__ = ("custom", "item", "pieces")

    def __init__(self, item: FunctionCallItem | CustomCallItem) -> None:
        self.item = item
        self.pieces: list[str] = []
        # What it takes, if it is a custom one.
        self.custom = CustomInput()

    def is_whole(self) -> bool:
        """Whether its arguments are complete."""
        try:
            msgspec.json.decode("".join(self.pieces), type=Raw)
        except msgspec.DecodeError:
            return False
        return True


class Echo(msgspec.Struct, kw_only=True):
    """What a response says of its request; see `ResponseBody`."""

    instructions: str | None
    max_output_tokens: int | None
    max_tool_calls: int | None
    parallel_tool_calls: bool
    previous_response_id: str | None
    prompt_cache_key: str | UnsetType
    reasoning: Reasoning
    safety_identifier: str | UnsetType
    store: bool
    temperature: float
    text: Any
    tool_choice: Raw
    tools: Sequence[Raw]
    top_logprobs: int
    top_p: float
    user: str | None
    metadata: dict[str, str]


class ResponseRenderer:
    """Renders one response. What is not streamed is collected alike, and sent at the end."""

    def __init__(
        self,
        answer: Answer,
        echo: Echo,
        *,
        stream: bool,
        logprobs: bool,
        hidden_reasoning: bool,
        find_tool: Callable[[str], Called],
        input_items: Sequence[Item],
    ) -> None:
        self._stream = stream
        self._logprobs = logprobs
        self._hidden = hidden_reasoning
        self._find_tool = find_tool
        self._input_items = input_items
        self._suffix = answer.id.removeprefix("resp_")
        self._summarized = echo.reasoning.summary is not None
        self._body = ResponseBody(
            id=answer.id,
            created_at=answer.created,
            model=answer.model,
            output=[],
            **{name: getattr(echo, name) for name in echo.__struct_fields__},
        )
        self._items: list[OutputItem | Raw] = self._body.output
        self._sequence = 0
        self._out: list[bytes] = []
        # Pieces of the open item's text, and the item as it is streamed: a message or a thought.
        self._pieces: list[str] = []
        self._open: OutputItem | None = None
        # Calls by their index: those that are not done, and all that have begun.
        self._calls: dict[int, _OpenCall] = {}
        self._begun: set[int] = set()
        self._finished: bytes | None = None
        self._reason = "stop"
        # True: what comes next has been sent by another.
        self._sent = False
        # True: the open item has the part that its text goes into.
        self._has_part = False
        # How far another has ended the open item: its text, and its part.
        self._text_done = self._part_done = False

    def succeed(self, relayed: bytes) -> None:
        """As of `codec.Successor`."""
        self._sent = True
        said = read(relayed)
        if said.id:
            self._body.id, self._body.created_at = said.id, said.created_at
            self._suffix = said.id.removeprefix("resp_")
        self._items[:] = said.items
        self._open, self._has_part = said.open, said.part
        self._sequence = said.sequence
        if said.open is not None:
            self._pieces += said.pieces
            self._text_done, self._part_done = said.text_done, said.part_done
            if said.text_done:
                # Nothing more goes into it.
                self._end_item("completed")

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Events for `events`; nothing where the answer is not streamed."""
        if self._sent:
            self._sent = False
            return b""
        if self._sequence == 0:
            self._lifecycle("response.created")
            self._lifecycle("response.in_progress")
        for event in events:
            if isinstance(event, Delta):
                self._delta(event)
            elif isinstance(event, RowFinished):
                self._reason = event.reason
                if not self._items:
                    # Clients look for a message, be it empty.
                    self._begin(self._new_message())
                self._end_all("incomplete" if event.reason in _CUT else "completed")
        return self._flush()

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The last event, or the object."""
        body = self._body
        body.usage = response_usage(usage)
        if self._reason in _CUT:
            body.status = "incomplete"
            body.incomplete_details = {"reason": _CUT[self._reason]}
        else:
            body.status = "completed"
            took = timing.queue + timing.prefill + timing.decode
            body.completed_at = body.created_at + round(took)
        self._finished = encoder.encode(body)
        if not self._stream:
            return self._finished
        self._lifecycle(f"response.{body.status}")
        return self._flush()

    def fail(self, error: TrunklineError) -> bytes:
        """The last event of a stream that has begun and then failed."""
        self._end_all("incomplete")
        self._body.status = "failed"
        self._body.error = response_error(error)
        self._lifecycle("response.failed")
        return self._flush()

    def stored(self) -> StoredResponse | None:
        """What is to be kept of a finished response; None where the client wants nothing kept."""
        if self._finished is None or not self._body.store:
            return None
        sent = [
            shown(item, f"{_prefix(item.type)}_{self._suffix}i{index:02x}")
            for index, item in enumerate(self._input_items)
        ]
        ids = [_Id.read(raw) for raw in sent]
        ids += [_Id.read(one) if isinstance(one, Raw) else one.id for one in self._items]
        return StoredResponse(
            id=self._body.id,
            previous=self._body.previous_response_id,
            body=self._finished,
            input=b"[%b]" % b",".join(sent),
            items=tuple([one for one in ids if one]),
        )

    # Events

    def _flush(self) -> bytes:
        data = b"".join(self._out)
        self._out.clear()
        return data

    def _emit(self, kind: str, **fields: Any) -> None:
        if self._stream:
            body = {"type": kind, "sequence_number": self._sequence, **fields}
            self._out.append(b"event: %b\ndata: %b\n\n" % (kind.encode(), encoder.encode(body)))
        self._sequence += 1

    def _lifecycle(self, kind: str) -> None:
        self._emit(kind, response=self._body)

    def _emit_part(self, kind: str, item: OutputItem, **fields: Any) -> None:
        """An event of an item that is open."""
        self._emit(kind, item_id=item.id, output_index=self._place(item), **fields)

    def _place(self, item: OutputItem) -> int:
        at = len(self._items) - 1
        while self._items[at] is not item:
            at -= 1
        return at

    # Items

    def _delta(self, event: Delta) -> None:
        if event.reasoning:
            if not isinstance(self._open, ReasoningItem):
                self._begin(self._new_reasoning())
            self._need_part(self._open)
            self._pieces.append(event.reasoning)
            self._reasoning_piece(event.reasoning)
        if event.text:
            if not isinstance(self._open, MessageItem):
                self._begin(self._new_message())
            self._need_part(self._open)
            self._pieces.append(event.text)
            self._text_piece(event.text, event.logprobs or ())
        for call in event.tool_calls:
            if call.index not in self._begun:
                self._begin_call(call)
            # One that is done takes no more.
            if (open_call := self._calls.get(call.index)) is not None:
                self._call_piece(open_call, call.arguments)

    def _call_piece(self, call: _OpenCall, piece: str) -> None:
        item = call.item
        call.pieces.append(piece)
        if isinstance(item, CustomCallItem):
            self._custom_piece(item, call.custom.feed(piece))
        elif piece:
            self._emit_part("response.function_call_arguments.delta", item, delta=piece)

    def _begin(self, item: OutputItem) -> None:
        self._end_item("completed")
        for index in [index for index, call in self._calls.items() if call.is_whole()]:
            self._end_call(self._calls.pop(index), "completed")
        self._open, self._has_part = item, False
        self._items.append(item)
        self._emit("response.output_item.added", output_index=len(self._items) - 1, item=item)

    def _id(self, prefix: str) -> str:
        return f"{prefix}_{self._suffix}{len(self._items):02x}"

    def _need_part(self, item: OutputItem | None) -> None:
        """Open the part of `item`, the last, that its text goes into, if it is not there yet."""
        if self._has_part:
            return
        self._has_part = True
        if isinstance(item, MessageItem):
            said = OutputText("", logprobs=[] if self._logprobs else UNSET)
            self._emit_part("response.content_part.added", item, content_index=0, part=said)
            item.content.append(said)
        elif isinstance(item, ReasoningItem) and self._summarized:
            part = ReasoningText("", "summary_text")
            self._emit_part(
                "response.reasoning_summary_part.added", item, summary_index=0, part=part
            )
        elif isinstance(item, ReasoningItem):
            part = ReasoningText("", "reasoning_text")
            self._emit_part("response.content_part.added", item, content_index=0, part=part)

    def _new_reasoning(self) -> ReasoningItem:
        content: list[ReasoningText] | UnsetType = UNSET if self._summarized else []
        return ReasoningItem(self._id("rs"), [], content, status="in_progress")

    def _reasoning_piece(self, text: str) -> None:
        assert self._open is not None
        if self._summarized:
            kind = "response.reasoning_summary_text.delta"
            self._emit_part(kind, self._open, summary_index=0, delta=text)
        else:
            kind = "response.reasoning_text.delta"
            self._emit_part(kind, self._open, content_index=0, delta=text)

    def _new_message(self) -> MessageItem:
        return MessageItem(self._id("msg"), "in_progress", [])

    def _text_piece(self, text: str, logprobs: Sequence[TokenLogprob]) -> None:
        item = self._open
        assert isinstance(item, MessageItem)
        shown_ = tokens(logprobs) if self._logprobs else []
        if self._logprobs:
            kept = item.content[0].logprobs
            item.content[0].logprobs = shown_ if kept is UNSET else kept + shown_
        self._emit_part(
            "response.output_text.delta", item, content_index=0, delta=text, logprobs=shown_
        )

    def _begin_call(self, call: ToolCallDelta) -> None:
        tool = self._find_tool(call.name or "")
        namespace: str | UnsetType = tool.namespace or UNSET
        call_id = call.id or ""
        item: FunctionCallItem | CustomCallItem
        if tool.custom:
            item = CustomCallItem(
                self._id("ctc"), "in_progress", call_id, tool.name, "", namespace=namespace
            )
        else:
            item = FunctionCallItem(
                self._id("fc"), "in_progress", call_id, tool.name, "", namespace=namespace
            )
        self._begin(item)
        self._open = None
        self._calls[call.index] = _OpenCall(item)
        self._begun.add(call.index)

    def _custom_piece(self, item: CustomCallItem, text: str) -> None:
        if text:
            self._emit_part("response.custom_tool_call_input.delta", item, delta=text)

    def _end_all(self, status: Status) -> None:
        self._end_item(status)
        for call in self._calls.values():
            self._end_call(call, status)
        self._calls.clear()

    def _end_item(self, status: Status) -> None:
        item, self._open = self._open, None
        text = "".join(self._pieces)
        self._pieces.clear()
        if isinstance(item, ReasoningItem):
            self._end_reasoning(item, text)
        elif isinstance(item, MessageItem):
            self._end_message(item, text)
        else:
            return
        self._text_done = self._part_done = False
        self._done(item, status)

    def _end_call(self, call: _OpenCall, status: Status) -> None:
        item = call.item
        if isinstance(item, CustomCallItem):
            rest, item.input = call.custom.end()
            self._custom_piece(item, rest)
            self._emit_part("response.custom_tool_call_input.done", item, input=item.input)
        else:
            item.arguments = "".join(call.pieces)
            self._emit_part(
                "response.function_call_arguments.done",
                item,
                name=item.name,
                arguments=item.arguments,
            )
        self._done(item, status)

    def _done(self, item: OutputItem, status: Status) -> None:
        item.status = status
        self._emit("response.output_item.done", output_index=self._place(item), item=item)

    def _end_reasoning(self, item: ReasoningItem, text: str) -> None:
        if not self._has_part:
            # Whoever began it shows no thoughts.
            return
        if self._hidden:
            item.encrypted_content = hidden_reasoning(text)
        if self._summarized:
            part = ReasoningText(text, "summary_text")
            item.summary = [part]
            done, ended = "reasoning_summary_text.done", "reasoning_summary_part.done"
            where = {"summary_index": 0}
        else:
            part = ReasoningText(text, "reasoning_text")
            item.content = [part]
            done, ended = "reasoning_text.done", "content_part.done"
            where = {"content_index": 0}
        if not self._text_done:
            self._emit_part(f"response.{done}", item, **where, text=text)
        if not self._part_done:
            self._emit_part(f"response.{ended}", item, **where, part=part)

    def _end_message(self, item: MessageItem, text: str) -> None:
        self._need_part(item)
        part = item.content[0]
        part.text = text
        logprobs = [] if part.logprobs is UNSET else part.logprobs
        if not self._text_done:
            done = "response.output_text.done"
            self._emit_part(done, item, content_index=0, text=text, logprobs=logprobs)
        if not self._part_done:
            self._emit_part("response.content_part.done", item, content_index=0, part=part)


class _Id(msgspec.Struct):
    id: str | None = None

    @staticmethod
    def read(raw: bytes) -> str | None:
        return msgspec.json.decode(raw, type=_Id).id


def _prefix(kind: str) -> str:
    """How ids of an item begin."""
    known = {"message": "msg", "function_call": "fc", "reasoning": "rs", "custom_tool_call": "ctc"}
    return known.get(kind, "item")
