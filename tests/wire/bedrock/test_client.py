"""Converse, after docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
.../userguide/tool-use-inference-call.html (read 2026-11-21)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.upstreams.eventstream import exception, frame
from tests.wire.speaking import (
    JSON,
    WEATHER,
    asking,
    body,
    called,
    chat,
    fails,
    head,
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
from trunkline.core.types import Delta, Grammar, Message, SamplingParams, TextInput, Thought, Usage
from trunkline.wire.bedrock.client import CONVERSE
from trunkline.wire.bedrock.turns import tool_use_id

STREAM = "application/vnd.amazon.eventstream"
METADATA = frame(
    "metadata",
    {
        "metrics": {"latencyMs": 551},
        "usage": {
            "inputTokens": 13,
            "outputTokens": 5,
            "totalTokens": 1534,
            "cacheReadInputTokens": 1504,
            "cacheWriteInputTokens": 12,
        },
    },
)


def _stop(reason: str) -> bytes:
    return frame("messageStop", {"stopReason": reason})


def _delta(delta: Any, index: int = 0) -> bytes:
    return frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcd"})


def test_text_after_thoughts() -> None:
    data = (
        frame("messageStart", {"role": "assistant"})
        + _delta({"reasoningContent": {"text": "Let me "}})
        + _delta({"reasoningContent": {"text": "see."}})
        + _delta({"reasoningContent": {"signature": "c2ln"}})
        + frame("contentBlockStop", {"contentBlockIndex": 0})
        + _delta({"text": "Grüße, "}, 1)
        + _delta({"text": "🌍"}, 1)
        + frame("contentBlockStop", {"contentBlockIndex": 1})
        + _stop("end_turn")
        + METADATA
    )
    said = read(CONVERSE, data, STREAM)
    assert (said.reasoning, said.text, said.finish) == ("Let me see.", "Grüße, 🌍", "stop")
    assert said.usage == Usage(1529, 5, 1504, 0, 12)
    assert _seals(data, STREAM) == [(3, Thought("", signature="c2ln"))]


def _seals(data: bytes, content_type: str) -> list[tuple[int, Thought]]:
    """Thoughts that were sealed, and how many events there are before each one's end."""
    reader = CONVERSE.reader(asking(), terms(), head(content_type))
    events = [*reader.feed(data), *reader.end()]
    return [
        (at + 1, event.seal)
        for at, event in enumerate(events)
        if isinstance(event, Delta) and event.seal is not None
    ]


def test_thoughts_that_nobody_may_read() -> None:
    data = (
        _delta({"reasoningContent": {"redactedContent": "c2VjcmV0"}})
        + frame("contentBlockStop", {"contentBlockIndex": 0})
        + _delta({"reasoningContent": {"text": "Hm."}}, 1)
        + _delta({"reasoningContent": {"signature": "YQ"}}, 1)
        + _delta({"reasoningContent": {"signature": "=="}}, 1)
        + frame("contentBlockStop", {"contentBlockIndex": 1})
        + _use(2, "t", "now")
        + frame("contentBlockStop", {"contentBlockIndex": 2})
        + _stop("tool_use")
        + METADATA
    )
    sealed = Thought("", sealed="c2VjcmV0")
    assert _seals(data, STREAM) == [(1, sealed), (3, Thought("", signature="YQ=="))]
    assert read(CONVERSE, data, STREAM).calls == [("t", "now", "{}")]


def test_two_calls_the_second_without_arguments() -> None:
    data = (
        frame("messageStart", {"role": "assistant"})
        + _delta({"text": "I look."})
        + frame("contentBlockStop", {"contentBlockIndex": 0})
        + _use(1, "tooluse_a", "top_song")
        + _delta({"toolUse": {"input": '{"sign":'}}, 1)
        + _delta({"toolUse": {"input": '"WZPZ"}'}}, 1)
        + frame("contentBlockStop", {"contentBlockIndex": 1})
        + _use(2, "tooluse_b", "now")
        + _delta({"toolUse": {"input": ""}}, 2)
        + frame("contentBlockStop", {"contentBlockIndex": 2})
        + _stop("tool_use")
        + METADATA
    )
    said = read(CONVERSE, data, STREAM)
    assert said.calls == [
        ("tooluse_a", "top_song", '{"sign":"WZPZ"}'),
        ("tooluse_b", "now", "{}"),
    ]
    assert (said.text, said.finish) == ("I look.", "tool_calls")


def test_calls_in_pieces_that_take_turns() -> None:
    stops = [frame("contentBlockStop", {"contentBlockIndex": index}) for index in (2, 1)]
    data = (
        frame("messageStart", {"role": "assistant"})
        + _delta({"text": "I look."})
        + frame("contentBlockStop", {"contentBlockIndex": 0})
        + _use(1, "tooluse_a", "top_song")
        + _use(2, "tooluse_b", "now")
        + _delta({"toolUse": {"input": '{"sign":"\\u0'}}, 1)
        + _delta({"toolUse": {"input": "{}"}}, 2)
        + _delta({"toolUse": {"input": '0fc"}'}}, 1)
        + b"".join(stops)
        + _stop("tool_use")
        + METADATA
    )
    said = read(CONVERSE, data, STREAM)
    assert said.calls == [
        ("tooluse_a", "top_song", '{"sign":"\\u00fc"}'),
        ("tooluse_b", "now", "{}"),
    ]
    assert (said.text, said.finish) == ("I look.", "tool_calls")


def _use(index: int, identifier: str, name: str) -> bytes:
    start = {"toolUse": {"toolUseId": identifier, "name": name}}
    return frame("contentBlockStart", {"contentBlockIndex": index, "start": start})


def test_a_whole_answer() -> None:
    answer = {
        "metrics": {"latencyMs": 1},
        "output": {
            "message": {
                "role": "assistant",
                "content": [
                    {"reasoningContent": {"redactedContent": "eA=="}},
                    {"reasoningContent": {"reasoningText": {"text": "Hm.", "signature": "x"}}},
                    {"text": "One moment."},
                    {"toolUse": {"toolUseId": "t1", "name": "top_song", "input": {"sign": "WZPZ"}}},
                ],
            }
        },
        "stopReason": "tool_use",
        "usage": {"inputTokens": 20, "outputTokens": 7, "totalTokens": 27},
    }
    data = json.dumps(answer).encode()
    said = read(CONVERSE, data, JSON)
    assert (said.reasoning, said.text, said.finish) == ("Hm.", "One moment.", "tool_calls")
    seals = [seal for _, seal in _seals(data, JSON)]
    assert seals == [Thought("", sealed="eA=="), Thought("", signature="x")]
    assert said.calls == [("t1", "top_song", '{"sign": "WZPZ"}')]
    assert said.usage == Usage(20, 7)


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
    ],
)
def test_how_answers_end(reason: str, finish: str) -> None:
    assert read(CONVERSE, _delta({"text": "x"}) + _stop(reason) + METADATA, STREAM).finish == finish


@pytest.mark.parametrize("reason", ["guardrail_intervened", "content_filtered"])
def test_what_a_policy_ends_stands(reason: str) -> None:
    said = read(CONVERSE, _delta({"text": "Blocked, sorry."}) + _stop(reason) + METADATA, STREAM)
    assert (said.text, said.finish) == ("Blocked, sorry.", "content_filter")
    assert said.usage.completion_tokens == 5
    message = {"role": "assistant", "content": [{"text": "Blocked, sorry."}]}
    usage = {"inputTokens": 3, "outputTokens": 2, "totalTokens": 5}
    answer = {"output": {"message": message}, "stopReason": reason, "usage": usage}
    whole = read(CONVERSE, json.dumps(answer).encode(), JSON)
    assert (whole.text, whole.finish) == ("Blocked, sorry.", "content_filter")
    assert whole.usage == Usage(3, 2)


def test_which_stop_sequence_it_was() -> None:
    text = _delta({"text": "x"})
    told = {"stopReason": "stop_sequence", "additionalModelResponseFields": {"stop_sequence": "B"}}
    two = asking(stop=("A", "B"))
    assert read(CONVERSE, text + frame("messageStop", told) + METADATA, STREAM, two).stop == "B"
    assert read(CONVERSE, text + _stop("stop_sequence") + METADATA, STREAM, two).stop is None
    one = asking(stop=("A",), include_stop=True)
    said = read(CONVERSE, text + _stop("stop_sequence") + METADATA, STREAM, one)
    assert (said.text, said.stop, said.finish) == ("xA", "A", "stop")
    assert read(CONVERSE, text + _stop("end_turn") + METADATA, STREAM, one).stop is None
    answer = {"output": {"message": {"role": "assistant", "content": [{"text": "x"}]}}} | told
    assert read(CONVERSE, json.dumps(answer).encode(), JSON, two).stop == "B"


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (_stop("guardrail_intervened"), ContentRefused),
        (_stop("content_filtered"), ContentRefused),
        (_delta({"reasoningContent": {"text": "x"}}) + _stop("content_filtered"), ContentRefused),
        (_stop("malformed_tool_use"), UpstreamFailed),
        (exception("throttlingException", "Too many tokens, please wait."), RateLimited),
        (exception("modelStreamErrorException", "broke"), UpstreamFailed),
        (exception("internalServerException", "oops"), UpstreamFailed),
        (exception("serviceUnavailableException", "later"), UpstreamFailed),
        (exception("validationException", "Input is too long."), ContextOverflow),
        (exception("validationException", "wrong"), InvalidRequest),
        (_delta({"text": "x"}), UpstreamFailed),
        (b"<html>", UpstreamFailed),
    ],
)
def test_streams_that_fail(data: bytes, kind: type[TrunklineError]) -> None:
    assert type(fails(CONVERSE.reader(asking(), terms(), head(STREAM)), data)) is kind


@pytest.mark.parametrize(
    ("status", "kind", "words", "expected"),
    [
        (429, "ThrottlingException", "Rate exceeded", RateLimited),
        (429, "ModelNotReadyException", "loading", RateLimited),
        (400, "ServiceQuotaExceededException", "quota", RateLimited),
        (403, "AccessDeniedException", "no access", UpstreamRefused),
        (403, "UnrecognizedClientException", "bad token", UpstreamRefused),
        (400, "ValidationException", "prompt is too long: 9 tokens > 8 maximum", ContextOverflow),
        (
            400,
            "ValidationException:http://internal.amazon.com/coral/com.amazon.coral.validate/",
            "The provided model identifier is invalid.",
            UpstreamRefused,
        ),
        (404, "ResourceNotFoundException", "no such", UpstreamRefused),
        (408, "ModelTimeoutException", "slow", UpstreamTimeout),
        (424, "ModelErrorException", "broke", UpstreamFailed),
        (500, "InternalServerException", "oops", UpstreamFailed),
    ],
)
def test_errors(status: int, kind: str, words: str, expected: type[TrunklineError]) -> None:
    data = json.dumps({"message": words}).encode()
    error = CONVERSE.error(head(JSON, status, x_amzn_errortype=kind), data)
    assert type(error) is expected


def test_an_error_whose_type_is_in_its_body() -> None:
    data = b'{"__type":"com.amazon.coral.service#ThrottlingException","message":"Rate exceeded"}'
    error = CONVERSE.error(head(JSON, 429, retry_after="3"), data)
    assert isinstance(error, RateLimited)
    assert error.retry_after == 3


def test_a_conversation_with_tools() -> None:
    conversation = chat(
        Message("system", "Be brief."),
        "Weather?",
        called("call_1"),
        Message("tool", "21 degrees", tool_call_id="call_1"),
        Message("tool", "", tool_call_id="call_2"),
        "And now?",
        tools=(WEATHER,),
    )
    request = asking(
        conversation,
        sampling=SamplingParams(temperature=0.5, top_p=0.9, max_tokens=100),
        stop=("END",),
        tool_choice="named",
        tool_name="get_weather",
    )
    outgoing = CONVERSE.encode(request, terms(model="us.amazon.nova-micro-v1:0"))
    assert outgoing.path == "/model/us.amazon.nova-micro-v1%3A0/converse-stream"
    results = [
        {"toolResult": {"toolUseId": "call_1", "content": [{"text": "21 degrees"}]}},
        {"toolResult": {"toolUseId": "call_2", "content": [{"text": "(empty)"}]}},
        {"text": "And now?"},
    ]
    use = {"toolUseId": "call_1", "name": "get_weather", "input": {"city": "Paris"}}
    function = WEATHER["function"]
    assert isinstance(function, dict)
    assert body(outgoing) == {
        "system": [{"text": "Be brief."}],
        "messages": [
            {"role": "user", "content": [{"text": "Weather?"}]},
            {"role": "assistant", "content": [{"toolUse": use}]},
            {"role": "user", "content": results},
        ],
        "inferenceConfig": {
            "temperature": 0.5,
            "topP": 0.9,
            "maxTokens": 100,
            "stopSequences": ["END"],
        },
        "toolConfig": {
            "tools": [
                {
                    "toolSpec": {
                        "name": "get_weather",
                        "description": "Get the weather in a city",
                        "inputSchema": {"json": function["parameters"]},
                    }
                }
            ],
            "toolChoice": {"tool": {"name": "get_weather"}},
        },
    }


def test_a_schema_and_what_only_claude_has() -> None:
    request = asking(
        chat("x"),
        sampling=SamplingParams(top_k=5, max_tokens=4000),
        grammar=Grammar("json_schema", '{"type":"object"}'),
    )
    sent = body(CONVERSE.encode(request, terms(model="anthropic.claude-sonnet-4-5")))
    text_format = sent["outputConfig"]["textFormat"]
    assert text_format["structure"]["jsonSchema"]["schema"] == '{"type":"object"}'
    assert sent["additionalModelRequestFields"] == {"top_k": 5}


def test_no_tool_may_be_called() -> None:
    request = asking(chat("x", tools=(WEATHER,)), tool_choice="none")
    assert "toolConfig" not in body(CONVERSE.encode(request, terms()))


@pytest.mark.parametrize(
    ("request_", "name"),
    [
        (asking(sampling=SamplingParams(seed=1)), "seed"),
        (asking(sampling=SamplingParams(top_k=1)), "top_k"),
        (asking(sampling=SamplingParams(logprobs=0)), "logprobs"),
        (asking(grammar=Grammar("regex", "a")), "grammar"),
        (asking(n=2), "n"),
        (asking(TextInput("x")), "prompt"),
    ],
)
def test_what_it_has_not(request_: Any, name: str) -> None:
    with pytest.raises(Unsupported) as caught:
        CONVERSE.encode(request_, terms())
    assert caught.value.param == name


def test_ids_that_do_not_fit_there() -> None:
    long = "call_r_0_ts_" + "x" * 200
    assert tool_use_id("tooluse_a-1") == "tooluse_a-1"
    assert tool_use_id(long) == tool_use_id(long)
    assert len(tool_use_id(long)) <= 64
    assert tool_use_id("a b") != tool_use_id("a c")
