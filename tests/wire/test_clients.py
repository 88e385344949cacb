"""Our bytes, read by the parsers of the vendors' own clients, however the network cuts them.

No server and no network: each client gets a transport that answers with what a codec rendered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import httpx2
import huggingface_hub
import ollama
import openai
import pytest

from tests.wire.transcripts import CALLS, TEXTS, Case, broken, cuts, rendered
from trunkline.core.errors import EngineCrashed
from trunkline.core.types import Json
from trunkline.wire.anthropic.messages import MESSAGES
from trunkline.wire.codec import Codec
from trunkline.wire.ollama.chat import CHAT as OLLAMA_CHAT
from trunkline.wire.ollama.generate import GENERATE as OLLAMA_GENERATE
from trunkline.wire.openai.chat import CHAT
from trunkline.wire.openai.completions import COMPLETIONS
from trunkline.wire.openai.responses import RESPONSES
from trunkline.wire.tgi.generate import GENERATE_STREAM as TGI_STREAM
from trunkline.wire.tgi.generate import ROOT as TGI_ROOT

MESSAGE: Any = [{"role": "user", "content": "Hi"}]
CRASH = EngineCrashed("The engine ended: 漢 \u2028.")
ALL = pytest.mark.parametrize("case", [*TEXTS, *CALLS], ids=lambda case: case.name)
TEXT = pytest.mark.parametrize("case", TEXTS, ids=lambda case: case.name)


def transport(codec: Codec, pieces: list[bytes], *, stream: bool = True) -> httpx2.MockTransport:
    """Answers every request with `pieces`."""
    kind = (codec.stream_type if stream else codec.whole_type).decode()
    return httpx2.MockTransport(
        lambda _: httpx2.Response(200, headers={"content-type": kind}, content=iter(pieces))
    )


def transports(codec: Codec, data: bytes) -> Iterator[httpx2.MockTransport]:
    """One for each way in which the network may cut a stream."""
    for pieces in cuts(data):
        yield transport(codec, pieces)


def openai_client(given: httpx2.MockTransport) -> openai.OpenAI:
    return openai.OpenAI(api_key="x", max_retries=0, http_client=httpx2.Client(transport=given))


def anthropic_client(given: httpx2.MockTransport) -> anthropic.Anthropic:
    client = httpx2.Client(transport=given)
    return anthropic.Anthropic(api_key="x", max_retries=0, http_client=client)


def ollama_clients(codec: Codec, data: bytes) -> Iterator[ollama.Client]:
    """For each way in which the network may cut a stream. This package has the older httpx."""
    for pieces in cuts(data):
        yield ollama.Client("http://x", transport=_older_transport(codec, pieces))


def _older_transport(codec: Codec, pieces: list[bytes]) -> httpx.MockTransport:
    headers = {"content-type": codec.stream_type.decode()}
    return httpx.MockTransport(lambda _: httpx.Response(200, headers=headers, content=iter(pieces)))


@pytest.fixture
def hub() -> Iterator[Any]:
    """Makes a client of huggingface_hub for a transport; they share one session."""

    def make(given: httpx2.MockTransport) -> huggingface_hub.InferenceClient:
        huggingface_hub.set_client_factory(lambda: httpx2.Client(transport=given))
        return huggingface_hub.InferenceClient("http://x")

    yield make
    huggingface_hub.set_client_factory(httpx2.Client)


@ALL
def test_chat_completions(case: Case) -> None:
    data = rendered(CHAT, {"messages": MESSAGE, "stream": True}, case)
    for given in transports(CHAT, data):
        with openai_client(given).chat.completions.stream(model="m", messages=MESSAGE) as stream:
            chunks = [event.chunk for event in stream if event.type == "chunk"]
            message = stream.get_final_completion().choices[0].message
        assert (message.content or "") == case.text
        calls = [(call.function.name, call.function.arguments) for call in message.tool_calls or ()]
        assert calls == list(case.calls)
        deltas = [chunk.choices[0].delta for chunk in chunks]
        assert "".join(getattr(one, "reasoning_content", None) or "" for one in deltas) == (
            case.reasoning
        )
        reasons = [chunk.choices[0].finish_reason for chunk in chunks]
        assert reasons == [None] * (len(chunks) - 1) + [_reason(case)]


@ALL
def test_a_whole_chat_completion(case: Case) -> None:
    data = rendered(CHAT, {"messages": MESSAGE}, case)
    client = openai_client(transport(CHAT, [data], stream=False))
    choice = client.chat.completions.create(model="m", messages=MESSAGE).choices[0]
    calls = [
        (call.function.name, call.function.arguments)
        for call in choice.message.tool_calls or ()
        if call.type == "function"
    ]
    assert (choice.message.content or "", calls) == (case.text, list(case.calls))
    assert choice.finish_reason == _reason(case)


def _reason(case: Case) -> str:
    return "tool_calls" if case.calls and case.whole else "stop"


def test_chat_completions_that_fail() -> None:
    data = broken(CHAT, {"messages": MESSAGE, "stream": True}, CRASH)
    for given in transports(CHAT, data):
        stream = openai_client(given).chat.completions.create(
            model="m", messages=MESSAGE, stream=True
        )
        seen: list[str] = []
        with pytest.raises(openai.APIError) as caught:
            seen.extend(chunk.choices[0].delta.content or "" for chunk in stream)
        assert "".join(seen) == "so far"
        assert caught.value.message == CRASH.message


@TEXT
def test_completions(case: Case) -> None:
    data = rendered(COMPLETIONS, {"prompt": "Hi", "stream": True}, case)
    for given in transports(COMPLETIONS, data):
        chunks = openai_client(given).completions.create(model="m", prompt="Hi", stream=True)
        assert "".join(chunk.choices[0].text for chunk in chunks) == case.text


@ALL
def test_responses(case: Case) -> None:
    data = rendered(RESPONSES, {"input": "Hi", "stream": True}, case)
    for given in transports(RESPONSES, data):
        with openai_client(given).responses.stream(model="m", input="Hi") as stream:
            events = list(stream)
            response = stream.get_final_response()
        numbers = [event.sequence_number for event in events]
        assert numbers == list(range(len(events)))
        assert response.output_text == case.text
        calls = [one for one in response.output if one.type == "function_call"]
        assert [(call.name, call.arguments) for call in calls] == list(case.calls)
        deltas = [one for one in events if one.type == "response.function_call_arguments.delta"]
        assert "".join(one.delta for one in deltas) == "".join(text for _, text in case.calls)


def test_responses_that_fail() -> None:
    data = broken(RESPONSES, {"input": "Hi", "stream": True}, CRASH)
    for given in transports(RESPONSES, data):
        stream = openai_client(given).responses.create(model="m", input="Hi", stream=True)
        last = list(stream)[-1]
        assert last.type == "response.failed"
        assert last.response.error is not None
        assert last.response.error.message == CRASH.message


@ALL
def test_messages(case: Case) -> None:
    data = rendered(MESSAGES, {"max_tokens": 9, "messages": MESSAGE, "stream": True}, case)
    for given in transports(MESSAGES, data):
        client = anthropic_client(given)
        pieces: list[str] = []
        with client.messages.stream(model="m", max_tokens=9, messages=MESSAGE) as stream:
            pieces.extend(event.partial_json for event in stream if event.type == "input_json")
            message = stream.get_final_message()
        assert "".join(one.text for one in message.content if one.type == "text") == case.text
        thoughts = [one.thinking for one in message.content if one.type == "thinking"]
        assert "".join(thoughts) == case.reasoning
        calls = [one for one in message.content if one.type == "tool_use"]
        assert [call.name for call in calls] == [name for name, _ in case.calls]
        assert "".join(pieces) == "".join(text for _, text in case.calls)
        if case.whole:
            assert [call.input for call in calls] == [json.loads(text) for _, text in case.calls]
        cut = any(getattr(one, "stop", None) for one in case.events)
        expected = "tool_use" if case.calls else "end_turn"
        assert message.stop_reason == ("stop_sequence" if cut else expected)


def test_messages_that_fail() -> None:
    data = broken(MESSAGES, {"max_tokens": 9, "messages": MESSAGE, "stream": True}, CRASH)
    for given in transports(MESSAGES, data):
        client = anthropic_client(given)
        seen: list[str] = []
        with (
            client.messages.stream(model="m", max_tokens=9, messages=MESSAGE) as stream,
            pytest.raises(anthropic.APIStatusError) as caught,
        ):
            seen.extend(stream.text_stream)
        assert seen == ["so far"]
        body: Any = caught.value.body
        assert body["error"]["message"] == CRASH.message


@ALL
def test_ollamas_chat(case: Case) -> None:
    data = rendered(OLLAMA_CHAT, {"model": "m", "messages": MESSAGE}, case)
    for client in ollama_clients(OLLAMA_CHAT, data):
        parts = list(client.chat("m", messages=MESSAGE, stream=True))
        messages = [part.message for part in parts]
        calls = [call.function for message in messages for call in message.tool_calls or ()]
        assert "".join(message.thinking or "" for message in messages) == case.reasoning
        text = "".join(message.content or "" for message in messages)
        if case.whole:
            assert text == case.text
            assert [(call.name, call.arguments) for call in calls] == [
                (name, json.loads(text)) for name, text in case.calls
            ]
        else:
            # Arguments are objects there; those that break off can only be shown as text.
            assert not calls
            assert case.calls[-1][1] in text
        assert [part.done for part in parts] == [False] * (len(parts) - 1) + [True]


@TEXT
def test_ollamas_generate(case: Case) -> None:
    data = rendered(OLLAMA_GENERATE, {"model": "m", "prompt": "Hi"}, case)
    for client in ollama_clients(OLLAMA_GENERATE, data):
        parts = client.generate("m", "Hi", stream=True)
        assert "".join(part.response or "" for part in parts) == case.text


@pytest.mark.parametrize(
    ("codec", "body"),
    [
        (OLLAMA_CHAT, {"model": "m", "messages": MESSAGE}),
        (OLLAMA_GENERATE, {"model": "m", "prompt": "Hi"}),
    ],
)
def test_ollama_that_fails(codec: Codec, body: Json) -> None:
    for client in ollama_clients(codec, broken(codec, body, CRASH)):
        call: Any = client.chat if "messages" in body else client.generate
        with pytest.raises(ollama.ResponseError) as caught:
            list(call(**body, stream=True))
        assert caught.value.error == CRASH.message


@TEXT
def test_tgi(case: Case, hub: Any) -> None:
    data = rendered(TGI_STREAM, {"inputs": "Hi", "parameters": {"details": True}}, case)
    for given in transports(TGI_STREAM, data):
        client = hub(given)
        found = client.text_generation("Hi", stream=True, details=True, max_new_tokens=99)
        parts = list(found)
        assert parts[-1].generated_text == case.text


def test_tgi_that_fails(hub: Any) -> None:
    data = broken(TGI_STREAM, {"inputs": "Hi"}, CRASH)
    for given in transports(TGI_STREAM, data):
        client = hub(given)
        stream = client.text_generation("Hi", stream=True, max_new_tokens=9)
        seen: list[str] = []
        with pytest.raises(huggingface_hub.errors.TextGenerationError) as caught:
            seen.extend(stream)
        assert seen == ["so far"]
        assert CRASH.message in str(caught.value)


@ALL
def test_chat_completions_of_the_hubs_client(case: Case, hub: Any) -> None:
    data = rendered(CHAT, {"messages": MESSAGE, "stream": True}, case)
    for given in transports(CHAT, data):
        client = hub(given)
        text = ""
        calls: dict[int, tuple[str, str]] = {}
        for chunk in client.chat_completion(MESSAGE, stream=True):
            delta = chunk.choices[0].delta
            text += delta.content or ""
            for call in delta.tool_calls or ():
                name, arguments = calls.get(call.index, ("", ""))
                more = call.function.arguments or ""
                calls[call.index] = (call.function.name or name, arguments + more)
        assert (text, tuple(calls.values())) == (case.text, case.calls)


def test_the_whole_answer_of_tgi(hub: Any) -> None:
    data = rendered(TGI_ROOT, {"inputs": "Hi", "parameters": {"return_full_text": False}}, TEXTS[0])
    given = transport(TGI_ROOT, [data], stream=False)
    assert hub(given).text_generation("Hi") == TEXTS[0].text
