"""Ollama's own Python client, unmodified, against the bundled model and the scripted executor."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import ollama
import pydantic
import pytest

from tests.support.server import Server, serve, write_rules

QUESTION = [{"role": "user", "content": "What is 17 + 25?"}]
CALLS = (
    "<think>\nTwo cities. 🚂\n</think>\n\nLet me look.\n"
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "東京"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
)


def get_weather(city: str) -> str:
    """The weather in a city.

    Args:
        city: Its name.
    """
    return f"18 degrees in {city}"


def now() -> str:
    """The time."""
    return "noon"


@pytest.fixture(scope="module")
def trains(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The scripted executor: its tokens are bytes, so everything is cut at every byte."""
    directory = tmp_path_factory.mktemp("trains")
    rules = write_rules(
        directory / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in 東京."},
        {"contains": "weather", "text": CALLS},
        {"contains": "cut", "text": '<tool_call>\n{"name": "now", "arguments": {"zone": "GM'},
        {"contains": "fail", "text": "so far", "action": "fail", "after": 4},
        {"contains": "unicode", "text": "naïve 東京 🚂🚃 é"},
        {"contains": "friends", "text": '{"friends": [{"name": "Ollie", "age": 22}]}'},
        {"contains": "think", "text": "<think>\nhm\n</think>\n\nSo."},
        default={"text": "Hello from the rails."},
    )
    options = ("--executor", "scripted", "--tool-call-parser", "hermes")
    with serve(directory, str(rules), *options, "--reasoning-parser", "qwen3") as server:
        yield server


@pytest.fixture(scope="module")
def client(trains: Server) -> Iterator[ollama.Client]:
    with ollama.Client(host=trains.url) as client:
        yield client


@pytest.fixture(scope="module")
def model(client: ollama.Client) -> str:
    """The name under which Ollama's client finds the model."""
    (one,) = client.list().models
    assert one.model is not None
    assert one.model.endswith(":latest")
    return one.model


def said(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_chat(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, said("hi"))
    assert answer.message.content == "Hello from the rails."
    assert (answer.model, answer.done, answer.done_reason) == (model, True, "stop")
    assert answer.prompt_eval_count
    assert answer.eval_count
    durations = (answer.total_duration, answer.load_duration, answer.prompt_eval_duration)
    assert all(took and took > 0 for took in (*durations, answer.eval_duration))


def test_chat_stream(client: ollama.Client, model: str) -> None:
    parts = list(client.chat(model, said("unicode"), stream=True))
    assert "".join(part.message.content or "" for part in parts) == "naïve 東京 🚂🚃 é"
    assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]
    assert parts[-1].done_reason == "stop"


def test_length(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, said("hi"), options={"num_predict": 5})
    assert (answer.message.content, answer.done_reason) == ("Hello", "length")


def test_stop(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, said("hi"), options={"stop": [" the"], "temperature": 0})
    assert (answer.message.content, answer.done_reason) == ("Hello from", "stop")


@pytest.mark.parametrize("stream", [False, True])
def test_tools_after_thinking(client: ollama.Client, model: str, stream: bool) -> None:
    messages: list[Any] = said("the weather?")
    answer = client.chat(model, messages, tools=[get_weather, now], stream=stream)
    parts = list(answer) if stream else [answer]
    thinking = "".join(part.message.thinking or "" for part in parts)
    assert thinking.strip() == "Two cities. 🚂"
    assert "".join(part.message.content or "" for part in parts).strip() == "Let me look."
    calls = [call for part in parts for call in part.message.tool_calls or ()]
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("get_weather", {"city": "東京"}),
        ("now", {}),
    ]
    assert parts[-1].done_reason == "stop"
    # The turns go back as the client holds them.
    messages.append(ollama.Message(role="assistant", tool_calls=calls))
    messages.append({"role": "tool", "tool_name": "get_weather", "content": get_weather("東京")})
    again = client.chat(model, messages, tools=[get_weather, now])
    assert again.message.content == "It is 18 degrees in 東京."


def test_a_call_cut_off_is_text(client: ollama.Client, model: str) -> None:
    answer = client.chat(model, said("cut"), tools=[now])
    assert not answer.message.tool_calls
    assert "GM" in (answer.message.content or "")


def test_structured_output(client: ollama.Client, model: str) -> None:
    class Friend(pydantic.BaseModel):
        name: str
        age: int

    class Friends(pydantic.BaseModel):
        friends: list[Friend]

    schema = Friends.model_json_schema()
    answer = client.chat(model, said("my friends"), format=schema)
    found = Friends.model_validate_json(answer.message.content or "")
    assert found.friends == [Friend(name="Ollie", age=22)]


def test_an_error_within_a_stream(client: ollama.Client, model: str) -> None:
    parts: list[ollama.ChatResponse] = []
    with pytest.raises(ollama.ResponseError, match="this row fails"):
        parts.extend(client.chat(model, said("fail"), stream=True))
    with pytest.raises(ollama.ResponseError) as caught:
        client.chat(model, said("fail"))
    assert caught.value.status_code == 500


def test_generate(client: ollama.Client, model: str) -> None:
    answer = client.generate(model, "hi", system="Be brief.")
    assert (answer.response, answer.done_reason) == ("Hello from the rails.", "stop")
    parts = list(client.generate(model, "hi", stream=True))
    assert "".join(part.response or "" for part in parts) == "Hello from the rails."


def test_generate_thinking(client: ollama.Client, model: str) -> None:
    answer = client.generate(model, "think")
    assert (answer.thinking or "").strip() == "hm"
    assert (answer.response or "").strip() == "So."


def test_context_goes_on(client: ollama.Client, model: str) -> None:
    first = client.generate(model, "I know of 18 degrees")
    assert first.context
    # The bytes of the first prompt are in front of the second.
    second = client.generate(model, "hi", context=first.context)
    assert second.response == "It is 18 degrees in 東京."
    assert second.context is not None
    assert list(second.context[: len(first.context)]) == list(first.context)


def test_raw(client: ollama.Client, model: str) -> None:
    answer = client.generate(model, "hi", raw=True)
    assert answer.response == "Hello from the rails."
    # The prompt is two bytes and nothing else.
    assert answer.prompt_eval_count == 2
    assert answer.context is None


def test_logprobs(client: ollama.Client, model: str) -> None:
    answer = client.generate(model, "hi", logprobs=True, top_logprobs=1)
    shown = answer.logprobs or ()
    assert "".join(one.token for one in shown) == "Hello from the rails."
    assert all(one.top_logprobs for one in shown)


def test_load_and_unload(client: ollama.Client, model: str) -> None:
    assert client.generate(model).done_reason == "load"
    assert client.generate(model, keep_alive=0).done_reason == "unload"
    # It stays as long as the server runs, and that is shown.
    (still,) = client.ps().models
    assert (still.model, still.expires_at and still.expires_at.year) == (model, 2199)
    assert client.chat(model).done_reason == "load"
    (part,) = client.generate(model, stream=True)
    assert part.done_reason == "load"


def test_names(client: ollama.Client, model: str) -> None:
    short = model.removesuffix(":latest")
    for name in (short, model, model.upper(), f"library/{model}"):
        assert client.generate(name, "hi").model == name
        assert client.show(name).details is not None
    for ask in (
        lambda: client.chat("nobody", said("hi")),
        lambda: client.generate("nobody", "hi"),
        lambda: client.show("nobody"),
    ):
        with pytest.raises(ollama.ResponseError) as caught:
            ask()
        assert caught.value.status_code == 404
        assert caught.value.error == "model 'nobody' not found"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": "hot"}, 'option "temperature" must be of type float32'),
        ({"num_ctx": 10**9}, "num_ctx"),
    ],
)
def test_options_that_are_refused(
    client: ollama.Client, model: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ollama.ResponseError) as caught:
        client.generate(model, "hi", options=options)
    assert caught.value.status_code == 400
    assert message in caught.value.error


def test_what_is_there(client: ollama.Client, model: str) -> None:
    (running,) = client.ps().models
    assert running.model == model
    assert running.context_length
    assert running.expires_at is not None


def test_lines(trains: Server, model: str) -> None:
    body = {"model": model, "messages": said("hi")}
    answer = trains.post("/api/chat", body)
    assert answer.headers["content-type"] == "application/x-ndjson"
    assert all(json.loads(line) for line in answer.text.splitlines())
    whole = trains.post("/api/chat", {**body, "stream": False})
    assert whole.headers["content-type"] == "application/json; charset=utf-8"
    refused = httpx.post(f"{trains.url}/api/chat")
    assert (refused.status_code, refused.json()) == (400, {"error": "missing request body"})
    assert httpx.get(f"{trains.url}/api/version").json()["version"]
    assert httpx.get(trains.url).text == "Ollama is running"


async def test_the_bundled_model(caboose: Server) -> None:
    body = {"model": "caboose", "messages": QUESTION, "temperature": 0}
    same = caboose.post("/v1/chat/completions", body).json()["choices"][0]["message"]["content"]
    async with ollama.AsyncClient(host=caboose.url) as client:
        answer = await client.chat("caboose", QUESTION, options={"temperature": 0, "seed": 1})
        assert answer.message.content == same
        shown = await client.show("caboose")
        assert shown.modelinfo
        assert shown.modelinfo["general.architecture"] == "llama"
        assert "completion" in (shown.capabilities or ())
        assert shown.template
        (listed,) = (await client.list()).models
        assert listed.model == "caboose:latest"
        assert listed.details is not None
        assert listed.details.quantization_level
        (running,) = (await client.ps()).models
        assert running.size
        # How long its own words become is the model's choice; that they are an object is not.
        asked = "Give me a JSON object with name Ada and age 36."
        as_json = await client.generate(
            "caboose", asked, format="json", options={"temperature": 0, "num_predict": 200}
        )
        assert (as_json.response or "").startswith("{")
        if as_json.done_reason == "stop":
            assert isinstance(json.loads(as_json.response or ""), dict)
