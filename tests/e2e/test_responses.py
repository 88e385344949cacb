"""The Responses API with the official client and its helpers, against a real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pydantic
import pytest
from openai.lib.responses_tool_runner import RegisteredFunction, ResponsesToolRunner

from tests.support.server import Server, serve, write_rules

CALL = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'


class Sum(pydantic.BaseModel):
    left: int
    right: int


WEATHER: Any = {
    "type": "function",
    "name": "get_weather",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}
PATCH: Any = {"type": "custom", "name": "apply_patch", "description": "Edits files."}
CODE = "*** Begin Patch\n+é\n"


def _rules(directory: Path) -> Path:
    call = CALL % ("get_weather", '{"city": "Paris"}')
    patch = CALL % ("apply_patch", json.dumps({"input": CODE}))
    return write_rules(
        directory / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in Paris."},
        {"contains": "Patched.", "text": "Done."},
        {"contains": "weather in Paris", "text": f"<think>\nHe asks.\n</think>\n\n{call}"},
        {"contains": "patch it", "text": patch},
        {"contains": "a sum", "text": '{"left": 17, "right": 25}'},
        {"contains": "Your name is Ada", "text": "Ada, as you said."},
        {"contains": "breaks", "text": "so far" * 30, "action": "fail", "after": 60},
        {"contains": "endless", "text": "abc ", "ms_per_token": 5, "action": "endless"},
        default={"text": "Hello from the rails."},
    )


def connect(server: Server, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("responses")
    parsers = ("--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    arguments = (str(_rules(directory)), "--executor", "scripted", *parsers)
    with serve(directory, *arguments, "--api-key", "one", "--api-key", "two") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server, "one") as made:
        yield made


def test_create(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="default", input="Hi", metadata={"a": "b"})
    assert answer.output_text == "Hello from the rails."
    assert (answer.status, answer.metadata, answer.error) == ("completed", {"a": "b"}, None)
    assert answer.usage is not None
    assert answer.usage.total_tokens == answer.usage.input_tokens + answer.usage.output_tokens


def test_the_stream_has_the_same_text_and_ends(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="default", input="Hi", stream=True))
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert events[0].type == "response.created"
    last = events[-1]
    assert last.type == "response.completed"
    assert last.response.output_text == "Hello from the rails."
    text = "".join(e.delta for e in events if e.type == "response.output_text.delta")
    assert text == last.response.output_text


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_run_with_reasoning(client: openai.OpenAI, stream: bool) -> None:
    question: list[Any] = [{"role": "user", "content": "What is the weather in Paris?"}]
    if stream:
        with client.responses.stream(model="default", input=question, tools=[WEATHER]) as running:
            for event in running:
                if event.type == "response.function_call_arguments.delta":
                    assert '{"city": "Paris"}'.startswith(event.snapshot)
            answer: Any = running.get_final_response()
    else:
        answer = client.responses.create(model="default", input=question, tools=[WEATHER])
    assert answer.output[0].type == "reasoning"
    assert answer.output[0].content[0].text.strip() == "He asks."
    call = answer.output[-1]
    assert (call.type, call.name, json.loads(call.arguments)) == (
        *("function_call", "get_weather"),
        {"city": "Paris"},
    )
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "18 degrees"}
    # As agents do: everything that came goes back.
    history = [*question, *answer.output, result]
    final = client.responses.create(model="default", input=history, tools=[WEATHER])
    assert final.output_text == "It is 18 degrees in Paris."


class get_weather(pydantic.BaseModel):  # noqa: N801
    city: str


@pytest.mark.parametrize("stream", [False, True])
def test_the_clients_own_tool_runner(client: openai.OpenAI, stream: bool) -> None:
    cities: list[str] = []

    def tell(asked: get_weather) -> str:
        cities.append(asked.city)
        return "18 degrees"

    tool = openai.pydantic_responses_function_tool(get_weather)
    registered = RegisteredFunction.from_tool(tool, execute=tell)
    runner = ResponsesToolRunner(functions=[registered])
    asked: Any = {"model": "default", "input": "What is the weather in Paris?"}
    # Eager: a call is run as soon as its item is done, while the stream goes on.
    final = runner.run(client, asked, max_steps=3, stream=stream, eager=stream)
    assert final.output_text == "It is 18 degrees in Paris."
    assert cities == ["Paris"]


def test_a_custom_tool_takes_text(client: openai.OpenAI) -> None:
    with client.responses.stream(model="default", input="patch it", tools=[PATCH]) as running:
        kinds = [event.type for event in running]
        (call,) = running.get_final_response().output
    assert "response.custom_tool_call_input.done" in kinds
    assert call.type == "custom_tool_call"
    assert (call.name, call.input) == ("apply_patch", CODE)
    result: Any = {"type": "custom_tool_call_output", "call_id": call.call_id, "output": "Patched."}
    final = client.responses.create(
        model="default",
        input=[{"role": "user", "content": "patch it"}, call.to_dict(), result],  # type: ignore[list-item]
        tools=[PATCH],
    )
    assert final.output_text == "Done."


def test_parse_gives_the_model_that_was_asked_for(client: openai.OpenAI) -> None:
    answer = client.responses.parse(model="default", input="a sum", text_format=Sum)
    assert answer.output_parsed == Sum(left=17, right=25)
    with client.responses.stream(model="default", input="a sum", text_format=Sum) as running:
        assert running.get_final_response().output_parsed == Sum(left=17, right=25)


def test_a_schema_that_makes_no_sense_is_refused_by_name(client: openai.OpenAI) -> None:
    bad: Any = {
        "format": {"type": "json_schema", "name": "x", "strict": True, "schema": {"not": {}}}
    }
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="default", input="a sum", text=bad)
    assert caught.value.param == "text.format"


def test_a_conversation_goes_on_by_id(client: openai.OpenAI) -> None:
    first = client.responses.create(model="default", input="Your name is Ada.")
    second = client.responses.create(
        model="default", input="What is your name?", previous_response_id=first.id
    )
    assert second.output_text == "Ada, as you said."
    assert second.previous_response_id == first.id
    third = client.responses.create(
        model="default", input="And now?", previous_response_id=second.id
    )
    listed = client.responses.input_items.list(third.id, order="asc", limit=2)
    shown: list[Any] = list(listed)
    texts = [item.content[0].text for item in shown]
    assert texts == [
        *("Your name is Ada.", first.output_text),
        *("What is your name?", second.output_text, "And now?"),
    ]
    # By their items too.
    items: list[Any] = [{"type": "item_reference", "id": item.id} for item in listed.data]
    again = client.responses.create(
        model="default", input=[*items, {"role": "user", "content": "Who are you?"}]
    )
    assert again.output_text == "Ada, as you said."
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        client.responses.create(model="default", input="x", previous_response_id=third.id)
    assert caught.value.param == "previous_response_id"
    assert caught.value.code == "previous_response_not_found"


def test_stored_responses(client: openai.OpenAI, server: Server) -> None:
    streamed = client.responses.create(model="default", input="Hi", stream=True)
    answer = list(streamed)[-1].response  # type: ignore[union-attr]
    assert client.responses.retrieve(answer.id) == answer
    items: list[Any] = client.responses.input_items.list(answer.id).data
    assert [item.content[0].text for item in items] == ["Hi"]
    with connect(server, "two") as other, pytest.raises(openai.NotFoundError):
        other.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError, match="synchronous"):
        client.responses.cancel(answer.id)
    client.responses.delete(answer.id)
    for call in (
        client.responses.retrieve,
        client.responses.delete,
        client.responses.cancel,
        client.responses.input_items.list,
    ):
        with pytest.raises(openai.NotFoundError):
            call(answer.id)


def test_what_is_not_to_be_stored_is_not(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="default", input="Hi", store=False)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)


def test_stored_responses_need_a_key(server: Server) -> None:
    path = f"{server.url}/v1/responses/resp_1"
    assert httpx.get(path, timeout=10).status_code == 401
    assert httpx.delete(path, timeout=10).status_code == 401
    headers = {"authorization": "Bearer one"}
    for query in ("limit=0", "limit=x", "order=up", "limit=101"):
        created = httpx.post(
            f"{server.url}/v1/responses", json={"input": "Hi"}, headers=headers, timeout=10
        ).json()
        refused = httpx.get(
            f"{server.url}/v1/responses/{created['id']}/input_items?{query}",
            headers=headers,
            timeout=10,
        )
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == query.partition("=")[0]


def test_input_tokens_are_those_of_the_response(client: openai.OpenAI) -> None:
    first = client.responses.create(model="default", input="Hi", instructions="Be brief.")
    count = client.responses.input_tokens.count(
        model="default", input="Hi", instructions="Be brief."
    )
    assert first.usage is not None
    assert count.input_tokens == first.usage.input_tokens
    longer = client.responses.input_tokens.count(
        model="default", input="More", previous_response_id=first.id
    )
    assert longer.input_tokens > count.input_tokens


def test_cut_short_is_incomplete(client: openai.OpenAI) -> None:
    answer = client.responses.create(model="default", input="Hi", max_output_tokens=5)
    assert answer.status == "incomplete"
    assert answer.incomplete_details is not None
    assert answer.incomplete_details.reason == "max_output_tokens"
    assert answer.output_text == "Hello"


def test_a_failure_after_the_first_byte_ends_the_response(client: openai.OpenAI) -> None:
    events = list(client.responses.create(model="default", input="it breaks", stream=True))
    last = events[-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    assert "fails" in last.response.error.message
    assert last.sequence_number == len(events) - 1


def test_a_client_that_leaves_stops_the_work(client: openai.OpenAI, server: Server) -> None:
    stream = client.responses.create(model="default", input="endless", stream=True)
    for _, _event in zip(range(6), stream, strict=False):
        pass
    stream.close()
    server.wait_metric("vllm:num_requests_running", 0.0)


def test_what_a_coding_agent_sends_works(server: Server) -> None:
    body = {
        "model": "default",
        "instructions": "You are a coding agent.\n" * 3000,
        "input": [
            {"type": "message", "role": "developer", "content": [_text("Sandbox rules.")]},
            {"type": "message", "role": "user", "content": [_text("<environment_context/>")]},
            {
                "type": "message",
                "role": "user",
                "content": [_text("What is the weather in Paris?")],
            },
        ],
        "tools": [
            {**WEATHER, "name": "shell"},
            WEATHER,
            PATCH,
            {"type": "web_search", "external_web_access": False},
            {"type": "local_shell"},
            {"type": "namespace", "name": "mcp", "description": "d", "tools": [WEATHER]},
            {"type": "a tool of next year", "parameters": [1, 2, 3]},
        ],
        "tool_choice": "auto",
        "parallel_tool_calls": False,
        "reasoning": {"effort": "medium", "summary": "auto", "context": "auto"},
        "store": False,
        "stream": True,
        "include": ["reasoning.encrypted_content"],
        "service_tier": "priority",
        "prompt_cache_key": "0b4a",
        "text": {"verbosity": "low"},
        "max_output_tokens": 32_000,
        "client_metadata": {"x": "y"},
    }
    headers = {
        "authorization": "Bearer one",
        "openai-beta": "responses=experimental",
        "session_id": "0b4a",
        "accept": "text/event-stream",
    }
    answer = httpx.post(f"{server.url}/v1/responses", json=body, headers=headers, timeout=60)
    assert answer.status_code == 200, answer.text
    blocks = answer.text.removesuffix("\n\n").split("\n\n")
    last = json.loads(blocks[-1].split("\ndata: ")[1])
    assert last["type"] == "response.completed"
    thought, call = last["response"]["output"]
    assert thought["summary"][0]["text"].strip() == "He asks."
    assert thought["encrypted_content"]
    assert (call["type"], call["name"]) == ("function_call", "get_weather")


def _text(text: str) -> dict[str, str]:
    return {"type": "input_text", "text": text}


def test_responses_outlive_the_server(tmp_path: Path) -> None:
    arguments = (str(_rules(tmp_path)), "--executor", "scripted")
    with serve(tmp_path, *arguments) as first, connect(first) as client:
        answer = client.responses.create(model="default", input="Your name is Ada.")
    with serve(tmp_path, *arguments) as second, connect(second) as client:
        again = client.responses.create(
            model="default", input="Who are you?", previous_response_id=answer.id
        )
        assert again.output_text == "Ada, as you said."
