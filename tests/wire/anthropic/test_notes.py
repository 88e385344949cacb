"""What a body says besides: values that mean nothing new, marks, seals, notes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.anthropic.support import HELLO, chat, request, said, tool
from trunkline.core.types import (
    CachePoint,
    Thought,
)
from trunkline.wire.anthropic.answer import SIGNATURE

KEEPING = {"type": "clear_thinking_20251015", "keep": "all"}


def test_neutral_values_that_were_given() -> None:
    assert request(temperature=1, top_p=1.0).explicit == ("temperature", "top_p")
    assert request(temperature=1, top_p=0.5).explicit == ("temperature",)
    assert request(temperature=0, top_p=None).explicit == ()


@pytest.mark.parametrize(
    ("fields", "notes"),
    [
        ({"metadata": {"user_id": "u"}}, {"user": "u"}),
        ({"metadata": {"user_id": None}}, {}),
        ({"metadata": {"user_id": "u", "team": "t"}}, {"user": "u", "metadata": {"team": "t"}}),
        ({"service_tier": "auto"}, {}),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}),
        ({"speed": "standard", "inference_geo": None, "mcp_servers": []}, {}),
        ({"speed": "fast", "inference_geo": "us"}, {"speed": "fast", "inference_geo": "us"}),
        ({"container": "c", "diagnostics": {"previous_message_id": None}}, {"container": "c"}),
        ({"context_management": {"edits": []}, "thread": {"type": "create"}}, {}),
        ({"context_management": {"edits": [1]}}, {"context_management": {"edits": [1]}}),
        ({"context_management": {"edits": [KEEPING, KEEPING | {"keep": {"type": "all"}}]}}, {}),
        (
            {"context_management": {"edits": [KEEPING, {"type": "clear_thinking_20251015"}]}},
            {"context_management": {"edits": [KEEPING, {"type": "clear_thinking_20251015"}]}},
        ),
        ({"thinking": {"type": "between_tools"}}, {"thinking.between_tools": True}),
    ],
)
def test_notes(fields: Any, notes: Any) -> None:
    assert request(**fields).notes == notes


def test_blocks_that_are_left_out_are_noted() -> None:
    turns = [
        *HELLO,
        {
            "role": "assistant",
            "content": [
                {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
                {"type": "web_search_tool_result", "tool_use_id": "s", "content": []},
                {"type": "text", "text": "a"},
            ],
        },
        *HELLO,
    ]
    one = request(messages=turns)
    assert one.notes == {
        "messages.server_tool_use": True,
        "messages.web_search_tool_result": True,
    }


def test_thoughts_that_others_signed() -> None:
    blocks = [
        {"type": "thinking", "thinking": "a", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "b", "signature": SIGNATURE},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "thinking", "thinking": "c", "signature": ""},
        {"type": "text", "text": "d"},
    ]
    found = said(("user", "Hi"), ("assistant", blocks), ("user", "Go"))[1]
    assert found.thoughts == (Thought("a", "s1"), Thought("", sealed="xyz"), Thought("", "s2"))
    assert (found.reasoning_content, found.content) == ("a\nb\nc", "d")


def test_marks_for_the_cache() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    result = {"type": "tool_result", "tool_use_id": "t"}
    turns = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "user", "content": [{"type": "text", "text": "b", **hour}]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "a", **mark}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "c", "cache_control": None},
                {**result, "content": [{"type": "text", "text": "r", **mark}]},
                {**result, **mark, "content": "r"},
            ],
        },
    ]
    system = [{"type": "text", "text": "S", **mark}, {"type": "text", "text": "T", **hour}]
    one = chat(messages=turns, system=system, tools=[tool("a", **hour), tool("b")])
    assert [message.role for message in one.messages] == [
        "system",
        "user",
        "assistant",
        "tool",
        "tool",
        "user",
    ]
    assert one.cache_points == (
        CachePoint("tools", ttl="1h"),
        CachePoint("message", 0, part=0),
        CachePoint("message", 0, "1h"),
        CachePoint("message", 1, "1h"),
        CachePoint("message", 2),
        CachePoint("message", 3),
        CachePoint("message", 4),
    )
    # The mark at the top stands for one behind the last message.
    assert chat(**hour).cache_points == (CachePoint("message", 0, "1h"),)
    marked = [{"role": "user", "content": [{"type": "text", "text": "a", **hour}]}]
    assert chat(messages=marked, **mark).cache_points == (CachePoint("message", 0, "1h"),)
    # As there is where a text before the last is marked.
    marked[0]["content"] = [{"type": "text", "text": "a", **hour}, {"type": "text", "text": "b"}]
    both = (CachePoint("message", 0, "1h", 0), CachePoint("message", 0))
    assert chat(messages=marked, **mark).cache_points == both
    # What is not there is not marked.
    assert chat(tools=[{"type": "bash_20250124", **mark}]).cache_points == ()
    gone = [*HELLO, {"role": "assistant", "content": [{"type": "text", "text": "", **mark}]}]
    assert chat(messages=gone).cache_points == ()


def test_a_mark_is_behind_its_text_alone() -> None:
    mark = {"cache_control": {"type": "ephemeral"}}

    def text(said: str, **fields: Any) -> dict[str, Any]:
        return {"type": "text", "text": said, **fields}

    def document(**source: Any) -> dict[str, Any]:
        return {"type": "document", "source": source, **mark}

    def points(role: str, *blocks: Any) -> tuple[CachePoint, ...]:
        turns = [*HELLO, {"role": role, "content": list(blocks)}]
        return chat(messages=turns if role == "user" else [*turns, *HELLO]).cache_points

    # Turns of one role are one: the text before is that of the turn before.
    assert points("user", text("", **mark), text("a")) == (CachePoint("message", 0, part=0),)
    long = document(type="content", content=[text("x"), text("y")])
    assert points("user", long, text("", **mark), text("a")) == (CachePoint("message", 0, part=1),)
    call = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    assert points("assistant", text("a", **mark), call)[:1] == (CachePoint("message", 1, part=0),)
    assert points("assistant", text("a"), {**call, **mark}, text("b"))[:1] == (
        CachePoint("message", 1),
    )
    thought = {"type": "thinking", "thinking": "Hm.", "signature": "s"}
    assert points("assistant", thought, text("", **mark), text("b")) == ()
    # The last of many count.
    many = points("user", *[text("a", **mark)] * 5000)
    assert [one.part for one in many] == [*range(4993, 5000), -1]
