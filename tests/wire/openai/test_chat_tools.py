from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.support import events, golden, same_shape
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Message,
    Request,
    RowFinished,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.chat import ChatAsk, decode_chat

HELLO = [{"role": "user", "content": "Hello!"}]
F = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
G = {"type": "function", "function": {"name": "g"}}
ANSWER = Answer("chatcmpl-abc123", "gpt-4o-mini", 1699896916, "fp")
END: tuple[Event, ...] = (
    RowFinished("id", 0, "tool_calls"),
    Completed("id", Usage(82, 17), Timing()),
)


def ask(**fields: Any) -> ChatAsk:
    return decode_chat(json.dumps({"messages": HELLO, **fields}).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("id", "m", "")
    return one


def tools(one: Request) -> list[str]:
    assert isinstance(one.input, ChatInput)
    return [tool["function"]["name"] for tool in one.input.tools]


def called(index: int, id_: str | None, name: str | None, arguments: str) -> Delta:
    return Delta("id", 0, "", (1,), tool_calls=(ToolCallDelta(index, id_, name, arguments),))


def whole(asked: ChatAsk, *taken: Event) -> Any:
    renderer = asked.renderer(ANSWER)
    renderer.take(0, [*taken, *END])
    return json.loads(renderer.finish(Usage(82, 17), Timing()))


# decoding


def test_the_published_request() -> None:
    body = golden("chat_tools_request.json")
    (one,) = decode_chat(json.dumps(body).encode()).requests("id", "m", "")
    assert isinstance(one.input, ChatInput)
    assert one.input.tools == tuple(body["tools"])
    assert (one.tool_choice, one.parallel_tool_calls) == ("auto", True)


@pytest.mark.parametrize(
    ("choice", "expected", "name", "shown"),
    [
        (None, "auto", "", ["f", "g"]),
        ("auto", "auto", "", ["f", "g"]),
        ("none", "none", "", []),
        ("required", "required", "", ["f", "g"]),
        ({"type": "function", "function": {"name": "g"}}, "named", "g", ["f", "g"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [G]}},
            *("required", "", ["g"]),
        ),
        ({"type": "allowed_tools", "allowed_tools": {"tools": [F]}}, "auto", "", ["f"]),
        ({"type": "allowed_tools", "allowed_tools": {"tools": []}}, "none", "", []),
    ],
)
def test_choices(choice: Any, expected: str, name: str, shown: list[str]) -> None:
    one = request(tools=[F, G], tool_choice=choice, parallel_tool_calls=False)
    assert (one.tool_choice, one.tool_name, tools(one)) == (expected, name, shown)
    assert not one.parallel_tool_calls


def test_without_tools_nothing_may_be_called() -> None:
    for choice in (None, "auto", "none"):
        assert request(tools=[], tool_choice=choice).tool_choice == "none"


def test_functions_are_tools_one_at_a_time() -> None:
    one = request(functions=[{"name": "f"}], function_call={"name": "f"})
    assert tools(one) == ["f"]
    assert (one.tool_choice, one.tool_name, one.parallel_tool_calls) == ("named", "f", False)
    assert request(functions=[{"name": "f"}], function_call="none").tool_choice == "none"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "function"}]}, "tools[0].function.name"),
        ({"tools": [{}]}, "tools[0].function.name"),
        ({"tools": [F, {"type": "function", "function": {"name": 5}}]}, "tools[1].function.name"),
        ({"tools": [{"function": {"name": ""}}]}, "tools[0].function.name"),
        (
            {"tools": [{"function": {"name": "f", "parameters": "x"}}]},
            "tools[0].function.parameters",
        ),
        ({"tools": [{"function": {"name": "f", "x": 2**70}}]}, "tools[0].function"),
        ({"tools": {"a": 1}}, "tools"),
        ({"tools": ["f"]}, "tools[0]"),
        ({"tools": [F] * 2000}, "tools"),
        ({"tools": [F], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [F], "tool_choice": 5}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "function"}}, "tool_choice.function.name"),
        ({"tools": [F], "tool_choice": {"function": {"name": "h"}}}, "tool_choice"),
        ({"tools": [F], "tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice"),
        ({"functions": [{"name": "f"}], "tools": [F]}, "functions"),
        ({"functions": [{}]}, "functions[0].name"),
        ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, "function_call"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_a_choice_that_is_no_function_is_refused_by_name() -> None:
    with pytest.raises(Unsupported) as caught:
        ask(tools=[F], tool_choice={"type": "web_search"})
    assert caught.value.param == "tool_choice.type"


def test_earlier_calls_and_results_reach_the_template() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "refusal": "I will not."},
        {"role": "user", "content": ""},
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "{}"}},
        {"role": "function", "name": "f", "content": "43"},
    ]
    one = request(messages=messages)
    assert isinstance(one.input, ChatInput)
    assert one.input.messages[1:] == (
        Message("assistant", None, tool_calls=(call,)),
        Message("tool", "42", tool_call_id="c1"),
        Message("assistant", "I will not."),
        Message("user", ""),
        Message("assistant", None, tool_calls=({**call, "id": "call_f"},)),
        Message("tool", "43", name="f", tool_call_id="call_f"),
    )


def test_effort_none_turns_thinking_off() -> None:
    def variables(**fields: Any) -> Any:
        one = request(**fields).input
        assert isinstance(one, ChatInput)
        return one.template_kwargs

    assert variables(reasoning_effort="none") == {"enable_thinking": False}
    assert variables(reasoning_effort="high") == {"reasoning_effort": "high"}
    own = {"enable_thinking": True}
    assert variables(reasoning_effort="none", chat_template_kwargs=own) == own


# rendering


def test_the_published_response() -> None:
    arguments = '{\n"location": "Boston, MA"\n}'
    ours = whole(
        ask(tools=[F]),
        called(0, "call_abc123", "get_current_weather", ""),
        called(0, None, None, arguments),
    )
    same_shape(ours, golden("chat_tools.json"))


def deltas(asked: ChatAsk, *taken: Event) -> list[Any]:
    renderer = asked.renderer(ANSWER)
    sent = b"".join(renderer.take(0, [event]) for event in taken)
    sent += renderer.take(0, END) + renderer.finish(Usage(1, 1), Timing())
    *chunks, done = events(sent)
    assert done == "[DONE]"
    return [chunk["choices"][0] for chunk in chunks]


def test_two_calls_stream_as_openai_does() -> None:
    # Shape: a recording of api.openai.com of 2024-09-26 in the tests of the official client
    # (github.com/openai/openai-python, .inline-snapshot/external/f82268f2..., read 2026-11-21).
    shown = deltas(
        ask(tools=[F, G], stream=True),
        called(0, "call_1", "f", ""),
        called(0, None, None, '{"ci'),
        called(0, None, None, 'ty"}'),
        called(1, "call_2", "g", ""),
        called(1, None, None, "{}"),
    )
    begin = {"type": "function"}
    assert [one["delta"] for one in shown] == [
        {"role": "assistant", "content": None, "refusal": None},
        {"tool_calls": [{"index": 0, "id": "call_1", **begin, "function": _begin("f")}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"ci'}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": 'ty"}'}}]},
        {"tool_calls": [{"index": 1, "id": "call_2", **begin, "function": _begin("g")}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "{}"}}]},
        {},
    ]
    assert [one["finish_reason"] for one in shown] == [None] * 6 + ["tool_calls"]
    assert all(one["logprobs"] is None for one in shown)


def _begin(name: str) -> dict[str, str]:
    return {"name": name, "arguments": ""}


def test_reasoning_text_and_calls_in_one_delta_keep_their_order() -> None:
    call = ToolCallDelta(0, "call_1", "f", "{}")
    shown = deltas(
        ask(tools=[F], stream=True),
        Delta("id", 0, "Let me see.", reasoning="hm", tool_calls=(call,)),
    )
    kinds = [list(one["delta"])[-1] for one in shown[:-1]]
    assert kinds == ["refusal", "reasoning", "content", "tool_calls"]


@pytest.mark.parametrize("arguments", ["", "{}", '{"city":"Tōkyō 🚂\\u2028\\n\\"x\\""}'])
def test_a_call_split_at_every_byte_adds_up(arguments: str) -> None:
    pieces = [called(0, None, None, one) for one in arguments]
    first = called(0, "call_1", "f", "")
    for shown in (
        "".join(
            one["delta"]["tool_calls"][0]["function"]["arguments"]
            for one in deltas(ask(tools=[F], stream=True), first, *pieces)
            if "tool_calls" in one["delta"]
        ),
        whole(ask(tools=[F]), first, *pieces)["choices"][0]["message"]["tool_calls"][0]["function"][
            "arguments"
        ],
    ):
        assert shown == arguments


def test_text_beside_calls_stays() -> None:
    message = whole(ask(tools=[F]), Delta("id", 0, "Wait."), called(0, "c", "f", "{}"))["choices"][
        0
    ]["message"]
    assert message["content"] == "Wait."
    assert message["tool_calls"][0]["id"] == "c"


def test_functions_answer_with_a_function_call() -> None:
    old = {"functions": [{"name": "f"}]}
    taken = (called(0, "c", "f", ""), called(0, None, None, "{}"))
    choice = whole(ask(**old), *taken)["choices"][0]
    assert choice["message"]["function_call"] == {"name": "f", "arguments": "{}"}
    assert "tool_calls" not in choice["message"]
    assert choice["finish_reason"] == "function_call"
    shown = deltas(ask(**old, stream=True), *taken)
    assert [one["delta"] for one in shown[1:]] == [
        {"function_call": {"name": "f", "arguments": ""}},
        {"function_call": {"arguments": "{}"}},
        {},
    ]
    assert shown[-1]["finish_reason"] == "function_call"


def test_logprobs_of_a_call_are_shown_without_content() -> None:
    one = TokenLogprob("{", b"{", 1, -0.5)
    delta = Delta("id", 0, "", (1,), (one,), tool_calls=(ToolCallDelta(0, "c", "f", "{"),))
    asked = ask(tools=[F], logprobs=True, stream=True)
    shown = deltas(asked, delta)
    assert shown[1]["delta"] == {}
    assert shown[1]["logprobs"]["content"][0]["token"] == "{"
    assert shown[2]["delta"]["tool_calls"][0]["id"] == "c"


# custom tools; shapes of types/chat/chat_completion_message_custom_tool_call.py

PATCH = {
    "type": "custom",
    "custom": {
        "name": "patch",
        "description": "Edits files.",
        "format": {"type": "grammar", "grammar": {"syntax": "lark", "definition": "start: /x+/"}},
    },
}


def test_a_custom_tool_is_a_function_of_one_text() -> None:
    one = request(tools=[F, PATCH], tool_choice={"type": "custom", "custom": {"name": "patch"}})
    assert (one.tool_choice, one.tool_name) == ("named", "patch")
    assert isinstance(one.input, ChatInput)
    function = one.input.tools[1]["function"]
    assert (function["name"], function["description"]) == ("patch", "Edits files.")
    assert function["parameters"]["required"] == ["input"]
    assert "start: /x+/" in function["parameters"]["properties"]["input"]["description"]
    allowed = {"mode": "auto", "tools": [{"type": "custom", "custom": {"name": "patch"}}]}
    choice = {"type": "allowed_tools", "allowed_tools": allowed}
    assert tools(request(tools=[F, PATCH], tool_choice=choice)) == ["patch"]


@pytest.mark.parametrize(
    "custom", [None, {}, {"name": 5}, {"name": ""}, {"name": "x", "format": 1}]
)
def test_a_custom_tool_that_is_none(custom: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(tools=[{"type": "custom", "custom": custom}])
    assert (caught.value.param or "").startswith("tools[0].custom")


def test_calls_of_custom_tools_in_history() -> None:
    custom = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": 'a "b"\n'}}
    turn = {"role": "assistant", "content": None, "tool_calls": [custom]}
    result = {"role": "tool", "tool_call_id": "c1", "content": "done"}
    one = request(messages=[*HELLO, turn, result], tools=[PATCH])
    assert isinstance(one.input, ChatInput)
    (call,) = one.input.messages[1].tool_calls or ()
    assert json.loads(call["function"]["arguments"]) == {"input": 'a "b"\n'}
    assert (call["type"], call["function"]["name"], call["id"]) == ("function", "patch", "c1")
    with pytest.raises(InvalidRequest, match=r"messages\[1\]\.tool_calls\[0\]\.custom"):
        request(messages=[*HELLO, {**turn, "tool_calls": [{"id": "c1", "type": "custom"}]}])


@pytest.mark.parametrize("arguments", ['{"input": "é \\"x\\"\\n\\u00e9"}', '{"input": "cut o'])
def test_a_call_of_a_custom_tool(arguments: str) -> None:
    text = 'é "x"\né' if arguments.endswith("}") else "cut o"
    taken = (
        called(0, "c1", "patch", ""),
        *(called(0, None, None, one) for one in arguments),
        called(1, "c2", "f", "{}"),
    )
    asked = {"tools": [F, PATCH]}
    message = whole(ask(**asked), *taken)["choices"][0]["message"]
    custom = {"id": "c1", "type": "custom", "custom": {"name": "patch", "input": text}}
    function = {"id": "c2", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    assert message["tool_calls"] == [custom, function]

    renderer = ask(**asked, stream=True).renderer(ANSWER)
    body = b"".join(renderer.take(0, [one]) for one in (*taken, *END))
    calls = [
        call
        for chunk in events(body)
        for choice in chunk["choices"]
        for call in choice["delta"].get("tool_calls", ())
    ]
    mine = [call for call in calls if call["index"] == 0]
    assert mine[0] == {
        "index": 0,
        "id": "c1",
        "type": "custom",
        "custom": {"name": "patch", "input": ""},
    }
    assert "".join(call["custom"]["input"] for call in mine) == text
    # It comes as it is written.
    assert len(mine) > 5
    assert [call["function"]["arguments"] for call in calls if call["index"] == 1] == ["{}"]
