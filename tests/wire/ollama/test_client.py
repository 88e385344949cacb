"""Ollama spoken to: its published examples, and our own server's answers read back."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.ollama.support import GOLDEN, answer
from tests.wire.speaking import (
    JSON,
    WEATHER,
    asking,
    body,
    called,
    chat,
    fails,
    head,
    passed,
    raw,
    read,
    terms,
)
from trunkline.core.errors import (
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
)
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Grammar,
    Message,
    RowFinished,
    SamplingParams,
    TextInput,
    TextPart,
    Thought,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.ollama.chat import decode_chat
from trunkline.wire.ollama.chat_answer import ChatStream, ChatWhole
from trunkline.wire.ollama.client import CHAT, GENERATE
from trunkline.wire.ollama.generate_answer import GenerateStream
from trunkline.wire.speakers import SPEAKERS

LINES = "application/x-ndjson"


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def test_published_streams() -> None:
    said = read(CHAT, golden("chat_stream.jsonl"), LINES)
    assert (said.text, said.finish, said.usage) == ("The", "stop", Usage(26, 282))
    said = read(CHAT, golden("chat_tools_stream.jsonl"), LINES)
    (call,) = said.calls
    assert call[0]
    assert (call[1], json.loads(call[2])) == ("get_weather", {"city": "Tokyo"})
    assert said.finish == "tool_calls"
    said = read(GENERATE, golden("generate_stream.jsonl"), LINES)
    assert (said.text, said.usage) == ("The", Usage(26, 259))


def test_published_whole_answers() -> None:
    said = read(CHAT, golden("chat_tools_response.json"), JSON)
    assert (said.calls[0][1], said.usage) == ("get_weather", Usage(169, 18))
    said = read(GENERATE, golden("generate_response.json"), JSON)
    assert said.text.startswith("The sky is blue")


@pytest.mark.parametrize("renderer", [ChatStream, ChatWhole])
def test_what_our_server_says_is_what_is_heard(renderer: Any) -> None:
    token = TokenLogprob("Hé", "Hé".encode(), 0, -0.5, (("Hé", "Hé".encode(), 0, -0.5),))
    events: tuple[Event, ...] = (
        Delta("r", 0, "", reasoning="Think: "),
        Delta("r", 0, "Hé", (), (token,)),
        Delta("r", 0, " 🌍"),
        Delta("r", 0, "", tool_calls=(ToolCallDelta(0, "a", "get_weather", '{"city":'),)),
        Delta("r", 0, "", tool_calls=(ToolCallDelta(0, None, None, '"Paris"}'),)),
        Delta("r", 0, "", tool_calls=(ToolCallDelta(1, "b", "now", "{}"),)),
        RowFinished("r", 0, "tool_calls"),
        Completed("r", Usage(7, 3), Timing(0.25, 0.5, 1.0)),
    )
    rendering = renderer(answer())
    data = rendering.take(0, events) + rendering.finish(Usage(7, 3), Timing(0.25, 0.5, 1.0))
    said = read(CHAT, data, LINES if renderer is ChatStream else JSON)
    assert (said.reasoning, said.text, said.finish) == ("Think: ", "Hé 🌍", "tool_calls")
    assert said.calls == [("a", "get_weather", '{"city":"Paris"}'), ("b", "now", "{}")]
    assert said.usage == Usage(7, 3)
    assert said.logprobs == [("Hé", -0.5)]


def test_where_the_time_went() -> None:
    rendering = GenerateStream(answer())
    data = rendering.finish(Usage(1, 2), Timing(0.25, 0.5, 1.0))
    reader = GENERATE.reader(asking(TextInput("x")), terms(), head(LINES))
    *_, last = [*reader.feed(data), *reader.end()]
    assert last == Completed("r", Usage(1, 2), Timing(0.25, 0.5, 1.0))


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (b'{"error":"model runner has unexpectedly stopped"}\n', UpstreamFailed),
        (b'{"error":"the prompt is longer than the context length"}\n', ContextOverflow),
        (b'{"message":{"content":"cut"},"done":false}\n', UpstreamFailed),
        (b"<html>\n", UpstreamFailed),
        (b"", UpstreamFailed),
    ],
)
@pytest.mark.parametrize("relays", [True, False])
def test_streams_that_fail(line: bytes, kind: type[TrunklineError], relays: bool) -> None:
    request = raw("ollama.chat", {"model": "alias"})
    reading: Any = CHAT.relay(request, terms(), head(LINES))
    if not relays:
        reading = CHAT.reader(asking(), terms(), head(LINES))
    assert type(fails(reading, line)) is kind


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "invalid options", InvalidRequest),
        (401, "unauthorized", UpstreamRefused),
        (404, "model 'x' not found", UpstreamRefused),
        (500, "broke", UpstreamFailed),
        (503, "server busy, please try again.  maximum pending requests exceeded", RateLimited),
        (503, "shutting down", UpstreamFailed),
    ],
)
def test_errors(status: int, words: str, kind: type[TrunklineError]) -> None:
    error = CHAT.error(head(JSON, status), json.dumps({"error": words}).encode())
    assert type(error) is kind
    assert type(CHAT.error(head("text/plain", 502), b"Bad Gateway")) is UpstreamFailed


def test_what_is_sent() -> None:
    request = asking(
        chat(
            Message("developer", "Be brief."),
            "Weather?",
            called(),
            Message("tool", "21 degrees", tool_call_id="call_1"),
            tools=(WEATHER,),
            template_kwargs={"enable_thinking": True, "reasoning_effort": "low"},
        ),
        sampling=SamplingParams(temperature=0.0, top_k=3, seed=2**31, max_tokens=9, logprobs=2),
        stop=("END",),
        grammar=Grammar("json_schema", '{"type":"object"}'),
    )
    outgoing = CHAT.encode(request, terms(model="llama3.2"))
    assert outgoing.path == "/api/chat"
    function = {"name": "get_weather", "arguments": {"city": "Paris"}}
    assert body(outgoing) == {
        "model": "llama3.2",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "content": "",
                "tool_calls": [{"id": "call_1", "function": function}],
            },
            {
                "role": "tool",
                "content": "21 degrees",
                "tool_call_id": "call_1",
                "tool_name": "get_weather",
            },
        ],
        "tools": [WEATHER],
        "stream": True,
        "format": {"type": "object"},
        "think": "low",
        "logprobs": True,
        "top_logprobs": 2,
        # Neutral, not the server's defaults.
        "options": {
            "temperature": 0.0,
            "top_k": 3,
            "top_p": 1.0,
            "repeat_penalty": 1.0,
            "num_predict": 9,
            "seed": 0,
            "stop": ["END"],
        },
    }


@pytest.mark.parametrize(
    ("variables", "think", "dropped"),
    [
        ({}, None, ()),
        ({"enable_thinking": True}, True, ()),
        ({"enable_thinking": False}, False, ()),
        ({"reasoning_effort": "none"}, False, ()),
        ({"reasoning_effort": "minimal"}, "low", ()),
        ({"reasoning_effort": "xhigh"}, "high", ()),
        ({"reasoning_effort": "max"}, "max", ()),
        ({"reasoning_effort": "vast"}, True, ("reasoning_effort",)),
        ({"enable_thinking": True, "thinking_budget": 2000}, True, ("thinking_budget",)),
        ({"thinking_budget": 0}, False, ()),
    ],
)
def test_thinking(variables: dict[str, Any], think: Any, dropped: tuple[str, ...]) -> None:
    outgoing = CHAT.encode(asking(chat("x", template_kwargs=variables)), terms())
    assert (body(outgoing).get("think"), outgoing.dropped) == (think, dropped)


def test_values_that_are_given_arrive_though_neutral() -> None:
    explicit = ("temperature", "top_k", "min_p", "typical_p", "presence_penalty")
    options = body(CHAT.encode(asking(explicit=explicit), terms()))["options"]
    expected = {"temperature": 1.0, "top_k": 0, "min_p": 0.0, "typical_p": 1.0}
    assert options.items() >= expected.items()
    assert options["presence_penalty"] == 0.0
    options = body(CHAT.encode(asking(sampling=SamplingParams(top_k=-1)), terms()))["options"]
    assert options["top_k"] == 0


def test_what_is_left_out_is_told() -> None:
    function: Any = WEATHER["function"]
    conversation = chat(
        Message("user", (TextPart("Hi"), TextPart("there")), name="ada"),
        Message("assistant", "Hello", thoughts=(Thought("", sealed="b2s="),)),
        "x",
        tools=({"type": "function", "function": {**function, "strict": True}},),
    )
    notes = {"options.num_ctx": 4096, "metadata": {"a": "b"}}
    outgoing = CHAT.encode(asking(conversation, notes=notes), terms())
    told = ("messages.name", "reasoning_content", "tools.strict", "metadata")
    assert outgoing.dropped == told
    sent = body(outgoing)
    assert sent["messages"][0]["content"] == "Hi\nthere"
    assert sent["options"]["num_ctx"] == 4096


# What of Ollama's defaults nobody asked for; in every spelling.
SAMPLING = ("temperature", "top_k", "topK", "k", "top_p", "topP", "p", "min_p", "repeat_penalty")
HOSTED = (
    "openai.chat",
    "openai.responses",
    "anthropic.messages",
    "gemini.generate",
    "cohere.chat",
    "bedrock.converse",
)


def _sampling(operation: str, **options: Any) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What of a client of Ollama's with `options` arrives at a provider."""
    asked = {"model": "m", "messages": [{"role": "user", "content": "x"}], "options": options}
    (request,) = decode_chat(json.dumps(asked).encode()).requests("r", "m", "")
    few = terms("min_p", "typical_p", "repetition_penalty", "top_k", hosted=True)
    outgoing = SPEAKERS[operation].encode(request, few)
    sent = body(outgoing)
    for nested in ("generationConfig", "inferenceConfig"):
        sent |= sent.get(nested, {})
    return {name: sent[name] for name in SAMPLING if name in sent}, outgoing.dropped


@pytest.mark.parametrize("operation", HOSTED)
def test_a_provider_is_not_sent_what_only_ollama_defaults_to(operation: str) -> None:
    assert _sampling(operation) == ({}, ())
    assert _sampling(operation, temperature=0.5) == ({"temperature": 0.5}, ())
    # What is neutral needs no field that a provider has not.
    assert _sampling(operation, repeat_penalty=1.0, min_p=0, top_k=0) == ({}, ())
    # What is not given but matters where a model is loaded is told.
    assert _sampling(operation, num_ctx=4096) == ({}, ("options.num_ctx",))
    with pytest.raises(Unsupported, match="repetition_penalty"):
        _sampling(operation, repeat_penalty=1.1)


def test_a_raw_prompt() -> None:
    request = asking(TextInput("Once"), grammar=Grammar("json_object"))
    sent = body(GENERATE.encode(request, terms("stream")))
    assert (sent["prompt"], sent["raw"], sent["stream"]) == ("Once", True, False)
    assert (sent["format"], sent["options"]["num_predict"]) == ("json", -1)


def test_tools_that_must_not_be_called_are_not_shown() -> None:
    request = asking(chat("x", tools=(WEATHER,)), tool_choice="none")
    assert "tools" not in body(CHAT.encode(request, terms()))


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="tool_choice"):
        CHAT.encode(asking(chat("x", tools=(WEATHER,)), tool_choice="required"), terms())
    with pytest.raises(Unsupported, match="grammar"):
        CHAT.encode(asking(grammar=Grammar("regex", "a")), terms())
    with pytest.raises(Unsupported, match="conversations"):
        GENERATE.encode(asking(), terms())


def test_a_body_is_passed_on_but_for_the_models_name() -> None:
    sent = {"model": "alias", "messages": [], "options": {"num_ctx": 4096}, "unknown": [1]}
    request = raw("ollama.chat", sent)
    assert body(CHAT.patch(request, terms(model="llama3.2"))) == sent | {"model": "llama3.2"}
    assert GENERATE.patch(request, terms()).path == "/api/generate"


def test_an_answer_is_passed_on_but_for_the_models_name() -> None:
    request = raw("ollama.chat", {"model": "alias"}, asked_model="alias")
    # Only the field is the model's name, not what the text says.
    lines = (
        b'{"model":"m","message":{"role":"assistant","content":"\\"model\\":\\"m\\" 1"},'
        b'"done":false}\n'
        b'{"model":"m","message":{"role":"assistant","content":""},"done":true,'
        b'"prompt_eval_count":5,"eval_count":2}\n'
    )
    data, usage = passed(CHAT, request, lines, LINES)
    assert data == lines.replace(b'{"model":"m"', b'{"model":"alias"')
    assert usage == Usage(5, 2)


def test_published_answers_pass_byte_for_byte_under_their_own_name() -> None:
    request = raw("ollama.chat", {"model": "x"}, asked_model="m")
    for name in ("chat_stream.jsonl", "chat_tools_stream.jsonl"):
        assert passed(CHAT, request, golden(name), LINES)[0] == golden(name)
    data, usage = passed(CHAT, request, golden("chat_response.json"), JSON)
    assert (data, usage.completion_tokens) == (golden("chat_response.json"), 298)
