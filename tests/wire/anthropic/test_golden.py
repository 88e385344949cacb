"""Answers as the transcripts have them; transcripts as the official client's types have them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from anthropic.types import Message, MessageTokensCount, ModelInfo, RawMessageStreamEvent
from anthropic.types.beta import BetaMessage
from anthropic.types.shared import ErrorResponse
from pydantic import TypeAdapter

from tests.wire.anthropic.support import (
    ANSWER,
    GOLDEN,
    answered,
    ask,
    called,
    ended,
    events,
    golden,
    text,
    thought,
)
from trunkline.core.errors import ModelNotFound, Unavailable
from trunkline.core.types import Event, ModelCard, Tokenization, Usage
from trunkline.wire.anthropic.errors import render_error, stream_error
from trunkline.wire.anthropic.messages import COUNT_TOKENS
from trunkline.wire.anthropic.models import render_models
from trunkline.wire.codec import Incoming

USAGE = Usage(42, 10, cached_tokens=30)


def streamed(*batch: Event, usage: Usage = USAGE, **fields: Any) -> list[Any]:
    """One batch per event."""
    return events(answered(ask(stream=True, **fields), [[event] for event in batch], usage))


def test_a_message() -> None:
    batch: list[Event] = [
        text("The 9:40 leaves "),
        text("from platform 3."),
        ended("stop", "\n\nHuman:"),
    ]
    assert json.loads(answered(ask(), [batch], USAGE)) == golden("message.json")


def test_a_message_with_thinking_and_tools() -> None:
    batch: list[Event] = [
        thought("Two things "),
        thought("to ask."),
        text("Let me look."),
        *[called(0, piece, "departures" if i == 0 else None) for i, piece in enumerate(PIECES)],
        called(1, "{}", "now"),
        ended("tool_calls"),
    ]
    usage = Usage(42, 31, reasoning_tokens=5)
    assert json.loads(answered(ask(), [batch], usage)) == golden("message_tools.json")


PIECES = ["", *'{"station": "東京", "limit": 2}']


def test_a_stream_of_text() -> None:
    found = streamed(text("The 9:40 "), text("leaves."), ended())
    assert found == golden("stream_text.sse")


def test_a_stream_with_tools() -> None:
    found = streamed(
        text("Let me look."),
        called(0, "", "departures"),
        *[called(0, character) for character in '{"station": "東京"}'],
        called(1, "", "now"),
        ended("tool_calls"),
    )
    assert found == golden("stream_tools.sse")


def test_a_stream_with_thinking() -> None:
    usage = Usage(42, 10, cached_tokens=30, reasoning_tokens=6)
    batch = (thought("Which day? "), thought("Sunday."), text("No trains."), ended("length"))
    assert streamed(*batch, usage=usage) == golden("stream_thinking.sse")
    thinking = {"type": "adaptive", "display": "omitted"}
    omitted = streamed(*batch, usage=usage, thinking=thinking)
    assert omitted == golden("stream_thinking_omitted.sse")


def test_an_error_after_the_first_byte() -> None:
    renderer = ask(stream=True).renderer(ANSWER)
    body = renderer.take(0, [text("so far")])
    body += stream_error(Unavailable("The engine is restarting."))
    assert events(body) == golden("stream_error.sse")


def test_an_error() -> None:
    error = ModelNotFound("There is no model 'gpt-99'.")
    error.request_id = golden("error.json")["request_id"]
    assert json.loads(render_error(error)) == golden("error.json")


def test_counted_tokens() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "Hello"}]}).encode()
    lookup = COUNT_TOKENS.decode(Incoming(body))
    rendered = lookup.render(Tokenization("...", tuple(range(14))))  # type: ignore[union-attr]
    assert json.loads(rendered) == golden("count_tokens.json")


def test_models() -> None:
    card = ModelCard("caboose", 4096, created=1_795_226_400)
    entries = [("caboose", card), ("default", card)]
    assert json.loads(render_models(entries)) == golden("models.json")


# the transcripts themselves


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sse")), ids=lambda path: path.name)
def test_streams_are_what_the_client_expects(path: Any) -> None:
    adapter: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in golden(path.name):
        if event["type"] == "error":
            ErrorResponse.model_validate(event)
        elif event["type"] != "ping":
            parsed = adapter.validate_python(event)
            assert _unknown(parsed) == set()


@pytest.mark.parametrize("name", ["message.json", "message_tools.json"])
def test_messages_are_what_the_client_expects(name: str) -> None:
    assert _unknown(Message.model_validate(golden(name))) == set()
    assert _unknown(BetaMessage.model_validate(golden(name))) == set()


def test_the_rest_is_what_the_client_expects() -> None:
    ErrorResponse.model_validate(golden("error.json"))
    MessageTokensCount.model_validate(golden("count_tokens.json"))
    for model in golden("models.json")["data"]:
        assert _unknown(ModelInfo.model_validate(model)) == set()


def _unknown(model: Any, where: str = "") -> set[str]:
    """Fields that the client's types do not have, at any depth."""
    if isinstance(model, list):
        return set().union(*(_unknown(one, where) for one in model))
    if not hasattr(model, "model_fields_set"):
        return set()
    found = {f"{where}.{name}" for name in model.model_extra or {}}
    for name in type(model).model_fields:
        found |= _unknown(getattr(model, name), f"{where}.{name}")
    return found
