"""Tools and structured output with the official client and its helpers, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pydantic
import pytest

from tests.support.server import Server, serve, write_rules

CALL = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "%s"}}\n</tool_call>'


class get_weather(pydantic.BaseModel):  # noqa: N801
    """Tell the weather."""

    city: str


class Sum(pydantic.BaseModel):
    left: int
    right: int
    operation: Literal["plus", "minus"]


TOOL = openai.pydantic_function_tool(get_weather)
PLAIN: Any = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {}}},
}


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("tools")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in Paris."},
        {"contains": "weather in Paris", "text": CALL % "Paris"},
        {"contains": "weather in both", "text": f"{CALL % 'Paris'}\n{CALL % 'Tōkyō 🚂'}"},
        {
            "contains": "think first",
            "text": f"<think>\nHe wants Oslo.\n</think>\n\nLet me look.\n{CALL % 'Oslo'}",
        },
        {
            "contains": "what time",
            "text": '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>',
        },
        {"contains": "a sum", "text": '{"left": 17, "right": 25, "operation": "plus"}'},
        {
            "contains": "breaks",
            "text": CALL % ("x" * 2000),
            "action": "fail",
            "after": 200,
            "ms_per_token": 0.2,
        },
        {"contains": "several", "text": ["one", "two", "three"]},
        default={"text": "Hello from the rails."},
    )
    parsers = ("--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    with serve(directory, str(rules), "--executor", "scripted", *parsers) as server:
        yield server


@pytest.fixture
def client(tools: Server) -> Iterator[openai.OpenAI]:
    with connect(tools) as made:
        yield made


def connect(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def ask(question: str) -> list[Any]:
    return [{"role": "user", "content": question}]


def test_a_tool_run(client: openai.OpenAI) -> None:
    messages = ask("What is the weather in Paris?")
    answer = client.chat.completions.create(model="default", messages=messages, tools=[TOOL])
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    assert choice.message.content is None
    assert choice.message.tool_calls is not None
    (call,) = choice.message.tool_calls
    assert call.type == "function"
    assert json.loads(call.function.arguments) == {"city": "Paris"}
    result = {"role": "tool", "tool_call_id": call.id, "content": "18 degrees"}
    messages += [choice.message, result]
    answer = client.chat.completions.create(model="default", messages=messages, tools=[TOOL])
    assert answer.choices[0].message.content == "It is 18 degrees in Paris."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None


def test_the_stream_helper_puts_two_calls_together(client: openai.OpenAI) -> None:
    with client.chat.completions.stream(
        model="default", messages=ask("What is the weather in both?"), tools=[TOOL]
    ) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_completion()
    assert kinds.count("tool_calls.function.arguments.done") == 2
    assert kinds.count("tool_calls.function.arguments.delta") > 2
    message = final.choices[0].message
    assert message.content is None
    assert message.tool_calls is not None
    parsed = [call.function.parsed_arguments for call in message.tool_calls]
    assert parsed == [get_weather(city="Paris"), get_weather(city="Tōkyō 🚂")]
    assert len({call.id for call in message.tool_calls}) == 2
    assert final.choices[0].finish_reason == "tool_calls"


def test_parse_gives_typed_arguments(client: openai.OpenAI) -> None:
    answer = client.chat.completions.parse(
        model="default", messages=ask("What is the weather in Paris?"), tools=[TOOL]
    )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.parsed_arguments == get_weather(city="Paris")


def test_reasoning_text_and_a_call(client: openai.OpenAI) -> None:
    messages = ask("Please think first")
    answer = client.chat.completions.create(model="default", messages=messages, tools=[TOOL])
    message = answer.choices[0].message
    extra = message.model_extra or {}
    assert extra["reasoning_content"].strip() == "He wants Oslo."
    assert (message.content or "").strip() == "Let me look."
    assert message.tool_calls is not None
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert (answer.usage.completion_tokens_details.reasoning_tokens or 0) > 0
    with client.chat.completions.stream(model="default", messages=messages, tools=[TOOL]) as stream:
        streamed = stream.get_final_completion().choices[0].message
    assert streamed.content == message.content
    assert streamed.tool_calls is not None
    assert streamed.tool_calls[0].function.arguments == (
        message.tool_calls[0].function.arguments  # type: ignore[union-attr]
    )


def test_arguments_may_be_empty(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default", messages=ask("what time is it?"), tools=[PLAIN], tool_choice="auto"
    )
    assert answer.choices[0].message.tool_calls is not None
    (call,) = answer.choices[0].message.tool_calls
    assert call.type == "function"
    assert (call.function.name, json.loads(call.function.arguments)) == ("now", {})


def test_no_tools_no_calls(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default",
        messages=ask("What is the weather in Paris?"),
        tools=[TOOL],
        tool_choice="none",
    )
    assert answer.choices[0].message.tool_calls is None


def test_functions_before_there_were_tools(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model="default",
        messages=ask("What is the weather in Paris?"),
        functions=[{"name": "get_weather", "parameters": {"type": "object"}}],
    )
    call = answer.choices[0].message.function_call
    assert call is not None
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Paris"})
    assert answer.choices[0].finish_reason == "function_call"


def test_parse_gives_the_model_that_was_asked_for(client: openai.OpenAI) -> None:
    messages = ask("Give me a sum")
    answer = client.chat.completions.parse(model="default", messages=messages, response_format=Sum)
    assert answer.choices[0].message.parsed == Sum(left=17, right=25, operation="plus")
    with client.chat.completions.stream(
        model="default", messages=messages, response_format=Sum
    ) as stream:
        assert stream.get_final_completion().choices[0].message.parsed == Sum(
            left=17, right=25, operation="plus"
        )


def test_a_schema_that_makes_no_sense_harms_its_own_request_alone(client: openai.OpenAI) -> None:
    bad: Any = {
        "type": "json_schema",
        "json_schema": {"name": "x", "strict": True, "schema": {"type": "object", "not": {}}},
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(
            model="default", messages=ask("Give me a sum"), response_format=bad
        )
    assert caught.value.param == "response_format"
    test_parse_gives_the_model_that_was_asked_for(client)


def test_a_tool_that_makes_no_sense_is_refused_by_name(client: openai.OpenAI) -> None:
    bad: Any = {"type": "function", "function": {"name": "", "parameters": {}}}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="default", messages=ask("x"), tools=[bad])
    assert caught.value.param == "tools[0].function.name"


def test_a_failure_within_a_call_raises(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model="default", messages=ask("it breaks"), tools=[TOOL], stream=True
    )
    seen: list[Any] = []
    with pytest.raises(openai.APIError, match="fails"):
        seen.extend(chunk.choices[0].delta.tool_calls for chunk in stream)
    assert any(seen)


def test_completions_echo_and_best_of(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="default", prompt="several", n=2, best_of=3, echo=True, max_tokens=5
    )
    texts = [choice.text for choice in answer.choices]
    assert len(set(texts)) == 2
    assert set(texts) <= {"severalone", "severaltwo", "severalthree"}
    # All three were computed, and are billed.
    assert answer.usage is not None
    assert answer.usage.completion_tokens >= 12


def test_a_real_model_keeps_to_the_schema(caboose: Server) -> None:
    with connect(caboose) as client:
        for seed in range(3):
            answer = client.chat.completions.create(
                model="caboose",
                messages=ask("What is 17 + 25?"),
                response_format={
                    "type": "json_schema",
                    "json_schema": {"name": "sum", "strict": True, "schema": _strict(Sum)},
                },
                temperature=1.5,
                seed=seed,
                max_tokens=200,
            )
            choice = answer.choices[0]
            if choice.finish_reason == "stop":
                Sum.model_validate_json(choice.message.content or "")
            else:
                assert choice.finish_reason == "length"


def test_a_real_model_chooses_among_given_answers(caboose: Server) -> None:
    with connect(caboose) as client:
        for field in ({"guided_choice": ["north", "south"]}, {"guided_regex": "north|south"}):
            answer = client.chat.completions.create(
                model="caboose", messages=ask("Which way?"), temperature=1.5, extra_body=field
            )
            assert answer.choices[0].message.content in ("north", "south")


def _strict(model: type[pydantic.BaseModel]) -> dict[str, object]:
    return {**model.model_json_schema(), "additionalProperties": False}
