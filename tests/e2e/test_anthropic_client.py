"""Anthropic's official client, unmodified, against the bundled model and the scripted executor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pydantic
import pytest

from tests.support.server import Server, serve, write_rules

GOLDEN = Path(__file__).parent.parent / "wire" / "golden" / "anthropic"
WEATHER = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {"type": "object", "properties": {"city": {"type": "string"}}},
}
NOW = {"name": "now", "input_schema": {"type": "object"}}
TWO_CALLS = (
    "<think>\nOne city, and the time. 🚂\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "東京"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The scripted executor: its tokens are bytes, so everything is cut at every byte."""
    directory = tmp_path_factory.mktemp("trains")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in 東京."},
        {"contains": "weather", "text": TWO_CALLS},
        {"contains": "stop string", "text": '<tool_call>\n{"name": "now", "arguments": {"END'},
        {"contains": "fail", "text": "so far", "action": "fail", "after": 4},
        {"contains": "points at Aylesbury", "text": "Mind the points."},
        {"contains": "unicode", "text": "naïve 東京 🚂🚃 e\u0301"},
        {"contains": "schema", "text": '{"platform": 3}'},
        default={"text": "Hello from the rails."},
        context=200_000,
    )
    options = ("--executor", "scripted", "--tool-call-parser", "hermes")
    with serve(directory, str(rules), *options, "--reasoning-parser", "qwen3") as server:
        yield server


@pytest.fixture
def client(trains: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=trains.url, api_key="none", max_retries=0) as client:
        yield client


def asked(text: str, **more: Any) -> dict[str, Any]:
    """Arguments of a call."""
    messages = [{"role": "user", "content": text}]
    return {"model": "default", "max_tokens": 500, "messages": messages, **more}


def plain(message: Any) -> list[dict[str, Any]]:
    """The blocks as they were sent."""
    return [block.to_dict() for block in message.content]


def test_a_message_from_the_bundled_model(caboose: Server) -> None:
    with anthropic.Anthropic(base_url=caboose.url, api_key="none") as client:
        message = client.messages.create(
            **asked("What is 17 + 25?", model="caboose", extra_body={"temperature": 0})
        )
    assert (message.type, message.role, message.model) == ("message", "assistant", "caboose")
    assert message.id.startswith("msg_")
    assert message.content[0].text
    assert message.stop_reason == "end_turn"
    assert message.usage.output_tokens > 0


def test_what_was_read_from_the_cache_is_told_apart(caboose: Server) -> None:
    # Longer than a block of the KV cache: what is shared is shared in blocks.
    system = "You are the station master. " + "Answer in as few words as you can. " * 6
    call = asked("What is 17 + 25?", model="caboose", system=system) | {"max_tokens": 8}
    call["extra_body"] = {"temperature": 0}
    with anthropic.Anthropic(base_url=caboose.url, api_key="none") as client:
        first, again = client.messages.create(**call), client.messages.create(**call)
        counted = client.messages.count_tokens(
            model="caboose", system=system, messages=call["messages"]
        )
    used = again.usage
    assert again.content == first.content
    assert used.cache_read_input_tokens
    assert used.input_tokens + used.cache_read_input_tokens == counted.input_tokens
    assert used.output_tokens == first.usage.output_tokens > 0


def test_a_stream_from_the_bundled_model(caboose: Server) -> None:
    call = asked("What is 17 + 25?", model="caboose", extra_body={"temperature": 0})
    with anthropic.Anthropic(base_url=caboose.url, api_key="none") as client:
        whole = client.messages.create(**call)
        with client.messages.stream(**call) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
    assert text == whole.content[0].text
    assert plain(final) == plain(whole)
    assert final.stop_reason == "end_turn"
    total = whole.usage.input_tokens + (whole.usage.cache_read_input_tokens or 0)
    assert final.usage.input_tokens + (final.usage.cache_read_input_tokens or 0) == total


def test_system_and_prefill(caboose: Server) -> None:
    call = asked("What is 17 + 25?", model="caboose", system="Be brief.", max_tokens=8)
    call["messages"].append({"role": "assistant", "content": "17 + 25 ="})
    with anthropic.Anthropic(base_url=caboose.url, api_key="none") as client:
        message = client.messages.create(**call, extra_body={"temperature": 0})
        counted = client.messages.count_tokens(
            model="caboose", messages=call["messages"], system="Be brief."
        )
    assert message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0) == (
        counted.input_tokens
    )


def test_thinking_then_two_calls(client: anthropic.Anthropic) -> None:
    call = asked(
        "What is the weather?",
        tools=[WEATHER, NOW],
        thinking={"type": "enabled", "budget_tokens": 1024},
        max_tokens=2000,
    )
    message = client.messages.create(**call)
    thinking, text, first, second = message.content
    assert thinking.type == "thinking"
    assert thinking.thinking.strip() == "One city, and the time. 🚂"
    assert text.type == "text"
    assert text.text.strip() == "Let me look."
    assert first.type == "tool_use"
    assert (first.name, first.input) == ("get_weather", {"city": "東京"})
    assert second.type == "tool_use"
    assert (second.name, second.input) == ("now", {})
    assert first.id != second.id
    assert message.stop_reason == "tool_use"

    with client.messages.stream(**call) as stream:
        kinds = [event.type for event in stream]
        final = stream.get_final_message()
    assert [block | {"id": ""} for block in plain(final)] == [
        block | {"id": ""} for block in plain(message)
    ]
    assert final.stop_reason == "tool_use"
    assert kinds.count("content_block_stop") == 4
    # Arguments come as they are made, not at the end.
    assert kinds.count("input_json") > 5


def test_a_tool_run_to_its_end(client: anthropic.Anthropic) -> None:
    call = asked("What is the weather?", tools=[WEATHER, NOW])
    first = client.messages.create(**call)
    results = [
        {"type": "tool_result", "tool_use_id": block.id, "content": "18 degrees"}
        for block in first.content
        if block.type == "tool_use"
    ]
    call["messages"] += [
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    last = client.messages.create(**call)
    assert last.content[0].text == "It is 18 degrees in 東京."
    assert last.stop_reason == "end_turn"


def test_the_clients_own_tool_runner(client: anthropic.Anthropic) -> None:
    @anthropic.beta_tool
    def get_weather(city: str) -> str:
        """The weather in a city."""
        return f"18 degrees in {city}"

    @anthropic.beta_tool
    def now() -> str:
        """The time."""
        return "9:40"

    call = asked("What is the weather?", tools=[get_weather, now])
    runner = client.beta.messages.tool_runner(**call)
    assert runner.until_done().content[0].text == "It is 18 degrees in 東京."
    streams = client.beta.messages.tool_runner(**call, stream=True)
    reasons = [stream.get_final_message().stop_reason for stream in streams]
    assert reasons == ["tool_use", "end_turn"]


def test_a_schema(client: anthropic.Anthropic) -> None:
    class Train(pydantic.BaseModel):
        platform: int

    parsed = client.messages.parse(**asked("Follow the schema."), output_format=Train)
    assert parsed.parsed_output == Train(platform=3)


def test_stop_sequences(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked("Hi", stop_sequences=["x", " the rails"]))
    assert message.content[0].text == "Hello from"
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", " the rails")
    inside = client.messages.create(**asked("stop string", tools=[NOW], stop_sequences=["END"]))
    assert inside.stop_reason == "stop_sequence"


def test_max_tokens(client: anthropic.Anthropic) -> None:
    message = client.messages.create(**asked("Hi", max_tokens=5))
    assert message.content[0].text == "Hello"
    assert message.stop_reason == "max_tokens"
    assert message.usage.output_tokens == 5
    warmed = client.messages.create(**asked("Hi", max_tokens=0))
    assert (warmed.content, warmed.stop_reason) == ([], "max_tokens")


def test_unicode(client: anthropic.Anthropic) -> None:
    with client.messages.stream(**asked("unicode")) as stream:
        assert "".join(stream.text_stream) == "naïve 東京 🚂🚃 e\u0301"


async def test_the_async_client(trains: Server) -> None:
    async with (
        anthropic.AsyncAnthropic(base_url=trains.url, api_key="none") as client,
        client.messages.stream(**asked("Hi")) as stream,
    ):
        assert await stream.get_final_text() == "Hello from the rails."


def test_a_coding_agents_call(client: anthropic.Anthropic, trains: Server) -> None:
    body = json.loads((GOLDEN / "agent_request.json").read_text())
    manual = "Rule %d: stand clear of the doors. "
    body["system"][1]["text"] += "".join(manual % number for number in range(2000))
    assert len(json.dumps(body)) > 70_000
    body["model"] = "default"
    betas = {"anthropic-beta": "claude-code-20250219,interleaved-thinking-2025-05-14"}
    answer = trains.post("/v1/messages?beta=true", body | {"stream": False}, **betas)
    assert answer.status_code == 200, answer.text
    message = answer.json()
    assert message["content"] == [{"type": "text", "text": "Mind the points."}]
    used = message["usage"]
    counted = trains.post("/v1/messages/count_tokens?beta=true", body, **betas).json()
    total = sum(used[f"{name}input_tokens"] for name in ("", "cache_creation_", "cache_read_"))
    assert total == counted["input_tokens"] > 70_000
    extra = {name: body[name] for name in ("context_management", "container", "mcp_servers")}
    with client.beta.messages.stream(
        **{name: body[name] for name in ("model", "max_tokens", "system", "messages", "tools")},
        betas=["context-management-2025-06-27", "mid-conversation-system-2026-04-07"],
        extra_body=extra,
    ) as stream:
        final = stream.get_final_message()
    assert final.content[0].text == "Mind the points."  # type: ignore[union-attr]
    # The second time the prompt comes from the cache.
    assert (final.usage.cache_read_input_tokens or 0) > 70_000


def test_an_error_after_the_first_byte(client: anthropic.Anthropic) -> None:
    seen: list[str] = []
    with (
        pytest.raises(anthropic.APIStatusError, match="scripted rule") as caught,
        client.messages.stream(**asked("fail")) as stream,
    ):
        seen.extend(stream.text_stream)
    assert "".join(seen) == "so f"
    assert caught.value.type == "api_error"


def check_request_id(error: anthropic.APIStatusError) -> None:
    """The header, which the client reads, and the body tell the same id."""
    assert isinstance(error.body, dict)
    assert error.request_id
    assert error.body["request_id"] == error.request_id


def test_errors(client: anthropic.Anthropic) -> None:
    with pytest.raises(anthropic.NotFoundError, match="no-such-model") as missing:
        client.messages.create(**asked("Hi", model="no-such-model"))
    assert missing.value.type == "not_found_error"
    check_request_id(missing.value)
    with pytest.raises(anthropic.BadRequestError, match="max_tokens") as bad:
        client.messages.create(**asked("Hi", max_tokens=-1))
    assert bad.value.type == "invalid_request_error"
    image = {"type": "image", "source": {"type": "url", "url": "https://a.example/a.png"}}
    with pytest.raises(anthropic.BadRequestError, match="images"):
        client.messages.create(**asked("", messages=[{"role": "user", "content": [image]}]))
    with pytest.raises(anthropic.NotFoundError):
        client.beta.files.list()


def test_models(client: anthropic.Anthropic, trains: Server) -> None:
    models = list(client.models.list(limit=1))
    assert models
    assert models[0].type == "model"
    one = client.models.retrieve(models[0].id)
    assert one == models[0]
    assert one.max_input_tokens == 200_000
    with pytest.raises(anthropic.NotFoundError) as caught:
        client.models.retrieve("no-such-model")
    check_request_id(caught.value)
    # Without the header of Anthropic's clients it is OpenAI's list.
    assert httpx.get(f"{trains.url}/v1/models").json()["object"] == "list"


def test_is_anybody_there(trains: Server) -> None:
    answer = httpx.head(f"{trains.url}/")
    assert (answer.status_code, answer.content) == (200, b"")


def test_keys(tmp_path: Path) -> None:
    rules = write_rules(tmp_path / "rules.json", default={"text": "Hello."})
    with serve(tmp_path, str(rules), "--executor", "scripted", "--api-key", "sk-right") as server:
        for key in ({"api_key": "sk-right"}, {"auth_token": "sk-right"}):
            with anthropic.Anthropic(base_url=server.url, **key) as client:
                assert client.messages.create(**asked("Hi")).content
        with (
            anthropic.Anthropic(base_url=server.url, api_key="sk-wrong") as client,
            pytest.raises(anthropic.AuthenticationError) as caught,
        ):
            client.messages.create(**asked("Hi"))
    assert caught.value.type == "authentication_error"
