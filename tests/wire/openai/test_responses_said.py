"""Going on with a response that another began."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.wire.openai.support import GOLDEN
from tests.wire.openai.test_responses import ask, say
from trunkline.core.types import Delta, Event, RowFinished, Timing, Usage
from trunkline.wire.codec import Answer, Successor
from trunkline.wire.openai.responses_answer import ResponseRenderer


def began(*kinds: str) -> bytes:
    """The published stream up to the last event of a kind."""
    blocks = (GOLDEN / "response_stream.txt").read_text().strip().split("\n\n")
    names = [block.splitlines()[0].removeprefix("event: response.") for block in blocks]
    end = max(index for index, name in enumerate(names) if name in kinds) + 1
    numbered = [
        block.replace('{"type"', f'{{"sequence_number":{10 + index},"type"', 1)
        for index, block in enumerate(blocks[:end])
    ]
    return "".join(block + "\n\n" for block in numbered).encode()


def numbered_data(stream: bytes) -> list[Any]:
    return [json.loads(one) for one in re.findall(rb"^data: (.*)$", stream, re.MULTILINE)]


def continued(relayed: bytes, sent: Delta, *rest: Event) -> tuple[ResponseRenderer, list[Any]]:
    renderer = ask(stream=True).renderer(Answer("resp_ours", "m", 1, "fp"))
    assert isinstance(renderer, Successor)
    renderer.succeed(relayed)
    assert renderer.take(0, [sent]) == b""
    data = b"".join(renderer.take(0, [event]) for event in (*rest, RowFinished("i", 0, "stop")))
    data += renderer.finish(Usage(1, 5), Timing())
    return renderer, numbered_data(data)


def test_the_rest_of_a_relayed_stream_has_its_ids_and_numbers() -> None:
    relayed = began("output_text.delta")
    first = numbered_data(relayed)
    item = next(one["item"] for one in first if one["type"] == "response.output_item.added")
    renderer, rest = continued(relayed, say("Hi"), say(" again"), say("."))
    assert [one["type"].removeprefix("response.") for one in rest] == [
        *("output_text.delta", "output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    numbers = [one["sequence_number"] for one in (*first, *rest)]
    assert numbers == list(range(10, 10 + len(numbers)))
    assert {one["item_id"] for one in rest if "item_id" in one} == {item["id"]}
    assert {one.get("output_index", 0) for one in rest} == {0}
    response = rest[-1]["response"]
    assert response["id"] == first[0]["response"]["id"]
    assert response["created_at"] == first[0]["response"]["created_at"]
    (message,) = response["output"]
    assert message["id"] == item["id"]
    assert message["content"][0]["text"] == "Hi again."
    # Whoever asks for it later gets the whole.
    kept = renderer.stored()
    assert kept is not None
    assert kept.id == response["id"]
    assert item["id"] in kept.items


@pytest.mark.parametrize(
    ("last", "opens"),
    [
        ("in_progress", ["output_item.added", "content_part.added"]),
        ("output_item.added", ["content_part.added"]),
        ("content_part.added", []),
    ],
)
def test_the_rest_opens_what_is_not_open_yet(last: str, opens: list[str]) -> None:
    _, rest = continued(began(last), say(""), say("Hi"))
    assert [one["type"].removeprefix("response.") for one in rest] == [
        *opens,
        *("output_text.delta", "output_text.done", "content_part.done"),
        *("output_item.done", "completed"),
    ]
    assert rest[-1]["response"]["output"][0]["content"][0]["text"] == "Hi"


def test_the_rest_follows_on_thoughts_that_are_not_shown() -> None:
    thought = {"id": "rs_x", "type": "reasoning", "summary": [], "encrypted_content": "abc"}
    added = {"type": "response.output_item.added", "output_index": 0, "item": thought}
    done = {**added, "type": "response.output_item.done"}
    relayed = began("in_progress") + b"".join(
        b"data: %b\n\n" % json.dumps(one).encode() for one in (added, done)
    )
    _, rest = continued(relayed, say(""), say("Hi"))
    assert rest[0]["output_index"] == 1
    assert rest[0]["sequence_number"] == 14
    assert rest[-1]["response"]["output"][0] == thought
    # Nothing was thought yet when it broke off.
    _, rest = continued(
        began("in_progress") + relayed.split(b"\n\n")[-3] + b"\n\n", say(""), say("Hi")
    )
    assert [one["type"].removeprefix("response.") for one in rest][:2] == [
        *("output_item.done", "output_item.added"),
    ]
    assert rest[0]["item"]["id"] == "rs_x"


@pytest.mark.parametrize(
    ("last", "ends"),
    [
        ("output_text.done", ["content_part.done", "output_item.done"]),
        ("content_part.done", ["output_item.done"]),
        ("output_item.done", []),
    ],
)
def test_what_is_done_is_ended_once_and_nothing_goes_into_it(last: str, ends: list[str]) -> None:
    relayed = began(last)
    first = numbered_data(relayed)
    (message,) = [one for one in first if one["type"] == "response.output_text.done"]
    _, rest = continued(relayed, say(message["text"]), say("More"))
    assert [one["type"].removeprefix("response.") for one in rest] == [
        *ends,
        *("output_item.added", "content_part.added", "output_text.delta", "output_text.done"),
        *("content_part.done", "output_item.done", "completed"),
    ]
    texts = [one["content"][0]["text"] for one in rest[-1]["response"]["output"]]
    assert texts == [message["text"], "More"]
    # Nothing more was to be said.
    _, rest = continued(relayed, say(message["text"]))
    numbers = [one["sequence_number"] for one in (first[-1], *rest)]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    names = [one["type"].removeprefix("response.") for one in rest]
    assert names == [*ends, "completed"]


def test_an_open_message_has_its_own_text_alone() -> None:
    whole, opened = began("output_item.done"), began("output_text.delta")
    start = opened.index(b"event: response.output_item.added")
    relayed = whole + opened[start:].replace(b'"msg_', b'"msg_2')
    before = next(
        one["text"] for one in numbered_data(whole) if one["type"] == "response.output_text.done"
    )
    _, rest = continued(relayed, say(before + "Hi"), say("!"))
    done = next(one for one in rest if one["type"] == "response.output_text.done")
    assert done["text"] == "Hi!"


@pytest.mark.parametrize("relayed", [b"", b": comment\n\n", b"data: {no json\n\n", b"data: 1\n\n"])
def test_what_says_nothing_is_begun_anew(relayed: bytes) -> None:
    _, rest = continued(relayed, say(""), say("Hi"))
    assert [one["sequence_number"] for one in rest] == list(range(len(rest)))
    assert rest[0]["type"] == "response.created"
