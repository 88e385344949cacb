"""What tests of speakers share: requests, terms, and answers read in every cut."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, get_args

import msgspec

from trunkline.core.errors import TrunklineError
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Input,
    Message,
    RawRequest,
    Relayed,
    Request,
    RowFinished,
    TextInput,
    Usage,
)
from trunkline.wire.client import Feature, Head, Outgoing, Reader, Relay, Speaker, Terms

EVERYTHING: frozenset[Feature] = frozenset(get_args(Feature)) - {
    "max_completion_tokens",
    "repeat_penalty",
}
EVENTS = "text/event-stream"
JSON = "application/json"

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


class Heard(msgspec.Struct):
    """What the events of an answer say, however they were cut."""

    text: str = ""
    reasoning: str = ""
    # Id, name and arguments of each.
    calls: list[tuple[str | None, str | None, str]] = []
    logprobs: list[tuple[str, float]] = []
    token_ids: list[int] = []
    finish: str = ""
    stop: str | int | None = None
    usage: Usage = Usage(0, 0)


def terms(*without: Feature, **given: Any) -> Terms:
    """A server that can do everything but `without`."""
    fields: dict[str, Any] = {"model": "m", "features": EVERYTHING - set(without)} | given
    return Terms(**fields)


def asking(source: Input | None = None, **given: Any) -> Request:
    """A request, by default of one user message."""
    return Request(id="r", model="m", input=source or chat("Hello"), **given)


def chat(*turns: str | Message, tools: tuple[Any, ...] = (), **given: Any) -> ChatInput:
    """A conversation; texts are the user's."""
    messages = tuple(one if isinstance(one, Message) else Message("user", one) for one in turns)
    return ChatInput(messages, tools=tools, **given)


def called(identifier: str = "call_1", arguments: str = '{"city":"Paris"}') -> Message:
    """An assistant's turn with one call."""
    function = {"name": "get_weather", "arguments": arguments}
    call = {"id": identifier, "type": "function", "function": function}
    return Message("assistant", None, tool_calls=(call,))


def body(outgoing: Outgoing) -> Any:
    """What is sent, decoded."""
    return json.loads(outgoing.body)


def head(content_type: str = EVENTS, status: int = 200, **headers: str) -> Head:
    """The beginning of a response."""
    fields = {"content-type": content_type}
    return Head(status, fields | {name.replace("_", "-"): one for name, one in headers.items()})


def cuts(data: bytes) -> list[list[bytes]]:
    """`data` whole, in single bytes, and in two at every place (of long data, at some)."""
    step = max(1, len(data) // 400)
    single = [data[at : at + 1] for at in range(len(data))]
    return [[data], single, *([data[:at], data[at:]] for at in range(1, len(data), step))]


def read(
    speaker: Speaker, data: bytes, content_type: str = EVENTS, request: Request | None = None
) -> Heard:
    """What an answer says: the same in every cut."""
    asked = request or asking()
    found = []
    for pieces in cuts(data):
        reader = speaker.reader(asked, terms(), head(content_type))
        events = [event for piece in pieces for event in reader.feed(piece)]
        found.append(heard([*events, *reader.end()]))
    assert all(one == found[0] for one in found)
    return found[0]


def fails(reading: Reader | Relay, data: bytes) -> TrunklineError:
    """The error that a reader or a relay of `data` raises, sooner or later."""
    try:
        reading.feed(data)
        reading.end()
    except TrunklineError as error:
        return error
    raise AssertionError("nothing was raised")


def heard(events: Sequence[Event]) -> Heard:
    """Adds `events` up; asserts that they are in order."""
    said = Heard()
    assert isinstance(events[-1], Completed)
    assert isinstance(events[-2], RowFinished)
    for event in events:
        if isinstance(event, Delta):
            assert not said.finish
            said.text += event.text
            said.reasoning += event.reasoning
            said.logprobs += [(one.token, one.logprob) for one in event.logprobs or ()]
            said.token_ids += event.token_ids
            for call in event.tool_calls:
                if call.index == len(said.calls):
                    said.calls.append((call.id, call.name, ""))
                identifier, name, so_far = said.calls[call.index]
                said.calls[call.index] = (identifier, name, so_far + call.arguments)
        elif isinstance(event, RowFinished):
            assert not said.finish
            said.finish, said.stop = event.reason, event.stop
        elif isinstance(event, Completed):
            said.usage = event.usage
    return said


def raw(
    operation: str, sent: Any, *, stream: bool = True, asked_model: str = "alias"
) -> RawRequest:
    """A request to be passed on."""
    fields = msgspec.json.decode(json.dumps(sent), type=dict[str, msgspec.Raw])
    return RawRequest(
        id="r",
        operation=operation,
        model="m",
        asked_model=asked_model,
        stream=stream,
        fields=fields,
        translate=lambda: asking(TextInput("never")),
    )


def passed(
    speaker: Speaker, request: RawRequest, data: bytes, content_type: str = EVENTS
) -> tuple[bytes, Usage]:
    """What goes on to the client of an answer, and its usage: the same in every cut."""
    found = []
    for pieces in cuts(data):
        relay = speaker.relay(request, terms(), head(content_type))
        events = [event for piece in pieces for event in relay.feed(piece)]
        events += relay.end()
        last = events.pop()
        assert isinstance(last, Completed)
        assert all(isinstance(event, Relayed) for event in events)
        found.append((b"".join(e.data for e in events if isinstance(e, Relayed)), last.usage))
    assert all(one == found[0] for one in found)
    return found[0]
