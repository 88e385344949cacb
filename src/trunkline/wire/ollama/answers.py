"""Parts of the responses that generate and chat share.

Shapes: `Metrics`, `Logprob`, `ToolCall` in api/types.go of ollama/ollama fb30760 (2026-08-21);
fields without a value are left out, as Go's omitempty does.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.types import Event, Timing, TokenLogprob, ToolCallDelta, Usage
from trunkline.wire.one_line import Encoder
from trunkline.wire.openai.answers import finite

encoder = Encoder()
_arguments = msgspec.json.Decoder(dict[str, Raw])


class _Durations(msgspec.Struct):
    """`Metrics`: nanoseconds and tokens."""

    total_duration: int
    load_duration: int
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int


class _Top(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int]


class Token(_Top):
    """One entry of `logprobs`."""

    top_logprobs: list[_Top] | UnsetType = UNSET


class _Function(msgspec.Struct):
    index: int
    name: str
    arguments: Raw


class Call(msgspec.Struct):
    """One entry of `tool_calls`."""

    id: str
    function: _Function


def timestamp(seconds: int) -> str:
    """`created_at` and the like."""
    moment = dt.datetime.fromtimestamp(seconds, dt.UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def last(body: msgspec.Struct, usage: Usage, timing: Timing) -> bytes:
    """`body` with what it took. No duration is 0: clients divide by them, and take 0 for "not
    said".
    """
    load, prompt, output = (
        max(1, round(seconds * 1e9)) for seconds in (timing.queue, timing.prefill, timing.decode)
    )
    took = _Durations(
        load + prompt + output,
        load,
        usage.prompt_tokens,
        prompt,
        usage.completion_tokens,
        output,
    )
    return b"%b,%b" % (encoder.encode(body)[:-1], encoder.encode(took)[1:])


def tokens(logprobs: Sequence[TokenLogprob]) -> list[Token]:
    """`logprobs`."""
    return [
        Token(
            one.token,
            finite(one.logprob),
            list(one.data),
            [_Top(token, finite(value), list(data)) for token, data, _, value in one.top] or UNSET,
        )
        for one in logprobs
    ]


class Calls:
    """Gathers tool calls: Ollama sends each one whole, its arguments as an object."""

    def __init__(self) -> None:
        self._index = -1
        self._id = ""
        self._name = ""
        self._pieces: list[str] = []

    def take(self, deltas: Sequence[ToolCallDelta]) -> list[Call]:
        """The calls that are whole now, because another one has begun."""
        whole: list[Call] = []
        for delta in deltas:
            if delta.index != self._index:
                whole += self.end()[0]
                self._index, self._pieces = delta.index, []
                self._id, self._name = delta.id or "", delta.name or ""
            self._pieces.append(delta.arguments)
        return whole

    def end(self) -> tuple[list[Call], str]:
        """The last call; where its arguments are cut off, what there is of it, as text."""
        if self._index < 0:
            return [], ""
        index, text = self._index, "".join(self._pieces)
        self._index = -1
        try:
            _arguments.decode(text or "{}")
        except msgspec.DecodeError:
            return [], f'{{"name": {encoder.encode(self._name).decode()}, "arguments": {text}'
        # On one line, however the model wrote it.
        arguments = Raw(msgspec.json.format(text or "{}", indent=-1).encode())
        return [Call(self._id, _Function(index, self._name, arguments))], ""


class Prepared:
    """Renders an answer that needed no model: loaded, or unloaded."""

    def __init__(self, body: Callable[[], bytes]) -> None:
        self._body = body

    def take(self, prompt: int, events: Sequence[Event]) -> bytes:
        """Nothing comes."""
        return b""

    def finish(self, usage: Usage, timing: Timing) -> bytes:
        """The answer."""
        return self._body()


def reason(finish: str) -> str:
    """`done_reason`."""
    return "length" if finish == "length" else "stop"
