"""What clients mark as worth keeping."""

from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.core.types import CachePoint, ChatInput, TextPart
from trunkline.wire.openai.chat import decode_chat
from trunkline.wire.openai.responses import decode_responses

EPHEMERAL = {"type": "ephemeral"}
HOUR = {"type": "ephemeral", "ttl": "1h"}
TOOL = {"type": "function", "function": {"name": "f"}}


def source(messages: list[Any], **fields: Any) -> ChatInput:
    body = json.dumps({"messages": messages, **fields}).encode()
    (one,) = decode_chat(body).requests("id", "m", "")
    assert isinstance(one.input, ChatInput)
    return one.input


def part(text: str, **fields: Any) -> dict[str, Any]:
    return {"type": "text", "text": text, **fields}


def user(*parts: Any, **fields: Any) -> dict[str, Any]:
    return {"role": "user", "content": list(parts), **fields}


def test_parts_and_messages_are_marked() -> None:
    found = source(
        [
            {"role": "system", "content": "Be brief.", "cache_control": HOUR},
            user(part("a", cache_control=EPHEMERAL), part("b")),
            {"role": "assistant", "content": "c"},
            user(part("d", prompt_cache_breakpoint={"mode": "explicit"})),
            {"role": "assistant", "content": "e"},
            user(part("f", prompt_cache_breakpoint={"mode": "explicit", "ttl": "30m"})),
            user(part("g", cache_control=HOUR), part("h", cache_control=EPHEMERAL)),
        ]
    )
    assert found.cache_points == (
        CachePoint("message", 0, "1h"),
        CachePoint("message", 1, part=0),
        CachePoint("message", 3),
        CachePoint("message", 5, "1h"),
        CachePoint("message", 6, "1h", 0),
        CachePoint("message", 6),
    )
    assert found.messages[1].content == (TextPart("a"), TextPart("b"))


def test_a_mark_is_behind_its_part_alone() -> None:
    calls = [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
    turn = user(part("a", cache_control=EPHEMERAL), part("b"), cache_control=HOUR)
    both = (CachePoint("message", 0, part=0), CachePoint("message", 0, "1h"))
    assert source([turn]).cache_points == both
    turn["content"][1] = part("b", cache_control=EPHEMERAL)
    assert source([turn]).cache_points == (both[0], CachePoint("message", 0))
    # Calls follow the text.
    turn = {**turn, "role": "assistant", "tool_calls": calls}
    assert source([turn]).cache_points[1:] == (CachePoint("message", 0, part=1), both[1])
    # What a tool says is one.
    turn = {**user(part("a", cache_control=EPHEMERAL), part("b")), "role": "tool"}
    assert source([{**turn, "tool_call_id": "c"}]).cache_points == (CachePoint("message", 0),)
    # The last of many count.
    many = source([user(*[part("a", cache_control=EPHEMERAL)] * 5000)]).cache_points
    assert [one.part for one in many] == [*range(4992, 4999), -1]


@pytest.mark.parametrize(
    "tools",
    [
        [TOOL, {**TOOL, "cache_control": HOUR}],
        [{**TOOL, "cache_control": EPHEMERAL}, {**TOOL, "cache_control": HOUR}],
        [TOOL, {"type": "function", "function": {"name": "f", "cache_control": HOUR}}],
    ],
)
def test_tools_are_marked_together_and_shown_without(tools: list[Any]) -> None:
    found = source([user(part("a", cache_control=EPHEMERAL))], tools=tools)
    assert found.cache_points == (CachePoint("tools", ttl="1h"), CachePoint("message", 0))
    assert found.tools == (TOOL, TOOL)
    # What is not shown is not kept.
    assert source([user(part("a"))], tools=tools, tool_choice="none").cache_points == ()


def test_a_mark_at_the_top_is_for_all() -> None:
    turns = [user(part("a")), user(part("b"))]
    assert source(turns, cache_control=HOUR).cache_points == (CachePoint("message", 1, "1h"),)
    turns[1] = user(part("b", cache_control=EPHEMERAL))
    assert source(turns, cache_control=HOUR).cache_points == (CachePoint("message", 1),)
    turns[1] = user(part("b", cache_control=EPHEMERAL), part("c"))
    both = (CachePoint("message", 1, part=0), CachePoint("message", 1, "1h"))
    assert source(turns, cache_control=HOUR).cache_points == both


@pytest.mark.parametrize(
    "mark", [None, True, "ephemeral", [], {}, {"type": "persistent"}, {"a": [2**80]}, 5]
)
def test_marks_that_nobody_knows_are_none(mark: Any) -> None:
    marks = {"cache_control": mark, "prompt_cache_breakpoint": mark}
    turns = [user(part("a", **marks), **marks)]
    tools = [{**TOOL, "cache_control": mark}]
    found = source(turns, tools=tools, cache_control=mark)
    assert found == source([user(part("a"))], tools=[TOOL])


def test_a_lifetime_that_nobody_knows_is_not_said() -> None:
    turns = [user(part("a", cache_control={"type": "ephemeral", "ttl": "9y"}))]
    assert source(turns).cache_points == (CachePoint("message", 0),)


def test_parts_of_responses_are_marked() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit", "ttl": "12h"}}

    def said(role: str, *parts: Any) -> dict[str, Any]:
        return {"role": role, "content": [{"type": "input_text", **one} for one in parts]}

    items = [
        said("system", {"text": "a", **mark}),
        said("user", {"text": "b", "cache_control": EPHEMERAL}, {"text": "c"}),
        {"role": "assistant", "content": [{"type": "output_text", "text": "d", **mark}]},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": '{"cache_control":1}'},
        {"type": "function_call_output", "call_id": "c", "output": [part("e", **mark)]},
        {"role": "user", "content": '"cache_control"'},
        {"type": "reasoning", "summary": [], "content": [part("g", **mark), part("h")]},
        {"role": "assistant", "content": "i"},
    ]
    body = json.dumps({"input": items, "instructions": "Be brief."}).encode()
    (one,) = decode_responses(body).requests("id", "m", "")
    assert isinstance(one.input, ChatInput)
    assert [turn.role for turn in one.input.messages] == [
        *("system", "user", "assistant", "tool", "user", "assistant")
    ]
    assert one.input.cache_points == (
        CachePoint("message", 0, "1h"),
        CachePoint("message", 1, part=0),
        CachePoint("message", 3, "1h"),
    )
