"""Conversations as they go out."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.wire.anthropic.sending import CLAUDE, SPEAKER, TOOL, call, named, sent
from tests.wire.client_support import ALL, chat
from trunkline.core.errors import (
    Unsupported,
)
from trunkline.core.types import (
    CachePoint,
    Message,
    TextPart,
    Thought,
)


def test_turns() -> None:
    body = sent(
        chat(
            Message("system", "S1"),
            Message("user", "a"),
            Message("user", (TextPart("b"), TextPart(""))),
            Message("developer", "S2"),
            Message("assistant", "", tool_calls=(call("x:1", '{"a":1}'), call("y", "not JSON"))),
            Message("user", "and?"),
            Message("tool", "42", tool_call_id="x:1"),
            Message("tool", "", tool_call_id="y"),
            Message("assistant", None),
            Message("user", "z"),
        )
    )
    assert body["system"] == [{"type": "text", "text": "S1"}, {"type": "text", "text": "S2"}]
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {
            "role": "assistant",
            "content": [
                {"type": "tool_use", "id": "x_1", "name": "f", "input": {"a": 1}},
                {"type": "tool_use", "id": "y", "name": "f", "input": {"input": "not JSON"}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "x_1", "content": "42"},
                {"type": "tool_result", "tool_use_id": "y"},
                {"type": "text", "text": "and?"},
                {"type": "text", "text": "z"},
            ],
        },
    ]


def test_thoughts_go_back_to_servers_that_do_not_look_at_signatures() -> None:
    turns = (Message("user", "a"), Message("assistant", "b", reasoning_content="Hm."))
    request = chat(*turns, Message("user", "c"))
    assert SPEAKER.encode(request, CLAUDE).dropped == ("reasoning_content",)
    assert sent(request)["messages"][1]["content"] == "b"
    open_model = SPEAKER.encode(request, ALL)
    assert open_model.dropped == ()
    block = json.loads(open_model.body)["messages"][1]["content"][0]
    assert (block["type"], block["thinking"]) == ("thinking", "Hm.")


def test_thoughts_go_back_as_they_were_signed() -> None:
    thoughts = (Thought("Hm.", "s1"), Thought("", sealed="xyz"), Thought("", "s2"))
    loop = (
        Message("user", "a"),
        Message(
            "assistant",
            "b",
            tool_calls=(call("c", "{}"),),
            reasoning_content="Hm.",
            thoughts=thoughts,
        ),
        Message("tool", "r", tool_call_id="c"),
    )
    request = chat(*loop, tools=(TOOL,), template_kwargs={"enable_thinking": True})
    outgoing = SPEAKER.encode(request, named("claude-sonnet-4-5"))
    assert outgoing.dropped == ()
    body = sent(request, named("claude-sonnet-4-5"))
    assert body["thinking"]["type"] == "enabled"
    assert body["messages"][1]["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "text", "text": "b"},
        {"type": "tool_use", "id": "c", "name": "f", "input": {}},
    ]
    # A model that cannot read them.
    older = SPEAKER.encode(chat(*loop, tools=(TOOL,)), named("claude-3-5-sonnet-latest"))
    assert older.dropped == ("reasoning_content",)
    assert b"thinking" not in older.body


def test_cache_points_become_marks() -> None:
    points = (
        CachePoint("tools", ttl="1h"),
        CachePoint("message", 0),
        CachePoint("message", 2, "1h"),
        CachePoint("message", 4, "5m"),
    )
    turns = (
        Message("system", (TextPart("S1"), TextPart("S2"))),
        Message("user", "a"),
        Message("assistant", "b", tool_calls=(call("c", "{}"),)),
        Message("user", "d"),
        Message("tool", "r", tool_call_id="c"),
    )
    request = chat(*turns, tools=(TOOL, TOOL), cache_points=points)
    body = sent(request)
    short = {"type": "ephemeral"}
    assert [one.get("cache_control") for one in body["tools"]] == [None, {**short, "ttl": "1h"}]
    assert [one.get("cache_control") for one in body["system"]] == [None, short]
    # An hour may not follow five minutes.
    assert [one.get("cache_control") for one in body["messages"][1]["content"]] == [None, short]
    result, text = body["messages"][2]["content"]
    assert (result["type"], result["cache_control"]) == ("tool_result", {**short, "ttl": "5m"})
    assert "cache_control" not in text
    alone = sent(chat(Message("user", "a"), cache_points=(CachePoint("message", 0),)))
    assert alone["messages"][0]["content"] == [
        {"type": "text", "text": "a", "cache_control": short}
    ]
    many = tuple(Message("user" if n % 2 == 0 else "assistant", str(n)) for n in range(7))
    body = sent(chat(*many, cache_points=tuple(CachePoint("message", n) for n in range(7))))
    marked = [
        isinstance(one["content"], list) and len(one["content"][0]) > 2 for one in body["messages"]
    ]
    assert marked == [False] * 3 + [True] * 4


def test_marks_within_a_message() -> None:
    parts = tuple(map(TextPart, ("a", "", " ", "b", "c")))
    turns = (Message("user", parts), Message("assistant", "d", tool_calls=(call("c", "{}"),)))
    points = [CachePoint("message", 0, part=n) for n in (0, 2)]
    points += [CachePoint("message", 1, part=0), CachePoint("message", 1)]
    outgoing = SPEAKER.encode(chat(*turns, cache_points=tuple(points)), CLAUDE)
    assert outgoing.dropped == ()
    user, assistant = json.loads(outgoing.body)["messages"]
    # The second is at the same text as the first, as what is between them is not sent.
    assert ["cache_control" in one for one in user["content"]] == [True, False, False]
    assert ["cache_control" in one for one in assistant["content"]] == [True, True]


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ((CachePoint("message", 0, part=0),), "cache_control"),
        (tuple(CachePoint("message", 0, part=n) for n in range(1, 6)), "cache_control"),
        ((CachePoint("message", 0, part=1), CachePoint("message", 0, "1h")), "cache_control.ttl"),
    ],
)
def test_marks_that_have_no_place_are_told(points: tuple[CachePoint, ...], told: str) -> None:
    source = chat(Message("user", tuple(map(TextPart, " abcdef"))), cache_points=points)
    assert SPEAKER.encode(source, CLAUDE).dropped == (told,)


def test_a_turn_that_says_nothing_is_refused_by_name() -> None:
    for turns in (
        (Message("user", ""),),
        (Message("user", " \n"), Message("assistant", "b"), Message("user", "c")),
        (Message("user", "a"), Message("assistant", "b"), Message("user", (TextPart("\t"),))),
    ):
        with pytest.raises(Unsupported) as caught:
            SPEAKER.encode(chat(*turns), CLAUDE)
        assert caught.value.param == "messages"
    beside = sent(chat(Message("user", (TextPart(" "), TextPart("a"))), Message("user", "")))
    assert beside["messages"] == [{"role": "user", "content": "a"}]


def test_tools_that_were_called_are_defined_though_nobody_offers_them() -> None:
    turns = (
        Message("user", "a"),
        Message("assistant", None, tool_calls=(call("c", "{}"), call("d", "{}"))),
        Message("tool", "r", tool_call_id="c"),
        Message("tool", "r", tool_call_id="d"),
    )
    body = sent(chat(*turns))
    assert body["tools"] == [{"name": "f", "input_schema": {"type": "object", "properties": {}}}]
    assert body["tool_choice"] == {"type": "none"}
    assert "tools" not in json.loads(SPEAKER.encode(chat(*turns), ALL).body)


def test_what_has_no_place_in_a_conversation_is_told() -> None:
    moved = chat(Message("user", "a"), Message("system", "S"), Message("user", "b", name="Ann"))
    assert SPEAKER.encode(moved, CLAUDE).dropped == ("messages.system", "messages.name")


def test_what_leaves_no_turn_is_refused() -> None:
    for turns in ((Message("system", "S"),), (Message("system", "S"), Message("assistant", " "))):
        with pytest.raises(Unsupported) as caught:
            sent(chat(*turns))
        assert caught.value.param == "messages"
    begun = chat(
        Message("system", "S"),
        Message("assistant", "a"),
        add_generation_prompt=False,
        continue_final_message=True,
    )
    anew = msgspec.structs.replace(named("claude-opus-4-8"), unsupported="drop")
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(begun, anew)
    assert caught.value.param == "messages"
    # Engines of open models may take it.
    assert sent(chat(Message("system", "S")), ALL)["messages"] == []
