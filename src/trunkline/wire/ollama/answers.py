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
# Calls that are gathered at a time.
_MOST_OPEN = 64


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


class _Open:
    """A call that is being gathered."""

    def __init__(self, delta: ToolCallDelta) -> None:
        self.index = delta.index
        self.id = delta.id or ""
        self.name = delta.name or ""
        self._pieces: list[str] = []
        # Whether there is more since it was last looked at.
        self.news = True

    def add(self, piece: str) -> None:
        """More of the arguments."""
        self._pieces.append(piece)
        self.news = self.news or bool(piece)

    def text(self) -> str:
        """The arguments so far."""
        return "".join(self._pieces)

    def call(self, text: str) -> Call | None:
        """The call with the arguments `text`, if that is an object."""
        self.news = False
        try:
            _arguments.decode(text)
        except msgspec.DecodeError:
            return None
        if not self.name:
            return None
        # On one line, however the model wrote it.
        arguments = Raw(msgspec.json.format(text, indent=-1).encode())
        return Call(self.id, _Function(self.index, self.name, arguments))

    def cut(self) -> str:
        """What there is of a call that is not whole."""
        name = encoder.encode(self.name).decode()
        return f'{{"name": {name}, "arguments": {self.text()}'


class Calls:
    """Gathers tool calls: Ollama sends each one whole, its arguments as an object.

    Pieces of several calls may come in any order. Calls go out in the order of their beginnings:
    one is sent when it is whole and another has begun, or at the end. Invariant: what is open has
    not been sent, what is done takes no more; at most `_MOST_OPEN` are open.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._done: set[int] = set()
        # Of calls that were not whole when there were too many.
        self._cut: list[str] = []

    def take(self, deltas: Sequence[ToolCallDelta]) -> list[Call]:
        """The calls that are to be sent now."""
        whole: list[Call] = []
        for delta in deltas:
            if delta.index in self._done:
                # Nothing that comes behind a whole object is part of it.
                continue
            one = self._open.get(delta.index)
            if one is None:
                one = self._open[delta.index] = _Open(delta)
            one.add(delta.arguments)
            while len(self._open) > 1 and self._close(whole):
                pass
        return whole

    def end(self) -> tuple[list[Call], str]:
        """The calls that are left; of those that are cut off what there is, as text."""
        whole: list[Call] = []
        while self._open:
            self._close(whole, last=True)
        cut, self._cut = self._cut, []
        return whole, "\n".join(cut)

    def _close(self, whole: list[Call], *, last: bool = False) -> bool:
        """Whether the call in front is done; it is put where it belongs."""
        one = next(iter(self._open.values()))
        last = last or len(self._open) > _MOST_OPEN
        if not (last or one.news):
            return False
        text = one.text()
        # A call that has no arguments yet may be about to get some.
        call = one.call(text or "{}" if last else text)
        if call is not None:
            whole.append(call)
        elif last:
            self._cut.append(one.cut())
        else:
            return False
        del self._open[one.index]
        self._done.add(one.index)
        return True


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
    """`done_reason`; Ollama itself has no policy that could end an answer."""
    return finish if finish in ("length", "content_filter") else "stop"
