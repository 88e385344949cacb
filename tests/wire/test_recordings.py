"""Streams of other servers and ours, read by the same client: it must see no difference.

The recordings are in golden/, whose READMEs say where each is from.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anthropic
import ollama
import openai

from tests.wire.support import GOLDEN
from tests.wire.test_clients import (
    MESSAGE,
    anthropic_client,
    ollama_clients,
    openai_client,
    transport,
    transports,
)
from tests.wire.transcripts import Case, broken, rendered
from trunkline.core.errors import QueueFull
from trunkline.core.types import Delta, Event, Json, RowFinished, ToolCallDelta
from trunkline.wire.anthropic.messages import MESSAGES
from trunkline.wire.codec import Codec
from trunkline.wire.ollama.chat import CHAT as OLLAMA_CHAT
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.responses import RESPONSES


def text(content: str) -> Delta:
    return Delta("r", 0, content, (1,))


def thought(content: str) -> Delta:
    return Delta("r", 0, "", (1,), reasoning=content)


def called(arguments: str, call_id: str | None = None, name: str | None = None) -> Delta:
    return Delta("r", 0, "", (1,), tool_calls=(ToolCallDelta(0, call_id, name, arguments),))


def same(
    codec: Codec, body: Json, name: str, events: tuple[Event, ...], read: Callable[[Any], Any]
) -> None:
    """`read` gives the same for the recording and for what we make of `events`, however cut."""
    theirs = read(transport(codec, [(GOLDEN / name).read_bytes()]))
    ours = rendered(codec, body, Case(name, events))
    for given in transports(codec, ours):
        assert read(given) == theirs


def test_reasoning_and_then_a_call_that_comes_by_tokens() -> None:
    def read(given: Any) -> Any:
        stream: Any = openai_client(given).chat.completions.create(
            model="m", messages=MESSAGE, stream=True
        )
        deltas: list[Any] = []
        reasons: list[Any] = []
        for chunk in stream:
            delta = chunk.choices[0].delta.model_dump(exclude_none=True)
            reasons.append(chunk.choices[0].finish_reason)
            # vLLM's second name of the reasoning; what says nothing is said in several ways.
            delta.pop("reasoning", None)
            deltas.append({key: value for key, value in delta.items() if value})
        return deltas, reasons

    reasoning = [thought(piece) for piece in ("I", " should", " use", " the", " weather", " tool")]
    pieces = ("{", '"', "location", '"', ": ", '"', "San", " Francisco", '"', "}")
    events: tuple[Event, ...] = (
        *reasoning,
        thought("."),
        called("", "call_00_IhCAliIHtM9gKpgfqbBV9873", "weather"),
        *map(called, pieces),
        RowFinished("r", 0, "tool_calls"),
    )
    body = {"messages": MESSAGE, "stream": True}
    same(CHAT, body, "openai/chat_reasoning_tools.sse", events, read)


def test_a_call_without_arguments() -> None:
    def read(given: Any) -> Any:
        client: anthropic.Anthropic = anthropic_client(given)
        with client.messages.stream(model="m", max_tokens=9, messages=MESSAGE) as stream:
            kinds = [event.type for event in stream]
            message = stream.get_final_message()
        # Anthropic sends an empty piece of the arguments, we send "{}": one piece each.
        return kinds, [block.model_dump() for block in message.content], message.stop_reason

    events = (
        text("I'll update the issue list for"),
        text(" you."),
        called("{}", "toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "updateIssueList"),
        RowFinished("r", 0, "tool_calls"),
    )
    body = {"max_tokens": 9, "messages": MESSAGE, "stream": True}
    same(MESSAGES, body, "anthropic/stream_no_arguments.sse", events, read)


def test_a_response_that_fails_behind_its_first_event() -> None:
    def read(given: Any) -> Any:
        client: openai.OpenAI = openai_client(given)
        events: list[Any] = list(client.responses.create(model="m", input="Hi", stream=True))
        first, last = events[0], events[-1]
        assert [one.sequence_number for one in events] == list(range(len(events)))
        error = last.response.error
        return first.type, last.type, last.response.status, error.code, error.message

    path = GOLDEN / "openai/response_failed.sse"
    theirs = read(transport(RESPONSES, [path.read_bytes()]))
    ours = broken(RESPONSES, {"input": "Hi", "stream": True}, QueueFull(theirs[-1]))
    for given in transports(RESPONSES, ours):
        assert read(given) == theirs


def test_ollamas_published_stream_with_a_call() -> None:
    def read(client: ollama.Client) -> Any:
        parts = list(client.chat("m", messages=MESSAGE, stream=True))
        calls = [
            (call.function.name, call.function.arguments)
            for part in parts
            for call in part.message.tool_calls or ()
        ]
        return [(part.message.role, part.message.content, part.done) for part in parts], calls

    path = GOLDEN / "ollama/chat_tools_stream.jsonl"
    (theirs,) = {repr(read(client)) for client in ollama_clients(OLLAMA_CHAT, path.read_bytes())}
    events = (
        called('{"city": ', "call_1", "get_weather"),
        called('"Tokyo"}'),
        RowFinished("r", 0, "tool_calls"),
    )
    ours = rendered(OLLAMA_CHAT, {"model": "m", "messages": MESSAGE}, Case("", events))
    for client in ollama_clients(OLLAMA_CHAT, ours):
        assert repr(read(client)) == theirs
