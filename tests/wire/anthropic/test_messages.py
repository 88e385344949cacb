from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.wire.anthropic.support import HELLO, ask, chat, golden, request, said, tool
from trunkline.core.errors import InvalidRequest, TrunklineError, Unsupported
from trunkline.core.types import (
    ChatInput,
    Grammar,
    Message,
    Request,
    SamplingParams,
    TextPart,
    Thought,
)
from trunkline.wire.anthropic.messages import COUNT_TOKENS, MESSAGES, decode_count, decode_messages
from trunkline.wire.codec import Incoming


def parts(*texts: str) -> tuple[TextPart, ...]:
    return tuple(map(TextPart, texts))


# the whole


def test_a_plain_call() -> None:
    call = ask(model="caboose")
    assert (call.model, call.stream) == ("caboose", False)
    (one,) = call.requests("msg_1", "m", "team")
    assert one == Request(
        id="msg_1",
        model="m",
        input=ChatInput((Message("user", "Hello!"),)),
        sampling=SamplingParams(max_tokens=100),
        tool_choice="none",
        overflow="cap",
        tenant="team",
    )


def test_sampling_fields_arrive() -> None:
    one = request(temperature=0.5, top_k=40, top_p=0.9, stop_sequences=["a", "b"], max_tokens=7)
    assert one.sampling == SamplingParams(temperature=0.5, top_k=40, top_p=0.9, max_tokens=7)
    assert one.stop == ("a", "b")


def test_max_tokens_of_zero_is_one_token_that_nobody_sees() -> None:
    assert request(max_tokens=0).sampling.max_tokens == 1


def test_nulls_are_as_good_as_absent() -> None:
    names = ["system", "tools", "tool_choice", "thinking", "output_config", "output_format"]
    names += ["stream", "stop_sequences", "temperature", "top_k", "top_p", "metadata", "model"]
    assert request(**dict.fromkeys(names)) == request()


def test_an_agents_call() -> None:
    body = json.dumps(golden("agent_request.json")).encode()
    call = decode_messages(Incoming(body, query="beta=true"))
    (one,) = call.requests("msg_1", "caboose", "")
    assert call.stream
    assert one.sampling.max_tokens == 32_000
    assert one.overflow == "cap"
    assert (one.tool_choice, one.parallel_tool_calls) == ("auto", False)
    prompt = one.input
    assert isinstance(prompt, ChatInput)
    assert prompt.template_kwargs == {"enable_thinking": True, "reasoning_effort": "high"}
    assert one.notes["user"] == "user_1_account__session_2"
    marked = [(one.place, one.message, one.ttl) for one in prompt.cache_points]
    assert marked == [("tools", 0, ""), ("message", 0, "1h"), ("message", 1, "")]
    assert [tool["function"]["name"] for tool in prompt.tools] == ["Read", "Bash"]
    reminder = "<system-reminder>Today is Saturday.</system-reminder>"
    calls = (
        {
            "id": "toolu_1",
            "type": "function",
            "function": {"name": "Read", "arguments": '{"path": "points.py", "limit": 40}'},
        },
        {"id": "toolu_2", "type": "function", "function": {"name": "Bash", "arguments": "{}"}},
    )
    assert prompt.messages == (
        Message("system", parts("x-billing: cli=3.1; entry=sdk", "You are a coding agent.")),
        Message("user", parts(reminder, "Fix the points at Aylesbury.")),
        Message(
            "assistant",
            "I'll read it.",
            tool_calls=calls,
            reasoning_content="I need to see the file.",
            thoughts=(Thought("I need to see the file.", "c2ln"), Thought("", sealed="cmVk")),
        ),
        Message("tool", parts("1\tdef points():", "2\t    pass"), tool_call_id="toolu_1"),
        Message("tool", parts("Error:", "Exit code 1"), tool_call_id="toolu_2"),
        Message("user", "Go on."),
        Message("system", "The user's budget is low."),
        Message("user", "And be quick."),
    )


# turns


def test_system_in_all_its_places() -> None:
    assert said(("user", "Hi"), system="Be kind.")[0] == Message("system", "Be kind.")
    blocks = [{"type": "text", "text": "Be kind."}, {"type": "text", "text": ""}]
    assert said(("user", "Hi"), system=blocks)[0] == Message("system", "Be kind.")
    found = said(("system", "B"), ("developer", "C"), ("user", "Hi"), system="A")
    assert found == (Message("system", parts("A", "B", "C")), Message("user", "Hi"))
    found = said(("user", "Hi"), ("assistant", "Yes?"), ("system", "B"), ("user", "Go"))
    assert [message.role for message in found] == ["user", "assistant", "system", "user"]
    assert said(("user", "Hi"), system="") == (Message("user", "Hi"),)


def test_consecutive_turns_are_one() -> None:
    result = {"type": "tool_result", "tool_use_id": "t", "content": "42"}
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    found = said(
        ("user", "A"),
        ("user", [{"type": "text", "text": "B"}]),
        ("assistant", "C"),
        ("assistant", [use]),
        ("user", "D"),
        ("user", [result]),
    )
    assert [message.role for message in found] == ["user", "assistant", "tool", "user"]
    assert found[0].content == parts("A", "B")
    assert found[1].content == "C"
    assert found[1].tool_calls
    assert found[3].content == "D"


def test_prefill_is_continued() -> None:
    one = chat(messages=[*HELLO, {"role": "assistant", "content": "The answer is ("}])
    assert one.continue_final_message
    assert not one.add_generation_prompt
    assert one.messages[-1] == Message("assistant", "The answer is (")


def test_an_empty_last_turn_is_the_models() -> None:
    one = chat(messages=[*HELLO, {"role": "assistant", "content": ""}])
    assert one == chat(messages=HELLO)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, ""),
        ("", ""),
        ([], ""),
        ("42", "42"),
        ([{"type": "text", "text": "42"}], "42"),
        ([{"type": "tool_reference", "tool_name": "grep"}], "grep"),
        (
            [
                {
                    "type": "search_result",
                    "title": "Gauge",
                    "source": "https://a.example",
                    "content": [{"type": "text", "text": "1435 mm"}],
                    "citations": {"enabled": True},
                }
            ],
            "Gauge (https://a.example)\n1435 mm",
        ),
    ],
)
def test_tool_results(content: Any, expected: str) -> None:
    block = {"type": "tool_result", "tool_use_id": "t", "content": content}
    assert said(("user", [block])) == (Message("tool", expected, tool_call_id="t"),)


def test_a_tool_result_without_content() -> None:
    block = {"type": "tool_result", "tool_use_id": "t"}
    assert said(("user", [block])) == (Message("tool", "", tool_call_id="t"),)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "Error"),
        ("no such file", parts("Error:", "no such file")),
        ("<tool_use_error>no such file</tool_use_error>",) * 2,
        ("Error: no such file",) * 2,
    ],
)
def test_failed_tools_say_so(content: str, expected: Any) -> None:
    block = {"type": "tool_result", "tool_use_id": "t", "content": content, "is_error": True}
    assert said(("user", [block]))[0].content == expected


def test_documents_are_read_as_text() -> None:
    plain = {
        "type": "document",
        "title": "Rules",
        "source": {"type": "text", "media_type": "text/plain", "data": "No smoking."},
    }
    blocks = {
        "type": "document",
        "source": {"type": "content", "content": [{"type": "text", "text": "Mind the gap."}]},
    }
    (found,) = said(("user", [plain, blocks, {"type": "text", "text": "Why?"}]))
    assert found.content == parts("Rules\nNo smoking.", "Mind the gap.", "Why?")


def test_input_of_calls_stays_as_it_was_sent() -> None:
    body = (
        b'{"max_tokens": 5, "messages": [{"role": "user", "content": "a"}, {"role": "assistant",'
        b'"content": [{"type": "tool_use", "id": "t", "name": "f",'
        b'"input": {"n": 123456789012345678901, "x": 1.0}}]},'
        b'{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t"}]}]}'
    )
    (one,) = decode_messages(Incoming(body)).requests("msg_1", "m", "")
    assert isinstance(one.input, ChatInput)
    calls = one.input.messages[1].tool_calls
    assert calls is not None
    assert calls[0]["function"]["arguments"] == '{"n": 123456789012345678901, "x": 1.0}'


# tools, thinking, format


def test_tools_and_choices() -> None:
    tools = [tool("a", description="A", strict=True), {"name": "b"}]
    one = request(tools=tools)
    assert isinstance(one.input, ChatInput)
    assert one.input.tools == (
        {
            "type": "function",
            "function": {
                "name": "a",
                "description": "A",
                "parameters": {"type": "object", "properties": {}},
                "strict": True,
            },
        },
        {
            "type": "function",
            "function": {"name": "b", "parameters": {"type": "object", "properties": {}}},
        },
    )
    assert one.tool_choice == "auto"
    assert one.parallel_tool_calls
    required = request(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True})
    assert (required.tool_choice, required.parallel_tool_calls) == ("required", False)
    named = request(tools=tools, tool_choice={"type": "tool", "name": "b"})
    assert (named.tool_choice, named.tool_name) == ("named", "b")
    none = request(tools=tools, tool_choice={"type": "none"})
    assert none == request()


def test_servers_tools_are_passed_over() -> None:
    others = [
        {"type": "web_search_20250305", "name": "web_search", "max_uses": 5},
        {"type": "a_kind_of_the_future", "anything": [1]},
    ]
    notes = {"tools.web_search_20250305": True, "tools.a_kind_of_the_future": True}
    assert request(tools=others) == msgspec.structs.replace(request(), notes=notes)
    both = request(tools=[*others, tool("a")])
    assert both == msgspec.structs.replace(request(tools=[tool("a")]), notes=notes)
    made_up = request(tools=[{"type": 'x"\r\ny: z'}, {"type": 5}])
    assert made_up.notes == {"tools.other": True}


@pytest.mark.parametrize(
    ("thinking", "expected"),
    [
        (
            {"type": "enabled", "budget_tokens": 2048},
            {"enable_thinking": True, "thinking_budget": 2048},
        ),
        ({"type": "adaptive"}, {"enable_thinking": True}),
        ({"type": "disabled"}, {"enable_thinking": False}),
        ({"type": "between_tools"}, {}),
    ],
)
def test_thinking(thinking: Any, expected: Any) -> None:
    assert chat(thinking=thinking).template_kwargs == expected


def test_schemas_of_answers() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"type": "json_schema", "schema": schema}
    expected = Grammar("json_schema", json.dumps(schema))
    assert request(output_config={"format": wanted}).grammar == expected
    assert request(output_format=wanted).grammar == expected
    assert request(output_config={"effort": "low"}).grammar is None


# what is refused


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"max_tokens": None}, "max_tokens: Expected `int`"),
        ({"max_tokens": -1}, "max_tokens: Expected `int` >= 0"),
        ({"messages": []}, "messages: Expected `array` of length >= 1"),
        ({"messages": [{"role": "user"}]}, "messages.0: Object missing required field `content`"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages.0.role: Input should be"),
        ({"messages": [{"role": "system", "content": "x"}]}, "at least one user message"),
        ({"messages": [{"role": "assistant", "content": ""}]}, "at least one user message"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages.0.content.0.te",
        ),
        ({"temperature": 1.5}, "temperature: Expected `float` <= 1"),
        ({"stop_sequences": [""]}, "stop_sequences"),
        ({"tool_choice": {"type": "any"}}, "tool_choice.type: 'any' needs a tool"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type: Invalid enum value"),
        ({"tools": [tool("a")], "tool_choice": {"type": "tool", "name": "b"}}, "no tool 'b'"),
        ({"tools": [{"input_schema": {}}]}, "tools.0.name"),
        ({"tools": [tool("a", input_schema="x")]}, "not an object"),
        ({"thinking": {"type": "maybe"}}, "thinking.type: Invalid enum value"),
        ({"output_config": {"format": {"type": "regex"}}}, "output_config.format"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 1}}}, "Expected an object"),
    ],
)
def test_what_makes_no_sense(fields: Any, words: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert words in caught.value.message


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_result", "content": "x"},
        {"type": "tool_result", "tool_use_id": "t", "content": 5},
        {"type": "document"},
        {"type": "document", "source": {"type": "text", "data": 1}},
        {"type": "search_result", "content": []},
    ],
)
def test_malformed_blocks_are_named(block: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\.0\.content\.0"):
        said(("user", [block]))


@pytest.mark.parametrize(
    "block",
    [
        {"type": "tool_use", "name": "f", "input": {}},
        {"type": "tool_use", "id": "t", "input": {}},
        {"type": "tool_use", "id": "t", "name": "f", "input": "x"},
    ],
)
def test_malformed_calls_are_named(block: Any) -> None:
    with pytest.raises(InvalidRequest, match=r"messages\.1\.content\.0"):
        said(("user", "Hi"), ("assistant", [block]), ("user", "Go"))


def test_a_call_without_result_cannot_be_continued() -> None:
    use = {"type": "tool_use", "id": "t", "name": "f", "input": {}}
    with pytest.raises(InvalidRequest, match="tool_result"):
        said(("user", "Hi"), ("assistant", [use]))


@pytest.mark.parametrize(
    ("block", "words"),
    [
        (
            {"type": "image", "source": {"type": "url", "url": "https://a.example"}},
            "images are not passed on",
        ),
        ({"type": "document", "source": {"type": "base64", "data": "x"}}, "as text"),
        ({"type": "hologram"}, "'hologram'"),
    ],
)
def test_what_a_model_of_text_cannot_take(block: Any, words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        said(("user", [block]))
    inner = {"type": "tool_result", "tool_use_id": "t", "content": [block]}
    with pytest.raises(Unsupported, match=r"messages\.0\.content\.0\.content\.0"):
        said(("user", [inner]))


def test_a_file_that_the_model_will_not_see() -> None:
    upload = {"type": "container_upload", "file_id": "f"}
    with pytest.raises(Unsupported, match=r"messages\.0\.content\.0"):
        said(("user", [upload, {"type": "text", "text": "Read it"}]))


@pytest.mark.parametrize(
    "fields",
    [{"thread": {"type": "continue", "previous_message_id": "m"}}, {"compaction": {"type": "x"}}],
)
def test_what_would_make_it_another_conversation(fields: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param in fields


def test_a_servers_tool_cannot_be_named() -> None:
    tools = [tool("a"), {"type": "bash_20250124", "name": "bash"}]
    with pytest.raises(Unsupported, match="bash"):
        ask(tools=tools, tool_choice={"type": "tool", "name": "bash"})


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"messages":' + b"[" * 100_000])
def test_what_is_no_body(body: bytes) -> None:
    for decode in (decode_messages, decode_count):
        with pytest.raises(InvalidRequest):
            decode(Incoming(body))


# counting


def test_counting_asks_for_the_same_prompt() -> None:
    body = golden("agent_request.json")
    for name in ("max_tokens", "stream", "temperature"):
        body.pop(name)
    lookup = decode_count(Incoming(json.dumps(body).encode()))
    question = lookup.question("msg_1", "caboose", "team")
    (asked,) = ask(**golden("agent_request.json")).requests("msg_1", "caboose", "team")
    assert question.input == asked.input
    assert (question.tool_choice, question.tenant) == (asked.tool_choice, "team")
    assert lookup.model == "caboose"


def test_the_codecs() -> None:
    assert (MESSAGES.id_prefix, MESSAGES.looks_up) == ("msg_", False)
    assert COUNT_TOKENS.looks_up
    assert MESSAGES.stream_type.startswith(b"text/event-stream")
    assert MESSAGES.status(TrunklineError("x")) == 500
