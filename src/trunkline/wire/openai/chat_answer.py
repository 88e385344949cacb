"""Responses of chat completions: one object, or chunks.

Shapes: the official client's `types/chat/chat_completion.py` and `chat_completion_chunk.py` (openai
3.52, generated from OpenAI's OpenAPI description; read 2026-11-21). vLLM's additions: `stop_reason`
(the stop string or token id that matched), and the reasoning under its older and its newer name,
`reasoning_content` and `reasoning`; and what `prompt_details` tells of. In a stream token ids have
chunks of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, UnsetType

from trunkline.core.types import (
    Delta,
    Event,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import DONE, UsageBody, chunk_head, encoder, finite, usage_body
from trunkline.wire.openai.custom_input import CustomInput
from trunkline.wire.openai.prompt_details import PromptLogprobs, Prompts, prompt_logprobs

_CHUNK = "chat.completion.chunk"


class Shown(msgspec.Struct, frozen=True):
    """What of the answers is wanted."""

    logprobs: bool = False
    # True: calls are shown as the older `function_call`.
    functions: bool = False
    # Names of the tools that take text and no JSON.
    custom: frozenset[str] = frozenset()
    # vLLM's: alternatives of each prompt token, and ids.
    prompt_logprobs: int | None = None
    token_ids: bool = False


class Top(msgspec.Struct):
    """A token that might have been, or was."""

    token: str
    logprob: float
    bytes: list[int]


class Token(Top):
    """A token of the answer, with the best at its position."""

    top_logprobs: list[Top]


class _Logprobs(msgspec.Struct):
    content: list[Token]
    refusal: None = None


class _Function(msgspec.Struct):
    name: str
    arguments: str


class _ToolCall(msgspec.Struct):
    id: str
    type: Literal["function"]
    function: _Function


class _Custom(msgspec.Struct):
    name: str
    input: str


class _CustomCall(msgspec.Struct):
    id: str
    type: Literal["custom"]
    custom: _Custom


class _Message(msgspec.Struct):
    role: Literal["assistant"]
    content: str | None
    refusal: None = None
    reasoning_content: str | UnsetType = UNSET
    reasoning: str | UnsetType = UNSET
    tool_calls: list[_ToolCall | _CustomCall] | UnsetType = UNSET
    function_call: _Function | UnsetType = UNSET


class _Choice(msgspec.Struct):
    index: int
    message: _Message
    logprobs: _Logprobs | None
    finish_reason: str
    stop_reason: str | int | None
    token_ids: list[int] | UnsetType = UNSET


class _Completion(msgspec.Struct):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[_Choice]
    usage: UsageBody
    system_fingerprint: str
    prompt_logprobs: PromptLogprobs | UnsetType = UNSET
    prompt_token_ids: list[int] | UnsetType = UNSET


def tokens(logprobs: Sequence[TokenLogprob]) -> list[Token]:
    """Log probabilities in OpenAI's shape."""
    return [
        Token(
            one.token,
            finite(one.logprob),
            list(one.data),
            [Top(token, finite(value), list(data)) for token, data, _, value in one.top],
        )
        for one in logprobs
    ]


def _finish_reason(reason: str, *, functions: bool) -> str:
    return "function_call" if functions and reason == "tool_calls" else reason


class _Call:
    __slots__ = ("arguments", "id", "name")

    def __init__(self, delta: ToolCallDelta) -> None:
        self.id = delta.id or ""
        self.name = delta.name or ""
        self.arguments: list[str] = []

    def function(self) -> _Function:
        return _Function(self.name, "".join(self.arguments))

    def shown(self, custom: frozenset[str]) -> _ToolCall | _CustomCall:
        """As the tool that was called is one of `custom` or not."""
        if self.name not in custom:
            return _ToolCall(self.id, "function", self.function())
        taken = CustomInput()
        taken.feed("".join(self.arguments))
        return _CustomCall(self.id, "custom", _Custom(self.name, taken.end()[1]))


class _Row:
    __slots__ = ("calls", "finish", "ids", "logprobs", "reasoning", "stop", "text")

    def __init__(self) -> None:
        self.text: list[str] = []
        self.reasoning: list[str] = []
        self.calls: dict[int, _Call] = {}
        self.logprobs: list[Token] = []
        self.ids: list[int] = []
        self.finish = "stop"
        self.stop: str | int | None = None

    def add(self, delta: Delta) -> None:
        self.text.append(delta.text)
        self.ids += delta.token_ids
        if delta.reasoning:
            self.reasoning.append(delta.reasoning)
        for call in delta.tool_calls:
            self.calls.setdefault(call.index, _Call(call)).arguments.append(call.arguments)


class ChatWhole:
    """Collects everything; one object at the end."""

    def __init__(self, answer: Answer, shown: Shown) -> None:
        self._answer = answer
        self._shown = shown
        self._prompts = Prompts()
        self._rows: dict[int, _Row] = {}

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Keep what matters; sends nothing."""
        self._prompts.take(0, events)
        for event in events:
            if isinstance(event, Delta):
                row = self._rows.get(event.row) or self._rows.setdefault(event.row, _Row())
                row.add(event)
                if event.logprobs and self._shown.logprobs:
                    row.logprobs += tokens(event.logprobs)
            elif isinstance(event, RowFinished):
                row = self._rows.setdefault(event.row, _Row())
                row.finish, row.stop = event.reason, event.stop
                if event.token_id is not None:
                    row.ids.append(event.token_id)
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The object."""
        answer = self._answer
        body = _Completion(
            answer.id,
            "chat.completion",
            answer.created,
            answer.model,
            [self._choice(index, row) for index, row in sorted(self._rows.items())],
            usage_body(usage),
            answer.fingerprint,
        )
        top = self._shown.prompt_logprobs
        if top is not None:
            body.prompt_logprobs = prompt_logprobs(self._prompts.tokens(0), top)
        if self._shown.token_ids:
            body.prompt_token_ids = self._prompts.ids(0)
        return encoder.encode(body)

    def _choice(self, index: int, row: _Row) -> _Choice:
        text = "".join(row.text)
        message = _Message("assistant", text if text or not row.calls else None)
        if row.reasoning:
            message.reasoning_content = message.reasoning = "".join(row.reasoning)
        calls = [call for _, call in sorted(row.calls.items())]
        if calls and self._shown.functions:
            message.function_call = calls[0].function()
        elif calls:
            message.tool_calls = [call.shown(self._shown.custom) for call in calls]
        logprobs = _Logprobs(row.logprobs) if self._shown.logprobs else None
        reason = _finish_reason(row.finish, functions=self._shown.functions)
        ids = row.ids if self._shown.token_ids else UNSET
        return _Choice(index, message, logprobs, reason, row.stop, ids)


class ChatStream:
    """Renders events as they come. The bytes around the text are made once per call."""

    def __init__(self, answer: Answer, shown: Shown, *, include_usage: bool) -> None:
        self._include_usage = include_usage
        self._functions = shown.functions
        self._custom = shown.custom
        # Row and index of each call of a custom tool -> what it takes.
        self._inputs: dict[tuple[int, int], CustomInput] = {}
        self._token_ids = shown.token_ids
        self._prompts = Prompts()
        self._answer = answer
        self._head = chunk_head(_CHUNK, answer)
        self._tail = b'],"usage":null}\n\n' if include_usage else b"]}\n\n"
        self._middle = b',"logprobs":null,"finish_reason":null}' + self._tail
        self._open_rows: set[int] = set()

    def succeed(self, relayed: bytes) -> None:
        """As of `codec.Successor`."""
        self._head = chunk_head(_CHUNK, self._answer, relayed)

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Chunks for `events`."""
        self._prompts.take(0, events)
        out: list[bytes] = []
        for event in events:
            if isinstance(event, Delta):
                self._delta(event, out)
            elif isinstance(event, RowFinished):
                if event.row not in self._open_rows:
                    self._open(event.row, b'""', out)
                self._finish_row(event, out)
        return b"".join(out)

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The chunk of usage, if asked for, and the end."""
        if not self._include_usage:
            return DONE
        figures = encoder.encode(usage_body(usage))
        return b'%b],"usage":%b}\n\n%b' % (self._head, figures, DONE)

    def _delta(self, event: Delta, out: list[bytes]) -> None:
        row = event.row
        if row not in self._open_rows:
            # Clients add the pieces up; where no text follows, null is what is right.
            self._open(row, b"null" if event.tool_calls or event.reasoning else b'""', out)
        self._ids(row, event.token_ids, out)
        if event.reasoning:
            self._reasoning(row, event.reasoning, out)
        if event.logprobs:
            self._with_logprobs(event, event.logprobs, out)
        elif event.text:
            content = encoder.encode(event.text)
            out.append(
                b'%b{"index":%d,"delta":{"content":%b}%b' % (self._head, row, content, self._middle)
            )
        for call in event.tool_calls:
            # There is room for one function call.
            if (row, call.index) in self._inputs or call.name in self._custom:
                self._custom_call(row, call, out)
            elif not self._functions or call.index == 0:
                self._tool_call(row, call, out)

    def _open(self, row: int, content: bytes, out: list[bytes]) -> None:
        self._open_rows.add(row)
        middle = self._middle
        if self._token_ids:
            ids = encoder.encode(self._prompts.ids(0))
            middle = middle.replace(b"}]", b'}],"prompt_token_ids":%b' % ids, 1)
        out.append(
            b'%b{"index":%d,"delta":{"role":"assistant","content":%b,"refusal":null}%b'
            % (self._head, row, content, middle)
        )

    def _ids(self, row: int, ids: Sequence[int], out: list[bytes]) -> None:
        if ids and self._token_ids:
            out.append(
                b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":null,"token_ids":%b}%b'
                % (self._head, row, encoder.encode(ids), self._tail)
            )

    def _reasoning(self, row: int, text: str, out: list[bytes]) -> None:
        content = encoder.encode(text)
        out.append(
            b'%b{"index":%d,"delta":{"reasoning_content":%b,"reasoning":%b}%b'
            % (self._head, row, content, content, self._middle)
        )

    def _tool_call(self, row: int, call: ToolCallDelta, out: list[bytes]) -> None:
        arguments = encoder.encode(call.arguments)
        if call.name is not None:
            function = b'{"name":%b,"arguments":%b}' % (encoder.encode(call.name), arguments)
        else:
            function = b'{"arguments":%b}' % arguments
        if self._functions:
            shown = b'"function_call":%b' % function
        elif call.name is not None:
            shown = b'"tool_calls":[{"index":%d,"id":%b,"type":"function","function":%b}]' % (
                call.index,
                encoder.encode(call.id),
                function,
            )
        else:
            shown = b'"tool_calls":[{"index":%d,"function":%b}]' % (call.index, function)
        out.append(b'%b{"index":%d,"delta":{%b}%b' % (self._head, row, shown, self._middle))

    def _custom_call(self, row: int, call: ToolCallDelta, out: list[bytes]) -> None:
        """The client's types know no calls of custom tools in a stream; this is how OpenAI sends
        them."""
        taken = self._inputs.setdefault((row, call.index), CustomInput())
        text = taken.feed(call.arguments)
        if call.name is not None:
            shown = b'"id":%b,"type":"custom","custom":{"name":%b,"input":%b}' % (
                encoder.encode(call.id),
                encoder.encode(call.name),
                encoder.encode(text),
            )
        elif text:
            shown = b'"custom":{"input":%b}' % encoder.encode(text)
        else:
            return
        self._call_chunk(row, call.index, shown, out)

    def _call_chunk(self, row: int, index: int, shown: bytes, out: list[bytes]) -> None:
        out.append(
            b'%b{"index":%d,"delta":{"tool_calls":[{"index":%d,%b}]}%b'
            % (self._head, row, index, shown, self._middle)
        )

    def _end_inputs(self, row: int, out: list[bytes]) -> None:
        for (of, index), taken in self._inputs.items():
            rest = taken.end()[0] if of == row else ""
            if rest:
                self._call_chunk(row, index, b'"custom":{"input":%b}' % encoder.encode(rest), out)

    def _with_logprobs(
        self, event: Delta, logprobs: Sequence[TokenLogprob], out: list[bytes]
    ) -> None:
        # Tokens of a tool call have log probabilities too, but no content to go with.
        content = b'"content":%b' % encoder.encode(event.text) if event.text else b""
        if not event.tool_calls and not event.reasoning:
            content = b'"content":%b' % encoder.encode(event.text)
        out.append(
            b'%b{"index":%d,"delta":{%b},"logprobs":%b,"finish_reason":null}%b'
            % (
                self._head,
                event.row,
                content,
                encoder.encode(_Logprobs(tokens(logprobs))),
                self._tail,
            )
        )

    def _finish_row(self, event: RowFinished, out: list[bytes]) -> None:
        self._end_inputs(event.row, out)
        if event.token_id is not None:
            self._ids(event.row, (event.token_id,), out)
        reason = _finish_reason(event.reason, functions=self._functions)
        out.append(
            b'%b{"index":%d,"delta":{},"logprobs":null,"finish_reason":%b,"stop_reason":%b}%b'
            % (
                self._head,
                event.row,
                encoder.encode(reason),
                encoder.encode(event.stop),
                self._tail,
            )
        )
