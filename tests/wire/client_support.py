"""What tests of speakers share: terms, answers read from bytes, events summed up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Message,
    RawRequest,
    Relayed,
    Request,
    RowFinished,
    TokenLogprob,
    Usage,
)
from trunkline.wire.client import Feature, Head, Speaker, Terms
from trunkline.wire.codec import Incoming
from trunkline.wire.raw import peek

EVERYTHING: frozenset[Feature] = frozenset(get_args(Feature)) - {
    "max_completion_tokens",
    "repeat_penalty",
    "guided_fields",
    "ebnf_fields",
    "short_call_ids",
    "bare_turns",
}
STREAM = Head(200, {"content-type": "text/event-stream"})
WHOLE = Head(200, {"content-type": "application/json"})


def terms(*features: Feature, **more: Any) -> Terms:
    """Terms with `features` alone."""
    return Terms(model="upstream", features=frozenset(features), **more)


ALL = Terms(model="upstream", features=EVERYTHING)


def chat(*messages: Message, **more: Any) -> Request:
    """A request of a conversation."""
    inputs = {key: more.pop(key) for key in list(more) if key in ChatInput.__struct_fields__}
    turns = messages or (Message("user", "Hi"),)
    return Request(id="r", model="m", input=ChatInput(turns, **inputs), **more)


class Sum:
    """What events add up to."""

    def __init__(self, events: Sequence[Event]) -> None:
        self.text: dict[int, str] = {}
        self.reasoning: dict[int, str] = {}
        # (row, call) -> [id, name, arguments]
        self.calls: dict[tuple[int, int], list[str]] = {}
        self.ends: dict[int, tuple[str, str | int | None]] = {}
        self.logprobs: list[TokenLogprob] = []
        self.usage: Usage | None = None
        for event in events:
            assert self.usage is None, "nothing follows Completed"
            if isinstance(event, Delta):
                assert event.row not in self.ends, "nothing follows RowFinished"
                self._delta(event)
            elif isinstance(event, RowFinished):
                assert event.row not in self.ends
                self.ends[event.row] = (event.reason, event.stop)
            elif isinstance(event, Completed):
                self.usage = event.usage

    def _delta(self, event: Delta) -> None:
        row = event.row
        self.text[row] = self.text.get(row, "") + event.text
        self.reasoning[row] = self.reasoning.get(row, "") + event.reasoning
        self.logprobs += event.logprobs or ()
        for call in event.tool_calls:
            known = self.calls.get((row, call.index))
            if known is None:
                assert call.id is not None
                assert call.name is not None
                known = self.calls[row, call.index] = [call.id, call.name, ""]
            else:
                assert call.id is None
                assert call.name is None
            known[2] += call.arguments


def read(
    speaker: Speaker,
    request: Request,
    body: bytes,
    *,
    head: Head = STREAM,
    size: int | None = None,
    on: Terms = ALL,
) -> list[Event]:
    """Events of `body`, fed in pieces of `size` bytes."""
    reader = speaker.reader(request, on, head)
    return _fed(reader.feed, reader.end, body, size)


def raw(speaker: Speaker, body: bytes, *, asked: str = "m") -> RawRequest:
    """A request as the client sent it."""
    peeked = peek(Incoming(body))
    assert peeked is not None

    def never() -> Request:
        raise AssertionError("it is passed on as it is")

    return RawRequest(
        id="r",
        operation=speaker.operation,
        model="m",
        asked_model=asked,
        stream=peeked.stream,
        fields=peeked.fields,
        translate=never,
    )


def relay(
    speaker: Speaker,
    asked: RawRequest,
    body: bytes,
    *,
    head: Head = STREAM,
    size: int | None = None,
    on: Terms = ALL,
) -> tuple[bytes, Usage]:
    """What is passed on of `body`, and the usage."""
    passing = speaker.relay(asked, on, head)
    events = _fed(passing.feed, passing.end, body, size)
    last = events.pop()
    assert isinstance(last, Completed)
    for event in events:
        assert isinstance(event, Relayed)
        if head is STREAM:
            assert event.data.endswith((b"\n\n", b"\r\n\r\n")), "whole events only"
    return b"".join(event.data for event in events if isinstance(event, Relayed)), last.usage


def _fed(
    feed: Callable[[bytes], Sequence[Event]],
    end: Callable[[], Sequence[Event]],
    body: bytes,
    size: int | None,
) -> list[Event]:
    step = size or len(body) or 1
    events: list[Event] = []
    for begin in range(0, len(body), step):
        events += feed(body[begin : begin + step])
    return [*events, *end()]
