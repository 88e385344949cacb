"""Chat completions spoken to a server."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
import pydantic
import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from tests.wire.client_support import ALL, STREAM, WHOLE, Sum, chat, raw, read, relay, terms
from tests.wire.openai.support import GOLDEN
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    RateLimited,
    Unsupported,
    UpstreamFailed,
)
from trunkline.core.types import (
    Grammar,
    Json,
    Message,
    Request,
    SamplingParams,
    TextInput,
    TextPart,
    Usage,
)
from trunkline.wire.client import Head, Terms
from trunkline.wire.openai.chat import decode_chat
from trunkline.wire.openai.chat_client import ChatSpeaker

SPEAKER = ChatSpeaker()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
CLOSED = (
    '{"type":"object","properties":{"a":{"type":"string"}},"required":["a"],'
    '"additionalProperties":false}'
)
HOSTED = terms(
    "stream", "stream_usage", "tools", "tool_choice", "parallel_tool_calls", "json_object",
    "json_schema", "logprobs", "n", "seed", "logit_bias", "penalties", "reasoning",
    "max_completion_tokens",
)  # fmt: skip


@functools.cache
def adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """What checks a body; making one takes long."""
    return pydantic.TypeAdapter(kind)


def sent(request: Request, on: Terms = ALL) -> Json:
    """The body that goes out; checked against the official client's types."""
    outgoing = SPEAKER.encode(request, on)
    assert (outgoing.method, outgoing.path) == ("POST", "/v1/chat/completions")
    body: Json = json.loads(outgoing.body)
    kind: Any = CompletionCreateParamsNonStreaming
    if body.get("stream"):
        kind = CompletionCreateParamsStreaming
    adapter(kind).validate_python(body)
    return body


def test_a_plain_conversation() -> None:
    assert sent(chat(), HOSTED) == {
        "model": "upstream",
        "stream": True,
        "stream_options": {"include_usage": True},
        "messages": [{"role": "user", "content": "Hi"}],
    }
    assert sent(chat(), terms()) == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_every_kind_of_message() -> None:
    turns = (
        Message("developer", "Be brief."),
        Message("user", (TextPart("a"), TextPart("b")), name="ann"),
        Message("assistant", None, tool_calls=(CALL,), reasoning_content="Hm."),
        Message("tool", "42", tool_call_id="call_1"),
        Message("assistant", "So:"),
    )
    assert sent(chat(*turns))["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "user",
            "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            "name": "ann",
        },
        {"role": "assistant", "content": None, "tool_calls": [CALL], "reasoning_content": "Hm."},
        {"role": "tool", "content": "42", "tool_call_id": "call_1"},
        {"role": "assistant", "content": "So:"},
    ]
    outgoing = SPEAKER.encode(chat(*turns), HOSTED)
    assert outgoing.dropped == ("reasoning_content",)
    hosted = sent(chat(*turns), HOSTED)["messages"]
    assert hosted[0]["role"] == "developer"
    assert "reasoning_content" not in hosted[2]


def test_all_sampling() -> None:
    sampling = SamplingParams(
        temperature=0.5, top_k=40, top_p=0.9, min_p=0.1, typical_p=0.8, repetition_penalty=1.1,
        presence_penalty=0.2, frequency_penalty=0.3, logit_bias=((5, -1.0),), seed=7,
        max_tokens=20, min_tokens=2, stop_token_ids=(9,), ignore_eos=True, logprobs=3,
    )  # fmt: skip
    body = sent(
        chat(
            sampling=sampling, n=2, stop=("a", "b"), include_stop=True, skip_special_tokens=False,
            truncate_prompt=100, priority=3, cache_salt="s",
        )
    )  # fmt: skip
    del body["model"], body["messages"], body["stream"], body["stream_options"]
    assert body == {
        "temperature": 0.5, "top_k": 40, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8,
        "repetition_penalty": 1.1, "presence_penalty": 0.2, "frequency_penalty": 0.3,
        "logit_bias": {"5": -1.0}, "seed": 7, "max_tokens": 20, "min_tokens": 2,
        "stop_token_ids": [9], "ignore_eos": True, "logprobs": True, "top_logprobs": 3, "n": 2,
        "stop": ["a", "b"], "include_stop_str_in_output": True, "skip_special_tokens": False,
        "truncate_prompt_tokens": 100, "priority": 3, "cache_salt": "s",
    }  # fmt: skip


def test_what_goes_out_our_own_codec_understands() -> None:
    sampling = SamplingParams(temperature=0.5, seed=7, max_tokens=20, logprobs=0)
    grammar = Grammar("regex", "a+")
    request = chat(
        Message("user", "x"),
        sampling=sampling, stop=("a",), grammar=grammar, tools=(TOOL,), tool_choice="named",
        tool_name="f", parallel_tool_calls=False,
        template_kwargs={"enable_thinking": False, "k": 1},
    )  # fmt: skip
    (again,) = decode_chat(SPEAKER.encode(request, ALL).body).requests("r", "m", "")
    assert again == request


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"sampling": SamplingParams(seed=1)}, "seed"),
        ({"sampling": SamplingParams(top_k=5)}, "top_k"),
        ({"sampling": SamplingParams(logit_bias=((1, 2.0),))}, "logit_bias"),
        ({"sampling": SamplingParams(presence_penalty=1)}, "presence_penalty"),
        ({"sampling": SamplingParams(logprobs=1)}, "logprobs"),
        ({"sampling": SamplingParams(stop_token_ids=(1,))}, "stop_token_ids"),
        ({"tools": (TOOL,), "tool_choice": "required"}, "tools"),
        ({"grammar": Grammar("json_object")}, "grammar"),
        ({"grammar": Grammar("regex", "a")}, "grammar"),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"template_kwargs": {"custom": 1}}, "chat_template_kwargs"),
        ({"prompt_logprobs": 1}, "prompt_logprobs"),
        ({"truncate_prompt": 3}, "truncate_prompt"),
    ],
)
def test_refused_by_name_or_left_out(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(chat(**more), terms())
    assert caught.value.param == param
    outgoing = SPEAKER.encode(chat(**more), terms(unsupported="drop"))
    assert outgoing.dropped == (param,)
    assert json.loads(outgoing.body) == {
        "model": "upstream",
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_other_prompts_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(Request(id="r", model="m", input=TextInput("x")), ALL)
    assert caught.value.param == "prompt"
    with pytest.raises(Unsupported):
        SPEAKER.encode(chat(prefix_ids=(1, 2)), ALL)


def test_names_of_the_longest_answer() -> None:
    request = chat(sampling=SamplingParams(max_tokens=9))
    assert sent(request)["max_tokens"] == 9
    body = sent(request, HOSTED)
    assert body["max_completion_tokens"] == 9
    assert "max_tokens" not in body


def test_more_than_the_context_holds_is_what_there_is_where_the_client_says_so() -> None:
    small = msgspec.structs.replace(ALL, context_length=4096)
    sampling = SamplingParams(max_tokens=32000)
    assert "max_tokens" not in sent(chat(sampling=sampling, overflow="cap"), small)
    assert sent(chat(sampling=sampling), small)["max_tokens"] == 32000


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("auto", None), ("required", "required"), ("none", "none")],
)
def test_choice_of_tools(choice: Any, expected: str | None) -> None:
    body = sent(chat(tools=(TOOL,), tool_choice=choice), HOSTED)
    assert body["tools"] == [TOOL]
    assert body.get("tool_choice") == expected


def test_a_named_tool_and_one_call_at_most() -> None:
    body = sent(
        chat(tools=(TOOL,), tool_choice="named", tool_name="f", parallel_tool_calls=False), HOSTED
    )
    assert body["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    assert body["parallel_tool_calls"] is False


def test_tools_that_may_not_be_called_are_not_shown_to_a_server_without_the_choice() -> None:
    body = sent(chat(tools=(TOOL,), tool_choice="none"), terms("tools"))
    assert "tools" not in body


@pytest.mark.parametrize(
    ("value", "strict"),
    [
        (CLOSED, True),
        (CLOSED.replace('{"type"', '{"x-guidance":{"lenient":true},"type"', 1), False),
        ('{"type":"object","properties":{"a":{}}}', False),
        ('{"type":"array","items":{"type":"object"}}', False),
    ],
)
def test_schemas(value: str, strict: bool) -> None:
    body = sent(chat(grammar=Grammar("json_schema", value)), HOSTED)
    wanted = body["response_format"]["json_schema"]
    assert wanted["strict"] is strict
    schema = json.loads(value)
    schema.pop("x-guidance", None)
    assert wanted["schema"] == schema


@pytest.mark.parametrize(
    ("grammar", "fields", "older", "sglang"),
    [
        (
            Grammar("regex", "a+"),
            {"structured_outputs": {"regex": "a+"}},
            {"guided_regex": "a+"},
            {"regex": "a+"},
        ),
        (
            Grammar("choice", '["x","y"]'),
            {"structured_outputs": {"choice": ["x", "y"]}},
            {"guided_choice": ["x", "y"]},
            None,
        ),
        (
            Grammar("gbnf", 'root ::= "a"'),
            {"structured_outputs": {"grammar": 'root ::= "a"'}},
            {"guided_grammar": 'root ::= "a"'},
            {"ebnf": 'root ::= "a"'},
        ),
        (
            Grammar("lark", 'start: "a"'),
            {"structured_outputs": {"grammar": 'start: "a"'}},
            {"guided_grammar": 'start: "a"'},
            None,
        ),
        (
            Grammar("json_schema", CLOSED),
            {"structured_outputs": {"json": json.loads(CLOSED)}},
            {"guided_json": json.loads(CLOSED)},
            {"json_schema": CLOSED},
        ),
    ],
    ids=lambda one: one.kind if isinstance(one, Grammar) else "",
)
def test_grammars(grammar: Grammar, fields: Json, older: Json, sglang: Json | None) -> None:
    plain = SPEAKER.encode(chat(), terms()).body
    for on, expected in (
        (terms("grammar"), fields),
        (terms("grammar", "guided_fields"), older),
        (terms("grammar", "ebnf_fields"), sglang),
    ):
        if expected is None:
            with pytest.raises(Unsupported):
                SPEAKER.encode(chat(grammar=grammar), on)
        else:
            assert sent(chat(grammar=grammar), on) == json.loads(plain) | expected


def test_reasoning() -> None:
    off, high = {"enable_thinking": False}, {"reasoning_effort": "high"}
    ollama = {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}
    for variables, hosted, own in (
        (off, "none", None),
        (high, "high", "high"),
        (ollama, "low", "low"),
        ({"enable_thinking": True}, None, None),
    ):
        assert sent(chat(template_kwargs=variables), HOSTED).get("reasoning_effort") == hosted
        body = sent(chat(template_kwargs=variables))
        assert body.get("reasoning_effort") == own
        others = {key: value for key, value in variables.items() if key != "reasoning_effort"}
        assert body.get("chat_template_kwargs", {}) == others
    # A model that does not think need not be told not to; one that is asked to says that it cannot.
    assert SPEAKER.encode(chat(template_kwargs=off), terms()).dropped == ()
    assert SPEAKER.encode(chat(template_kwargs=high), terms()).dropped == ("reasoning_effort",)


def test_an_answer_to_be_continued() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    body = sent(chat(*turns, add_generation_prompt=False, continue_final_message=True))
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_extra_fields_win() -> None:
    body = sent(
        chat(sampling=SamplingParams(seed=1)), msgspec.structs.replace(ALL, extra_body={"seed": 2})
    )
    assert body["seed"] == 2


# Answers


def sse(*chunks: Any, done: bool = True) -> bytes:
    parts = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"] * done
    return "".join(f"data: {part}\n\n" for part in parts).encode()


def chunk(delta: Json | None = None, finish: str | None = None, **more: Any) -> Json:
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "model": "upstream", "choices": [choice]}


def test_openais_published_stream_at_every_byte() -> None:
    lines = (GOLDEN / "chat_chunks.jsonl").read_text().splitlines()
    body = "".join(f"data: {line}\n\n" for line in lines).encode() + b"data: [DONE]\n\n"
    for size in (1, 2, 3, 50, None):
        got = Sum(read(SPEAKER, chat(), body, size=size))
        assert got.text == {0: "Hello"}
        assert got.ends == {0: ("stop", None)}


def test_deepseeks_recorded_stream_at_every_byte() -> None:
    body = (GOLDEN / "chat_reasoning_tools.sse").read_bytes()
    for size in (1, 5, None):
        got = Sum(read(SPEAKER, chat(), body, size=size))
        assert got.reasoning[0].startswith("I should use")
        ((call_id, name, arguments),) = got.calls.values()
        assert call_id.startswith("call_")
        assert name == "weather"
        assert json.loads(arguments)
        assert got.ends == {0: ("tool_calls", None)}
        assert got.usage == Usage(374, 61, 256, 17)


def test_openais_published_answers() -> None:
    whole = (GOLDEN / "chat_completion.json").read_bytes()
    got = Sum(read(SPEAKER, chat(), whole, head=WHOLE))
    assert got.text == {0: "Hello! How can I assist you today?"}
    assert got.usage == Usage(19, 10)
    tools = (GOLDEN / "chat_tools.json").read_bytes()
    got = Sum(read(SPEAKER, chat(), tools, head=WHOLE))
    ((_, name, arguments),) = got.calls.values()
    assert name == "get_current_weather"
    assert json.loads(arguments) == {"location": "Boston, MA"}
    assert got.ends == {0: ("tool_calls", None)}


def test_calls_as_other_servers_send_them() -> None:
    def call(index: int | None, call_id: str | None, name: str | None, arguments: Any) -> Json:
        one: Json = {"id": call_id, "function": {"name": name, "arguments": arguments}}
        return {"tool_calls": [one if index is None else {"index": index, **one}]}

    # All under one index; no index at all; arguments as an object; the name late; no arguments.
    for pieces, expected in (
        ((call(0, "a", "f", "{}"), call(0, "b", "g", '{"x":1}')), ["f{}", 'g{"x":1}']),
        ((call(None, "a", "f", '{"x"'), call(None, None, None, ":1}")), ['f{"x":1}']),
        ((call(0, "a", "f", {"x": 1}),), ['f{"x": 1}']),
        ((call(0, "a", None, '{"x":'), call(0, None, "f", "1}")), ['f{"x":1}']),
        ((call(0, "a", "f", None),), ["f{}"]),
        ((call(0, None, "f", ""),), ["f{}"]),
    ):
        body = sse(*(chunk(piece) for piece in pieces), chunk({}, "stop"))
        got = Sum(read(SPEAKER, chat(), body))
        assert [one[1] + one[2] for one in got.calls.values()] == expected
        assert all(one[0] for one in got.calls.values())
        assert got.ends == {0: ("tool_calls", None)}


def test_mistrals_parts_and_other_spellings_of_reasoning() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "Hm."}]},
        {"type": "text", "text": "Yes"},
    ]
    body = sse(chunk({"content": parts}), chunk({"reasoning": "More."}), chunk({}, "stop"))
    got = Sum(read(SPEAKER, chat(), body))
    assert (got.reasoning[0], got.text[0]) == ("Hm.More.", "Yes")


def test_a_refusal_is_text_and_a_content_filter_ends_or_refuses() -> None:
    got = Sum(read(SPEAKER, chat(), sse(chunk({"refusal": "I cannot."}), chunk({}, "stop"))))
    assert got.text == {0: "I cannot."}
    cut = sse(chunk({"content": "So"}), chunk({}, "content_filter"))
    assert Sum(read(SPEAKER, chat(), cut)).ends == {0: ("content_filter", None)}
    with pytest.raises(ContentRefused):
        read(SPEAKER, chat(), sse(chunk({}, "content_filter")))


def test_what_matched_is_told() -> None:
    for name, value in (("stop_reason", "END"), ("matched_stop", "END"), ("stop_reason", 7)):
        body = sse(chunk({"content": "x"}), chunk({}, "stop", **{name: value}))
        assert Sum(read(SPEAKER, chat(), body)).ends == {0: ("stop", value)}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        sse(chunk({"content": "x"}), done=False),
        sse(chunk({"content": "x"})),
        sse(chunk({"content": "x"}), done=False) + b'data: {"choi',
        b"data: <html>\n\n",
        sse(chunk({"content": "x"}, "error")),
        sse(chunk({"content": "x"}, index=5)),
    ],
    ids=["nothing", "no end", "done alone", "mid event", "garbage", "gave up", "foreign row"],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body)
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body.removeprefix(b"data: "), head=WHOLE)


@pytest.mark.parametrize(
    ("event", "kind"),
    [
        ({"error": {"message": "busy", "type": "rate_limit_error"}}, RateLimited),
        ({"error": {"message": "x", "code": 429}}, RateLimited),
        ({"error": {"message": "x", "code": "context_length_exceeded"}}, ContextOverflow),
        ({"error": {"message": "x", "type": "InternalServerError", "code": 500}}, UpstreamFailed),
        # vLLM before 0.10.
        ({"object": "error", "message": "x", "type": "X", "code": 429}, RateLimited),
        ({"error": "x"}, UpstreamFailed),
    ],
)
def test_errors_within_a_stream(event: Json, kind: type[Exception]) -> None:
    body = sse(chunk({"content": "x"}), event)
    with pytest.raises(kind):
        read(SPEAKER, chat(), body)
    asked = raw(SPEAKER, b'{"model":"m","stream":true,"messages":[]}')
    with pytest.raises(kind):
        relay(SPEAKER, asked, body)


def test_a_server_that_does_not_count() -> None:
    body = sse(chunk({"content": "a"}), chunk({"content": "b"}), chunk({}, "stop"))
    assert Sum(read(SPEAKER, chat(), body)).usage == Usage(0, 2)


# Passing on

USAGE_CHUNK = {
    "model": "upstream",
    "choices": [],
    "usage": {"prompt_tokens": 3, "completion_tokens": 2},
}


def test_patch_changes_the_model_and_asks_for_usage() -> None:
    asked = raw(SPEAKER, b'{"model":"m","stream":true,"messages":[{"x": 1.50}],"max_tokens":5}')
    assert SPEAKER.patch(asked, terms("stream_usage")).body == (
        b'{"model":"upstream","stream":true,"messages":[{"x": 1.50}],"max_tokens":5,'
        b'"stream_options":{"include_usage":true}}'
    )
    assert SPEAKER.patch(asked, terms("max_completion_tokens", extra_body={"k": 1})).body == (
        b'{"model":"upstream","stream":true,"messages":[{"x": 1.50}],'
        b'"max_completion_tokens":5,"k":1}'
    )
    kept = raw(SPEAKER, b'{"stream":true,"stream_options":{"x":1,"include_usage":false}}')
    assert json.loads(SPEAKER.patch(kept, terms("stream_usage")).body)["stream_options"] == {
        "x": 1,
        "include_usage": True,
    }
    whole = raw(SPEAKER, b'{"model":"m","messages":[]}')
    assert SPEAKER.patch(whole, terms("stream_usage")).body == b'{"model":"upstream","messages":[]}'


def test_usage_that_the_client_did_not_ask_for_is_left_out() -> None:
    content = sse(
        chunk({"content": 'a "usage":{} "model":"upstream"'}), chunk({}, "stop"), done=False
    )
    body = content + sse(USAGE_CHUNK)
    for wants, expected in ((False, content + b"data: [DONE]\n\n"), (True, body)):
        options = b',"stream_options":{"include_usage":true}' if wants else b""
        asked = raw(SPEAKER, b'{"stream":true%b}' % options, asked="upstream")
        for size in (1, 10, None):
            assert relay(SPEAKER, asked, body, size=size) == (expected, Usage(3, 2))


def test_usage_beside_text_stays() -> None:
    last = chunk({}, "stop") | {"usage": {"prompt_tokens": 3, "completion_tokens": 2}}
    body = sse(chunk({"content": "a"}), last)
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, asked, body) == (body, Usage(3, 2))


def test_the_client_sees_the_name_that_it_used() -> None:
    # Azure's first event names no model, and the others the one behind the deployment.
    first = {"model": "", "choices": [], "prompt_filter_results": []}
    body = sse(first, chunk({"content": '"model":"upstream"'}), chunk({}, "stop"))
    asked = raw(SPEAKER, b'{"stream":true}', asked='my "model"')
    ours, _ = relay(SPEAKER, asked, body, size=40)
    events = [json.loads(part[6:]) for part in ours.decode().split("\n\n")[:-2]]
    assert [event["model"] for event in events] == ['my "model"'] * 3
    assert events[1]["choices"][0]["delta"]["content"] == '"model":"upstream"'


def test_comments_and_other_line_ends_pass() -> None:
    body = b": ping\r\n\r\n" + sse(chunk({"content": "a"}), chunk({}, "stop")).replace(
        b"\n", b"\r\n"
    )
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    for size in (1, 10, None):
        assert relay(SPEAKER, asked, body, size=size)[0] == body


def test_a_stream_that_ends_without_an_empty_line() -> None:
    body = sse(chunk({"content": "a"}), chunk({}, "stop"))
    asked = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, asked, body.rstrip())[0] == body


@pytest.mark.parametrize("body", [b"", sse(chunk({"content": "x"}), done=False)])
def test_a_cut_stream_is_not_passed_on_as_whole(body: bytes) -> None:
    asked = raw(SPEAKER, b'{"stream":true}')
    with pytest.raises(UpstreamFailed):
        relay(SPEAKER, asked, body)


def test_a_whole_answer_is_passed_on() -> None:
    body = (GOLDEN / "chat_completion.json").read_bytes()
    asked = raw(SPEAKER, b'{"messages":[]}', asked="upstream")
    assert relay(SPEAKER, asked, body, head=WHOLE) == (body, Usage(19, 10))
    ours, _ = relay(SPEAKER, raw(SPEAKER, b"{}", asked="mine"), body, head=WHOLE)
    assert json.loads(ours) == {**json.loads(body), "model": "mine"}
    for broken in (b"", body[:-9], b"{}", b'{"error":{"message":"x"}}'):
        with pytest.raises(UpstreamFailed):
            relay(SPEAKER, asked, broken, head=WHOLE)
    with pytest.raises(UpstreamFailed):
        SPEAKER.relay(raw(SPEAKER, b'{"stream":true}'), ALL, WHOLE)


def test_errors_have_their_meaning() -> None:
    body = (GOLDEN / "error.json").read_bytes()
    assert SPEAKER.error(Head(404, {}), body).kind == "upstream_refused"
    assert SPEAKER.error(STREAM, b"").kind == "upstream_failed"
