"""Going on with a message that another began."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.anthropic.support import ANSWER, ask, called, ended, events, text
from trunkline.core.types import Delta, Event, Timing, Usage
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.codec import Successor

START: dict[str, Any] = {"type": "message_start", "message": {"id": "m", "content": []}}
TEXT = {"type": "text", "text": ""}
THOUGHT = {"type": "thinking", "thinking": "", "signature": ""}


def block(index: int, begun: dict[str, Any], *deltas: dict[str, Any]) -> list[dict[str, Any]]:
    """A block that ends."""
    return [
        {"type": "content_block_start", "index": index, "content_block": begun},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def said(words: str) -> dict[str, Any]:
    return {"type": "text_delta", "text": words}


def signed() -> dict[str, Any]:
    return {"type": "signature_delta", "signature": "theirs"}


def continued(relayed: list[dict[str, Any]], sent: str, *rest: Event) -> list[Any]:
    renderer = ask(stream=True).renderer(ANSWER)
    assert isinstance(renderer, Successor)
    stream = (f"event: {one['type']}\ndata: {json.dumps(one)}\n\n" for one in relayed)
    renderer.succeed("".join(stream).encode())
    assert renderer.take(0, [Delta("r", 0, sent)]) == b""
    data = b"".join(renderer.take(0, [event]) for event in (*rest, ended()))
    return events(data + renderer.finish(Usage(5, 1), Timing()))


def shape(stream: list[Any]) -> list[tuple[str, int]]:
    kinds = [(one["type"].removeprefix("content_block_"), one.get("index", -1)) for one in stream]
    assert kinds[-2:] == [("message_delta", -1), ("message_stop", -1)]
    return kinds[:-2]


@pytest.mark.parametrize(
    ("relayed", "sent", "expected"),
    [
        ([START], "", [("start", 0), ("delta", 0), ("stop", 0)]),
        # The block is there, with nothing in it, or white space.
        ([START, *block(0, TEXT)[:1]], "", [("delta", 0), ("stop", 0)]),
        ([START, *block(0, TEXT, said(" "))[:2]], " ", [("delta", 0), ("stop", 0)]),
        ([START, *block(0, TEXT, said("Hi"))[:2]], "Hi", [("delta", 0), ("stop", 0)]),
        # It has ended.
        ([START, *block(0, TEXT, said("Hi"))], "Hi", [("start", 1), ("delta", 1), ("stop", 1)]),
        # Thoughts that nobody is shown have a place of their own.
        (
            [START, *block(0, THOUGHT, signed()), *block(1, TEXT, said("Hi"))[:2]],
            "Hi",
            [("delta", 1), ("stop", 1)],
        ),
        (
            [START, *block(0, {"type": "redacted_thinking", "data": "x"})],
            "",
            [("start", 1), ("delta", 1), ("stop", 1)],
        ),
        # What nobody goes on in is closed.
        (
            [START, *block(0, {"type": "server_tool_use", "id": "s", "name": "n"})[:1]],
            "",
            [("stop", 0), ("start", 1), ("delta", 1), ("stop", 1)],
        ),
    ],
    ids=["start", "begun", "space", "open", "closed", "hidden", "redacted", "other"],
)
def test_blocks_go_on_where_they_were(
    relayed: list[dict[str, Any]], sent: str, expected: list[tuple[str, int]]
) -> None:
    assert shape(continued(relayed, sent, text(" there"))) == expected


def test_a_thought_that_is_open_is_closed_as_it_was_signed() -> None:
    before = [START, *block(0, TEXT, said("Hi"))]
    for deltas, signature in (((), SIGNATURE), ((signed(),), "theirs")):
        relayed = [*before, *block(1, THOUGHT, *deltas)[:-1]]
        rest = continued(relayed, "Hi", text("!"))
        kinds = [("delta", 1), ("stop", 1), ("start", 2), ("delta", 2), ("stop", 2)]
        assert shape(rest) == kinds
        assert rest[0]["delta"] == {"type": "signature_delta", "signature": signature}


def test_calls_follow_on_text() -> None:
    rest = continued([START, *block(0, TEXT, said("Hi"))[:2]], "Hi", called(0, "{}", "f"))
    assert shape(rest)[:2] == [("stop", 0), ("start", 1)]


def test_what_says_nothing_is_passed_over() -> None:
    renderer = ask(stream=True).renderer(ANSWER)
    assert isinstance(renderer, Successor)
    renderer.succeed(b": comment\n\ndata: {no json\n\ndata: 1\n\n")
    renderer.take(0, [text("")])
    assert b'"index":0' in renderer.take(0, [text("Hi")])
