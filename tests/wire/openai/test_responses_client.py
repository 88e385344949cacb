"""The Responses API spoken to a server."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
import pydantic
import pytest
from openai.types.responses.response_create_params import (
    ResponseCreateParamsNonStreaming,
    ResponseCreateParamsStreaming,
)

from tests.wire.client_support import ALL, STREAM, WHOLE, Sum, chat, raw, read, relay, terms
from tests.wire.openai.support import GOLDEN, golden
from trunkline.backends.kinds import find_kind
from trunkline.core.errors import (
    ContentRefused,
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
)
from trunkline.core.types import (
    Delta,
    Grammar,
    Json,
    Message,
    Request,
    SamplingParams,
    TextPart,
    Usage,
)
from trunkline.wire.client import Terms
from trunkline.wire.openai.responses import decode_responses
from trunkline.wire.openai.responses_client import ResponsesSpeaker

SPEAKER = ResponsesSpeaker()
TOOL: dict[str, Any] = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object"}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
SCHEMA = (
    '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],'
    '"additionalProperties":false}'
)


@functools.cache
def adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """What checks a body; making one takes long."""
    return pydantic.TypeAdapter(kind)


def sent(request: Request, on: Terms = ALL) -> Json:
    """The body that goes out; checked against the official client's types."""
    outgoing = SPEAKER.encode(request, on)
    assert (outgoing.method, outgoing.path) == ("POST", "/v1/responses")
    body: Json = json.loads(outgoing.body)
    streams = body.get("stream", False)
    kind: Any = ResponseCreateParamsStreaming if streams else ResponseCreateParamsNonStreaming
    # Of what the model said the types want an id, the API does not; we have none.
    typed = [
        {"id": "msg_1", "status": "completed", **item} if item.get("role") == "assistant" else item
        for item in body["input"]
    ]
    adapter(kind).validate_python({**body, "input": typed})
    return body


def test_a_plain_conversation() -> None:
    assert sent(chat()) == {
        "model": "upstream",
        "store": False,
        "input": [{"type": "message", "role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert "stream" not in sent(chat(), terms())


def test_items() -> None:
    body = sent(
        chat(
            Message("system", "S"),
            Message("user", (TextPart("a"), TextPart("b"))),
            Message("assistant", "So:", tool_calls=(CALL,)),
            Message("tool", "42", tool_call_id="call_1"),
            Message("assistant", (TextPart("x"), TextPart("y"))),
            Message("tool", (TextPart("12"), TextPart("C")), tool_call_id="call_1"),
        )
    )
    assert body["input"] == [
        {"type": "message", "role": "system", "content": "S"},
        {
            "type": "message",
            "role": "user",
            "content": [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}],
        },
        {"type": "message", "role": "assistant", "content": "So:"},
        {"type": "function_call", "call_id": "call_1", "name": "f", "arguments": '{"a":1}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "42"},
        {"type": "message", "role": "assistant", "content": "x\ny"},
        {
            "type": "function_call_output",
            "call_id": "call_1",
            "output": [{"type": "input_text", "text": "12"}, {"type": "input_text", "text": "C"}],
        },
    ]


def test_several_blocks_of_what_the_model_said_stay_apart_at_openai() -> None:
    turns = (Message("user", "a"), Message("assistant", (TextPart("x"), TextPart("y"))))
    openai = Terms(model="gpt-5", features=find_kind("openai").features)
    assert sent(chat(*turns), openai)["input"][1]["content"] == [
        {"type": "output_text", "text": "x", "annotations": []},
        {"type": "output_text", "text": "y", "annotations": []},
    ]


def test_fields() -> None:
    body = sent(
        chat(
            sampling=SamplingParams(temperature=0.5, top_p=0.9, max_tokens=50, logprobs=2),
            tools=(TOOL,),
            tool_choice="named",
            tool_name="f",
            parallel_tool_calls=False,
            grammar=Grammar("json_schema", SCHEMA),
            template_kwargs={"reasoning_effort": "high"},
        )
    )
    del body["model"], body["input"], body["stream"], body["store"]
    wanted = {"type": "json_schema", "name": "answer", "schema": json.loads(SCHEMA), "strict": True}
    assert body == {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_output_tokens": 50,
        "include": ["message.output_text.logprobs"],
        "top_logprobs": 2,
        "tools": [
            {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
        ],
        "tool_choice": {"type": "function", "name": "f"},
        "parallel_tool_calls": False,
        "text": {"format": wanted},
        "reasoning": {"effort": "high"},
    }


def test_what_goes_out_our_own_codec_understands() -> None:
    request = chat(
        Message("system", "S"),
        Message("user", "x"),
        Message("assistant", None, tool_calls=(CALL,)),
        Message("tool", "r", tool_call_id="call_1"),
        sampling=SamplingParams(temperature=0.5, max_tokens=20, logprobs=2),
        tool_choice="required",
        tools=({"type": "function", "function": {**TOOL["function"], "strict": False}},),
        template_kwargs={"reasoning_effort": "low"},
        overflow="cap",
    )
    (again,) = decode_responses(SPEAKER.encode(request, ALL).body).requests("r", "m", "")
    assert again == request


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"stop": ("a",)}, "stop"),
        ({"sampling": SamplingParams(seed=1)}, "seed"),
        ({"sampling": SamplingParams(presence_penalty=1)}, "presence_penalty"),
        ({"grammar": Grammar("regex", "a")}, "grammar"),
        ({"continue_final_message": True}, "continue_final_message"),
    ],
)
def test_what_the_api_has_no_field_for(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(chat(**more), ALL)
    assert caught.value.param == param
    drops = Terms(model="upstream", features=ALL.features, unsupported="drop")
    assert SPEAKER.encode(chat(**more), drops).dropped == (param,)


@pytest.mark.parametrize("content", ["", None, ()])
def test_a_conversation_of_nothing(content: Any) -> None:
    for on in (ALL, msgspec.structs.replace(ALL, unsupported="drop")):
        with pytest.raises(Unsupported, match="no text") as caught:
            SPEAKER.encode(chat(Message("user", content)), on)
        assert caught.value.param == "messages"
    sent(chat(Message("system", "s"), Message("user", content)))


def test_what_only_helps_along_is_named_but_never_refused() -> None:
    thought = Message("assistant", "b", reasoning_content="Hm.")
    request = chat(thought, Message("user", "c"), template_kwargs={"reasoning_effort": "high"})
    assert SPEAKER.encode(request, terms()).dropped == ("reasoning", "reasoning_content")


def test_what_a_client_says_besides() -> None:
    notes: Json = {
        "user": "u", "safety_identifier": "s", "metadata": {"k": "v"}, "service_tier": "flex",
        "prompt_cache_key": "p", "prompt_cache_retention": "24h",
    }  # fmt: skip
    kind = find_kind("openai")
    features = kind.features - kind.without["openai.responses"]
    openai = Terms(model="gpt-5", features=features)
    more = {"verbosity": "low", "prediction": {"type": "content", "content": "x"}}
    grammar = Grammar("json_schema", SCHEMA, "My schema", "Says it.")
    body = sent(chat(notes=notes | more, grammar=grammar), openai)
    assert {name: body[name] for name in notes} == notes
    assert body["store"] is False
    assert body["text"]["verbosity"] == "low"
    assert body["text"]["format"]["name"] == "My_schema"
    assert body["text"]["format"]["description"] == "Says it."
    assert SPEAKER.encode(chat(notes=notes | more), openai).dropped == ("prediction",)
    assert sent(chat(notes={"store": True, "verbosity": "high"}), openai)["store"] is True
    outgoing = SPEAKER.encode(chat(notes=notes | {"store": True}), terms())
    assert outgoing.dropped == (*notes, "store")
    assert json.loads(outgoing.body)["store"] is False


def test_strict_tools_thinking_and_ids() -> None:
    openai = Terms(model="gpt-5.4", features=find_kind("openai").features)
    strict = {"type": "function", "function": {**TOOL["function"], "strict": True}}
    long = "call_" + "x" * 60
    request = chat(
        Message("user", "x"),
        Message("assistant", None, tool_calls=({**CALL, "id": long}, CALL)),
        Message("tool", "r", tool_call_id=long),
        tools=(strict,),
        template_kwargs={"enable_thinking": True, "thinking_budget": 10000},
    )
    body = sent(request, openai)
    assert body["tools"][0]["strict"] is True
    assert body["reasoning"] == {"effort": "high"}
    _, first, second, result = body["input"]
    assert (second["call_id"], first["call_id"]) == ("call_1", result["call_id"])
    assert len(first["call_id"]) <= 64
    assert [one["call_id"] for one in sent(request)["input"][1:]] == [long, "call_1", long]
    older = msgspec.structs.replace(openai, model="gpt-4.1")
    assert "reasoning" not in sent(request, older)
    assert SPEAKER.encode(request, older).dropped == ("reasoning",)


# Answers


def event(kind: str, **fields: Any) -> bytes:
    name = kind if kind == "error" else f"response.{kind}"
    return f"event: {name}\ndata: {json.dumps({'type': name, **fields})}\n\n".encode()


def ended(kind: str = "completed", **fields: Any) -> bytes:
    usage = {"input_tokens": 4, "output_tokens": 2}
    return event(kind, response={"model": "up", "status": kind, "usage": usage, **fields})


@pytest.mark.parametrize("size", [1, 9, 200, None])
def test_openais_published_stream_in_any_pieces(size: int | None) -> None:
    body = (GOLDEN / "response_stream.txt").read_bytes().replace(b"...\n\n", b"")
    got = Sum(read(SPEAKER, chat(), body, size=size))
    # The example leaves the further deltas out.
    assert got.text == {0: "Hi"}
    assert got.ends == {0: ("stop", None)}
    assert got.usage == Usage(37, 11)


def test_openais_published_answers() -> None:
    got = Sum(read(SPEAKER, chat(), (GOLDEN / "response.json").read_bytes(), head=WHOLE))
    assert got.text[0].startswith("In a peaceful grove")
    assert got.usage == Usage(36, 87)
    tools = (GOLDEN / "response_tools.json").read_bytes()
    got = Sum(read(SPEAKER, chat(), tools, head=WHOLE))
    ((_, name, arguments),) = got.calls.values()
    assert name == "get_current_weather"
    assert json.loads(arguments)["location"] == "Boston, MA"
    assert got.ends == {0: ("tool_calls", None)}
    thought = (GOLDEN / "response_reasoning.json").read_bytes()
    assert Sum(read(SPEAKER, chat(), thought, head=WHOLE)).usage == Usage(81, 1035, 0, 832)


def test_published_events_of_calls_and_reasoning() -> None:
    known: Json = golden("response_events.json")

    def as_sent(kind: str, **changes: Any) -> bytes:
        return event(kind.removeprefix("response."), **({**known[kind], **changes}))

    item = {"type": "function_call", "call_id": "call_9", "name": "get_weather", "arguments": ""}
    for arguments in (
        [as_sent("response.function_call_arguments.delta", output_index=1, delta='{ "arg":'),
         as_sent("response.function_call_arguments.delta", output_index=1, delta=" 123 }"),
         as_sent("response.function_call_arguments.done")],
        # Some servers tell all of it at the end.
        [as_sent("response.function_call_arguments.done")],
        [event("output_item.done", output_index=1, item=item | {"arguments": '{ "arg": 123 }'})],
    ):  # fmt: skip
        body = b"".join(
            [
                as_sent("response.reasoning_summary_text.delta", delta="One."),
                as_sent("response.reasoning_summary_text.delta", delta="Two.", summary_index=1),
                event("output_item.added", output_index=1, item=item),
                *arguments,
                ended(),
            ]
        )
        got = Sum(read(SPEAKER, chat(), body))
        assert list(got.calls.values()) == [["call_9", "get_weather", '{ "arg": 123 }']]
        assert got.reasoning == {0: "One.\n\nTwo."}
        assert got.ends == {0: ("tool_calls", None)}


def test_calls_are_complete_when_their_item_is() -> None:
    def begun(index: int, name: str) -> bytes:
        item = {"type": "function_call", "call_id": f"call_{name}", "name": name, "arguments": ""}
        return event("output_item.added", output_index=index, item=item)

    def more(index: int, text: str) -> bytes:
        return event("function_call_arguments.delta", output_index=index, delta=text)

    done = event("output_item.done", output_index=0, item={"type": "function_call"})
    body = begun(0, "w") + done + begun(1, "n") + begun(2, "k") + more(2, "{}")
    reader = SPEAKER.reader(chat(), ALL, STREAM)
    shown = [one for one in reader.feed(body) if isinstance(one, Delta)]
    pieces = [(one.index, one.arguments) for delta in shown for one in delta.tool_calls]
    assert pieces == [(0, ""), (0, "{}"), (1, "")]
    rest = [*reader.feed(more(1, '{"b":2}') + ended()), *reader.end()]
    assert list(Sum([*shown, *rest]).calls.values()) == [
        ["call_w", "w", "{}"],
        ["call_n", "n", '{"b":2}'],
        ["call_k", "k", "{}"],
    ]


def test_items_that_are_told_when_they_are_complete_alone() -> None:
    def done(index: int, **item: Any) -> bytes:
        return event("output_item.done", output_index=index, item=item)

    def said(index: int, text: str) -> bytes:
        return done(index, type="message", content=[{"type": "output_text", "text": text}])

    body = (
        done(0, type="reasoning", summary=[], content=[{"type": "reasoning_text", "text": "Hm."}])
        + said(1, "One. ")
        + done(2, type="function_call", call_id="call_1", name="f", arguments='{"a":1}')
        + event("function_call_arguments.done", output_index=3, arguments='{"b":2}')
        + done(3, type="function_call", call_id="call_2", name="g", arguments='{"b":2}')
        + event("output_text.delta", output_index=4, delta="Two. ")
        + said(4, "Two. ")
        + said(5, "Three.")
        + ended()
    )
    for size in (1, None):
        got = Sum(read(SPEAKER, chat(), body, size=size))
        assert got.reasoning == {0: "Hm."}
        assert got.text == {0: "One. Two. Three."}
        calls = [["call_1", "f", '{"a":1}'], ["call_2", "g", '{"b":2}']]
        assert list(got.calls.values()) == calls
        assert got.ends == {0: ("tool_calls", None)}


def test_events_without_names() -> None:
    body = event("output_text.delta", delta="a") + ended()
    bare = b"\n".join(one for one in body.split(b"\n") if not one.startswith(b"event"))
    assert Sum(read(SPEAKER, chat(), bare)).text == {0: "a"}


def test_refusals_and_cut_answers() -> None:
    said = event("refusal.delta", delta="No.")
    part = {"type": "refusal", "refusal": "No."}
    item = {"type": "message", "role": "assistant", "content": [part]}
    whole = json.dumps({"status": "completed", "output": [item]}).encode()
    for got in (
        Sum(read(SPEAKER, chat(), said + ended())),
        Sum(read(SPEAKER, chat(), whole, head=WHOLE)),
    ):
        assert (got.text, got.ends) == ({0: "No."}, {0: ("content_filter", None)})
    for reason, meaning in (("max_output_tokens", "length"), ("content_filter", "content_filter")):
        body = said + ended("incomplete", incomplete_details={"reason": reason})
        assert Sum(read(SPEAKER, chat(), body)).ends == {0: (meaning, None)}
    with pytest.raises(ContentRefused):
        read(SPEAKER, chat(), ended("incomplete", incomplete_details={"reason": "content_filter"}))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        event("output_text.delta", delta="a"),
        event("output_text.delta", delta="a") + ended()[:-30],
        event("output_text.delta", delta=1),
        ended(status="cancelled"),
    ],
    ids=["nothing", "no end", "cut", "garbage", "cancelled"],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body)
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body or b"{}", head=WHOLE)


@pytest.mark.parametrize(
    ("end", "kind"),
    [
        ((GOLDEN / "response_failed.sse").read_bytes(), RateLimited),
        (event("failed", response={"status": "failed", "error": None}), UpstreamFailed),
        (event("error", **golden("response_events.json")["error"]), UpstreamFailed),
        (event("error", code="rate_limit_exceeded", message="x"), RateLimited),
        (event("failed", response={"error": {"code": "invalid_prompt"}}), ContentRefused),
    ],
)
def test_errors_within_a_stream(end: bytes, kind: type[TrunklineError]) -> None:
    body = event("output_text.delta", delta="a") + end
    with pytest.raises(kind):
        read(SPEAKER, chat(), body)
    with pytest.raises(kind):
        relay(SPEAKER, raw(SPEAKER, b'{"stream":true}'), body)


# Passing on


def test_patch_changes_the_model_alone() -> None:
    asked = raw(SPEAKER, b'{"model":"m","input":"x","store":true}')
    assert SPEAKER.patch(asked, ALL).body == b'{"model":"upstream","input":"x","store":true}'
    given = {"max_tokens": 9, "top_p": 0.5, "seed": 1, "reasoning_effort": "low"}
    defaults = msgspec.structs.replace(ALL, default_body=given)
    assert SPEAKER.patch(asked, defaults).body == (
        b'{"model":"upstream","input":"x","store":true,'
        b'"top_p":0.5,"max_output_tokens":9,"reasoning":{"effort":"low"}}'
    )


@pytest.mark.parametrize("size", [1, 50, None])
def test_the_published_stream_is_passed_on(size: int | None) -> None:
    body = (GOLDEN / "response_stream.txt").read_bytes().replace(b"...\n\n", b"").strip() + b"\n\n"
    same = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, same, body, size=size) == (body, Usage(37, 11))
    ours, _ = relay(SPEAKER, raw(SPEAKER, b'{"stream":true}', asked="mine"), body, size=size)
    assert ours == body.replace(b'"model":"gpt-5.4"', b'"model":"mine"')


@pytest.mark.parametrize("status", ["queued", "in_progress", "cancelled"])
def test_what_runs_in_the_background_is_passed_on(status: str) -> None:
    body = json.dumps({"id": "resp_1", "status": status, "model": "upstream", "usage": None})
    asked = raw(SPEAKER, b'{"background":true}', asked="upstream")
    assert relay(SPEAKER, asked, body.encode(), head=WHOLE) == (body.encode(), Usage(0, 0))


def test_only_the_responses_own_model_is_renamed() -> None:
    body = ended(metadata={"model": "up"}) + ended()
    ours, _ = relay(SPEAKER, raw(SPEAKER, b'{"stream":true}', asked="mine"), body)
    first = json.loads(ours.split(b"\n")[1][6:])["response"]
    assert (first["model"], first["metadata"]) == ("mine", {"model": "up"})


def test_a_whole_answer_is_passed_on() -> None:
    body = (GOLDEN / "response.json").read_bytes()
    same = raw(SPEAKER, b"{}", asked="upstream")
    assert relay(SPEAKER, same, body, head=WHOLE) == (body, Usage(36, 87))
    failed = b'{"status":"failed","error":{"code":"server_error","message":"x"}}'
    for broken in (b"{}", body[:-5], failed):
        with pytest.raises(UpstreamFailed):
            relay(SPEAKER, same, broken, head=WHOLE)
    with pytest.raises(UpstreamFailed):
        SPEAKER.relay(raw(SPEAKER, b'{"stream":true}'), ALL, WHOLE)
    assert SPEAKER.error(STREAM, b"").kind == "upstream_failed"
