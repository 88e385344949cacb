"""Calls of the Responses API whose pieces come in turn, and answers that are cut off."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.openai.test_responses import CUSTOM, F, ask, call, say, streamed, whole
from trunkline.core.types import Delta

TURNS = (
    call(0, "c1", "f", '{"a"'),
    call(1, "c2", "apply_patch", '{"input":"x'),
    call(0, None, None, ":1}"),
    call(1, None, None, 'y"}'),
    call(2, "c3", "f", "{}"),
)


def outlines(output: list[Any]) -> list[Any]:
    return [
        (one["type"], one["call_id"], one.get("arguments", one.get("input")), one["status"])
        for one in output
    ]


def test_pieces_of_calls_in_turn_stay_with_their_calls() -> None:
    tools = [F, CUSTOM]
    shown = streamed(ask(stream=True, tools=tools), *TURNS, reason="tool_calls")
    added = [one["item"]["call_id"] for one in shown if one["type"].endswith("item.added")]
    assert added == ["c1", "c2", "c3"]
    said: dict[int, str] = {}
    for one in shown:
        if one["type"].endswith((".delta", "input.delta")):
            at = one["output_index"]
            assert one["item_id"] == shown[-1]["response"]["output"][at]["id"]
            said[at] = said.get(at, "") + one["delta"]
    assert said == {0: '{"a":1}', 1: "xy", 2: "{}"}
    done = {
        one["output_index"]: one["item"]
        for one in shown
        if one["type"] == "response.output_item.done"
    }
    output = shown[-1]["response"]["output"]
    assert [done[at] for at in range(3)] == output
    assert outlines(output) == [
        ("function_call", "c1", '{"a":1}', "completed"),
        ("custom_tool_call", "c2", "xy", "completed"),
        ("function_call", "c3", "{}", "completed"),
    ]
    assert outlines(whole(ask(tools=tools), *TURNS)["output"]) == outlines(output)


def test_what_a_call_lacks_may_come_when_others_have_begun() -> None:
    pieces = (
        call(0, "c1", "f", ""),
        call(1, "c2", "f", '{"b":2}'),
        say("Well."),
        call(0, None, None, "{}"),
    )
    output = whole(ask(tools=[F]), *pieces, reason="tool_calls")["output"]
    assert [one["type"] for one in output] == ["function_call", "function_call", "message"]
    assert [one["arguments"] for one in output[:2]] == ["{}", '{"b":2}']


def test_a_call_that_is_done_takes_no_more() -> None:
    late = (call(0, "c1", "f", "{}"), call(1, "c2", "f", "{}"), call(0, None, None, "}"))
    shown = streamed(ask(stream=True, tools=[F]), *late)
    assert [one["arguments"] for one in shown[-1]["response"]["output"]] == ["{}", "{}"]
    deltas = [one for one in shown if one["type"].endswith("arguments.delta")]
    assert [one["output_index"] for one in deltas] == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("said", [(), (say("So"),), (call(0, "c", "f", '{"a'),)])
def test_cut_by_a_policy_is_incomplete(said: tuple[Delta, ...], stream: bool) -> None:
    asked = ask(stream=stream, tools=[F])
    if stream:
        last = streamed(asked, *said, reason="content_filter")[-1]
        assert last["type"] == "response.incomplete"
        body = last["response"]
    else:
        body = whole(asked, *said, reason="content_filter")
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "content_filter"}
    assert [one["status"] for one in body["output"]] == ["incomplete"]
