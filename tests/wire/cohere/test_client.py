"""Chat, after docs.cohere.com/v2/reference/chat-stream, .../docs/streaming and
.../docs/tool-use-streaming (read 2026-11-21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.speaking import (
    JSON,
    WEATHER,
    asking,
    body,
    called,
    chat,
    fails,
    head,
    raw,
    read,
    terms,
)
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.core.types import (
    Grammar,
    Message,
    SamplingParams,
    TextInput,
    TextPart,
    Thought,
    Usage,
)
from trunkline.wire.cohere.client import CHAT


def _events(*events: Any) -> bytes:
    return b"".join(
        b"event: %b\ndata: %b\n\n" % (one["type"].encode(), json.dumps(one).encode())
        for one in events
    )


def _message(kind: str, index: int | None, message: Any) -> dict[str, Any]:
    where = {} if index is None else {"index": index}
    return {"type": kind, **where, "delta": {"message": message}}


START = _message(
    "message-start",
    None,
    {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": [], "citations": []},
) | {"id": "29f14a5a"}


def _end(reason: str, **more: Any) -> dict[str, Any]:
    usage = {
        "billed_units": {"input_tokens": 17, "output_tokens": 12},
        "tokens": {"input_tokens": 82, "output_tokens": 14},
        "cached_tokens": 64,
    }
    return {"type": "message-end", "delta": {"finish_reason": reason, "usage": usage} | more}


def _call(identifier: str, name: str, *pieces: str) -> list[dict[str, Any]]:
    function = {"name": name, "arguments": ""}
    start = {"tool_calls": {"id": identifier, "type": "function", "function": function}}
    return [
        _message("tool-call-start", 0, start),
        *(
            _message("tool-call-delta", 0, {"tool_calls": {"function": {"arguments": piece}}})
            for piece in pieces
        ),
        {"type": "tool-call-end", "index": 0},
    ]


def test_text_with_citations() -> None:
    data = _events(
        START,
        _message("content-start", 0, {"content": {"type": "text", "text": ""}}),
        _message("content-delta", 0, {"content": {"text": "LLMs stand "}}),
        _message("content-delta", 0, {"content": {"text": "for… 🌍"}}),
        {"type": "content-end", "index": 0},
        _message("citation-start", 0, {"citations": {"start": 0, "end": 4, "text": "LLMs"}}),
        {"type": "citation-end", "index": 0},
        _end("COMPLETE"),
    )
    said = read(CHAT, data + b"data: [DONE]\n\n")
    assert (said.text, said.finish) == ("LLMs stand for… 🌍", "stop")
    assert said.usage == Usage(82, 14, 64)


def test_a_plan_and_two_calls_the_second_without_arguments() -> None:
    data = _events(
        START,
        _message("tool-plan-delta", None, {"tool_plan": "I will "}),
        _message("tool-plan-delta", None, {"tool_plan": "look."}),
        *_call("get_weather_1", "get_weather", '{"location":', ' "Madrid"}'),
        *_call("now_2", "now"),
        _end("TOOL_CALL"),
    )
    said = read(CHAT, data)
    assert said.reasoning == "I will look."
    assert said.calls == [
        ("get_weather_1", "get_weather", '{"location": "Madrid"}'),
        ("now_2", "now", "{}"),
    ]
    assert said.finish == "tool_calls"


def test_calls_in_pieces_that_take_turns() -> None:
    first, piece, *rest, end = _call("a", "get_weather", '{"location":"\\u0', '0fc"}')
    second = [{**one, "index": 1} for one in _call("b", "now", "{}")]
    data = _events(
        START, first, second[0], piece, second[1], *rest, end, second[2], _end("TOOL_CALL")
    )
    said = read(CHAT, data)
    assert said.calls == [("a", "get_weather", '{"location":"\\u00fc"}'), ("b", "now", "{}")]
    assert said.finish == "tool_calls"


def test_thinking_then_text() -> None:
    data = _events(
        START,
        _message("content-start", 0, {"content": {"type": "thinking", "thinking": ""}}),
        _message("content-delta", 0, {"content": {"thinking": "Hm."}}),
        {"type": "content-end", "index": 0},
        _message("content-start", 1, {"content": {"type": "text", "text": ""}}),
        _message("content-delta", 1, {"content": {"text": "Yes."}}),
        {"type": "content-end", "index": 1},
        _end("MAX_TOKENS"),
    )
    said = read(CHAT, data)
    assert (said.reasoning, said.text, said.finish) == ("Hm.", "Yes.", "length")


def test_a_whole_answer() -> None:
    answer = {
        "id": "c14c80c3",
        "finish_reason": "TOOL_CALL",
        "message": {
            "role": "assistant",
            "tool_plan": "I look.",
            "tool_calls": [
                {
                    "id": "get_weather_1",
                    "type": "function",
                    "function": {"name": "get_weather", "arguments": '{"location":"Toronto"}'},
                }
            ],
            "content": [
                {"type": "thinking", "thinking": " Indeed."},
                {"type": "text", "text": "One moment."},
            ],
        },
        "usage": {"billed_units": {"input_tokens": 5, "output_tokens": 4}},
    }
    said = read(CHAT, json.dumps(answer).encode(), JSON)
    assert (said.reasoning, said.text) == ("I look. Indeed.", "One moment.")
    assert said.calls == [("get_weather_1", "get_weather", '{"location":"Toronto"}')]
    assert (said.finish, said.usage) == ("tool_calls", Usage(5, 4))


@pytest.mark.parametrize(
    ("events", "kind"),
    [
        ((_end("ERROR", error="it broke"),), UpstreamFailed),
        ((_end("TIMEOUT"),), UpstreamTimeout),
        ((_end("ERROR_TOXIC"),), ContentRefused),
        (
            (_message("content-delta", 0, {"content": {"thinking": "x"}}), _end("ERROR_TOXIC")),
            ContentRefused,
        ),
        ((START,), UpstreamFailed),
    ],
)
def test_streams_that_fail(events: Any, kind: type[TrunklineError]) -> None:
    assert type(fails(CHAT.reader(asking(), terms(), head()), _events(*events))) is kind


@pytest.mark.parametrize(
    ("status", "words", "kind"),
    [
        (400, "invalid request: message must be at least 1 token long", InvalidRequest),
        (400, "too many tokens: size limit exceeded by 30 tokens.", ContextOverflow),
        (401, "invalid api token", UpstreamRefused),
        (404, "model 'x' not found", UpstreamRefused),
        (429, "You are using a Trial key", RateLimited),
        (498, "denied", ContentRefused),
        (500, "internal server error", UpstreamFailed),
    ],
)
def test_errors(status: int, words: str, kind: type[TrunklineError]) -> None:
    data = json.dumps({"id": "1", "message": words}).encode()
    assert type(CHAT.error(head(JSON, status), data)) is kind
    assert CHAT.error(head("text/html", 502), b"<html>").kind == "upstream_failed"


def test_what_is_sent() -> None:
    request = asking(
        chat(
            Message("developer", "Be brief."),
            "Weather?",
            Message(
                "assistant",
                None,
                tool_calls=called().tool_calls,
                reasoning_content="I look.",
            ),
            Message("tool", "21 degrees", tool_call_id="call_1"),
            tools=(WEATHER, {"type": "function", "function": {"name": "now"}}),
            template_kwargs={"enable_thinking": False},
        ),
        sampling=SamplingParams(temperature=0.3, top_k=3, top_p=0.5, max_tokens=9, seed=4),
        stop=("END",),
        tool_choice="named",
        tool_name="now",
        grammar=Grammar("json_schema", '{"type":"object"}'),
    )
    outgoing = CHAT.encode(request, terms(model="command-a-03-2025"))
    assert outgoing.path == "/v2/chat"
    empty = {"type": "object", "properties": {}}
    assert body(outgoing) == {
        "model": "command-a-03-2025",
        "stream": True,
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Weather?"},
            {
                "role": "assistant",
                "tool_plan": "I look.",
                "tool_calls": list(called().tool_calls or ()),
            },
            {"role": "tool", "tool_call_id": "call_1", "content": "21 degrees"},
        ],
        "temperature": 0.3,
        "k": 3,
        "p": 0.5,
        "max_tokens": 9,
        "seed": 4,
        "stop_sequences": ["END"],
        "tools": [{"type": "function", "function": {"name": "now", "parameters": empty}}],
        "tool_choice": "REQUIRED",
        "response_format": {"type": "json_object", "json_schema": {"type": "object"}},
        "thinking": {"type": "disabled"},
    }


def test_a_policys_end_of_an_answer_leaves_what_came() -> None:
    begun = _message("content-delta", 0, {"content": {"text": "Well"}})
    said = read(CHAT, _events(begun, _end("ERROR_TOXIC")))
    assert (said.text, said.finish, said.usage) == ("Well", "content_filter", Usage(82, 14, 64))
    message = {"content": [{"type": "text", "text": "Well"}]}
    whole = {"message": message, "finish_reason": "ERROR_TOXIC"}
    said = read(CHAT, json.dumps(whole).encode(), JSON)
    assert (said.text, said.finish) == ("Well", "content_filter")


def test_blocks_stay_apart() -> None:
    blocks = (TextPart("One."), TextPart(""), TextPart("Two."))
    conversation = chat(
        Message("system", blocks),
        Message("user", blocks),
        Message("assistant", blocks, reasoning_content="Hm."),
        Message("user", (TextPart("One."),)),
        called(),
        Message("tool", blocks, tool_call_id="call_1"),
    )
    sent = body(CHAT.encode(asking(conversation), terms()))["messages"]
    texts = [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]
    assert [sent[index]["content"] for index in (0, 1, 5)] == [texts, texts, texts]
    assert sent[2]["content"] == [{"type": "thinking", "thinking": "Hm."}, *texts]
    assert sent[3]["content"] == "One."


def test_values_that_are_given_arrive_though_neutral() -> None:
    explicit = ("temperature", "top_p", "top_k", "presence_penalty", "repetition_penalty")
    outgoing = CHAT.encode(asking(explicit=explicit), terms("repetition_penalty"))
    sent = body(outgoing)
    # The most that `p` may be there.
    assert (sent["temperature"], sent["p"], sent["k"], sent["presence_penalty"]) == (
        1.0,
        0.99,
        0,
        0,
    )
    assert outgoing.dropped == ()
    assert not {"temperature", "p", "k"} & body(CHAT.encode(asking(), terms())).keys()


@pytest.mark.parametrize(
    ("variables", "expected", "dropped"),
    [
        ({}, None, ()),
        ({"enable_thinking": True}, {"type": "enabled"}, ()),
        ({"reasoning_effort": "none"}, {"type": "disabled"}, ()),
        ({"reasoning_effort": "minimal"}, {"type": "enabled", "token_budget": 1024}, ()),
        ({"reasoning_effort": "medium"}, {"type": "enabled", "token_budget": 8192}, ()),
        ({"reasoning_effort": "high"}, {"type": "enabled"}, ()),
        ({"reasoning_effort": "xhigh"}, {"type": "enabled"}, ()),
        ({"reasoning_effort": "vast"}, {"type": "enabled"}, ("reasoning_effort",)),
        ({"thinking_budget": 2000}, {"type": "enabled", "token_budget": 2000}, ()),
        ({"thinking_budget": 0}, {"type": "disabled"}, ()),
    ],
)
def test_thinking(variables: dict[str, Any], expected: Any, dropped: tuple[str, ...]) -> None:
    outgoing = CHAT.encode(asking(chat("x", template_kwargs=variables)), terms())
    assert (body(outgoing).get("thinking"), outgoing.dropped) == (expected, dropped)


def test_strict_tools() -> None:
    function: Any = WEATHER["function"]
    strict = {"type": "function", "function": {**function, "strict": True}}
    bare = {"type": "function", "function": {"name": "now", "strict": True}}
    for tools, sent, dropped in (
        ((strict, strict), True, ()),
        ((WEATHER,), None, ()),
        # All or none; and each has to require something.
        ((strict, WEATHER), None, ("tools.strict",)),
        ((strict, bare), None, ("tools.strict",)),
    ):
        outgoing = CHAT.encode(asking(chat("x", tools=tools)), terms())
        assert (body(outgoing).get("strict_tools"), outgoing.dropped) == (sent, dropped)


def test_what_is_left_out_is_told() -> None:
    conversation = chat(
        Message("user", "Hi", name="ada"),
        Message("assistant", "Hello", thoughts=(Thought("", sealed="b2s="),)),
        "x",
    )
    outgoing = CHAT.encode(asking(conversation, notes={"metadata": {"a": "b"}}), terms())
    assert outgoing.dropped == ("messages.name", "reasoning_content", "metadata")


def test_a_turn_whose_call_has_no_arguments() -> None:
    result = Message("tool", "21", tool_call_id="call_1", name="get_weather")
    conversation = chat("x", called(arguments=""), result, tools=(WEATHER,))
    outgoing = CHAT.encode(asking(conversation), terms())
    call = body(outgoing)["messages"][1]["tool_calls"][0]
    assert call["function"] == {"name": "get_weather", "arguments": "{}"}
    assert outgoing.dropped == ()


def test_what_it_has_not() -> None:
    with pytest.raises(Unsupported, match="logprobs"):
        CHAT.encode(asking(sampling=SamplingParams(logprobs=2)), terms())
    with pytest.raises(Unsupported, match="conversations"):
        CHAT.encode(asking(TextInput("x")), terms())
    with pytest.raises(Unsupported):
        CHAT.patch(raw("cohere.chat", {}), terms())
    assert body(CHAT.encode(asking(sampling=SamplingParams(logprobs=0)), terms()))["logprobs"]
