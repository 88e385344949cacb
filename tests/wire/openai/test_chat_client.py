"""Chat completions spoken to a server."""

from __future__ import annotations

import functools
import json
import re
from typing import Any

import msgspec
import pydantic
import pytest
from openai.types.chat.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from tests.wire.client_support import ALL, chat, terms
from trunkline.backends.kinds import find_kind
from trunkline.core.errors import (
    Unsupported,
)
from trunkline.core.types import (
    CachePoint,
    Grammar,
    Json,
    Message,
    Request,
    SamplingParams,
    TextInput,
    TextPart,
)
from trunkline.wire.client import Terms
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


def test_the_repetition_penalty_by_the_name_that_llamacpp_has_for_it() -> None:
    there = terms("repetition_penalty", "repeat_penalty")
    body = sent(chat(sampling=SamplingParams(repetition_penalty=1.1)), there)
    assert body["repeat_penalty"] == 1.1
    assert "repetition_penalty" not in body


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
        (off, None, None),
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


NOTES: Json = {
    "user": "u", "safety_identifier": "s", "metadata": {"k": "v"}, "store": True,
    "service_tier": "flex", "prompt_cache_key": "p", "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit"}, "verbosity": "low",
    "prediction": {"type": "content", "content": "x"},
}  # fmt: skip


def test_what_a_client_says_besides() -> None:
    openai = Terms(model="gpt-5", features=find_kind("openai").features)
    body = sent(chat(notes=NOTES), openai)
    assert {name: body[name] for name in NOTES} == NOTES
    outgoing = SPEAKER.encode(chat(notes=NOTES), HOSTED)
    assert not set(json.loads(outgoing.body)) & set(NOTES)
    assert set(outgoing.dropped) == set(NOTES)
    # What nobody has a place for is told as well.
    assert SPEAKER.encode(chat(notes={"tools.mcp": 1}), openai).dropped == ("tools.mcp",)
    mistral = Terms(model="m", features=find_kind("mistral").features)
    body = sent(chat(notes=NOTES), mistral)
    assert set(body) & set(NOTES) == {"metadata", "prompt_cache_key", "prediction"}


def test_marks_of_what_to_cache_are_lost_without_harm() -> None:
    # These servers cache by themselves.
    marked = chat(cache_points=(CachePoint("tools"), CachePoint("message", 0, "1h")))
    assert SPEAKER.encode(marked, HOSTED).dropped == ()


def test_what_openai_refuses_of_it_is_told_or_made_to_fit() -> None:
    openai = Terms(model="gpt-5", features=find_kind("openai").features)
    for notes, expected, told in (
        ({"metadata": {"k": "v"}}, {}, ("metadata",)),
        ({"metadata": {"k": "v"}, "store": False}, {"store": False}, ("metadata",)),
        ({"service_tier": "standard_only"}, {"service_tier": "default"}, ()),
        ({"service_tier": "performance"}, {}, ("service_tier",)),
        ({"user": "u" * 64}, {"user": "u" * 64}, ()),
    ):
        body = sent(chat(notes=notes), openai)
        assert {name: body[name] for name in NOTES if name in body} == expected
        assert SPEAKER.encode(chat(notes=notes), openai).dropped == told
    long = [sent(chat(notes={"user": one * 150}), openai)["user"] for one in "aab"]
    assert len(long[0]) == 64
    assert long[0] == long[1] != long[2]


def ids(request: Request, on: Terms) -> list[str]:
    """Of the calls, and of their results."""
    messages = sent(request, on)["messages"]
    calls = [call["id"] for one in messages for call in one.get("tool_calls", ())]
    return calls + [one["tool_call_id"] for one in messages if one["role"] == "tool"]


def test_ids_of_calls_fit_the_server() -> None:
    given = ["call_1", "toolu_01A09q90qw90lq917835lq9", "call_" + "x" * 36, "abcDEF123"]
    turns = [
        Message("assistant", None, tool_calls=tuple({**CALL, "id": one} for one in given)),
        *[Message("tool", "42", tool_call_id=one) for one in given],
    ]
    request = chat(Message("user", "x"), *turns)
    assert ids(request, ALL) == given * 2
    hosted = ids(request, HOSTED)
    assert hosted[:4] == hosted[4:]
    assert [one for one in hosted[:4] if one not in given] == [hosted[2]]
    assert len(hosted[2]) <= 40
    short = ids(request, terms("tools", "short_call_ids"))
    assert short[:4] == short[4:]
    assert len(set(short)) == 4
    assert short[3] == "abcDEF123"
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in short)


@pytest.mark.parametrize("arguments", ["", None])
def test_a_call_without_arguments_has_an_object_of_none(arguments: str | None) -> None:
    call = {**CALL, "function": {"name": "f", "arguments": arguments}}
    request = chat(Message("user", "x"), Message("assistant", None, tool_calls=(call,)))
    (found,) = sent(request, HOSTED)["messages"][1]["tool_calls"]
    assert found["function"] == {"name": "f", "arguments": "{}"}


def test_a_schema_has_the_name_that_its_client_gave_it() -> None:
    for given, name in (("weather", "weather"), ("My schema: 1", "My_schema_1"), ("é", "answer")):
        grammar = Grammar("json_schema", CLOSED, given, "Says it.")
        wanted = sent(chat(grammar=grammar), HOSTED)["response_format"]["json_schema"]
        assert (wanted["name"], wanted["description"]) == (name, "Says it.")
    wanted = sent(chat(grammar=Grammar("json_schema", CLOSED)), HOSTED)["response_format"]
    assert wanted["json_schema"]["name"] == "answer"
    assert "description" not in wanted["json_schema"]


def test_neutral_values_that_were_given_go_out_where_there_is_a_place() -> None:
    given = ("temperature", "top_p", "presence_penalty", "top_k", "min_p")
    body = sent(chat(explicit=given), HOSTED)
    assert (body["temperature"], body["top_p"], body["presence_penalty"]) == (1.0, 1.0, 0.0)
    assert not {"top_k", "min_p"} & set(body)
    assert SPEAKER.encode(chat(explicit=given), terms()).dropped == ()


def test_an_answer_to_be_continued() -> None:
    turns = (Message("user", "a"), Message("assistant", "b"))
    body = sent(chat(*turns, add_generation_prompt=False, continue_final_message=True))
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)


def test_extra_fields_win() -> None:
    body = sent(
        chat(sampling=SamplingParams(seed=1)), msgspec.structs.replace(ALL, extra_body={"seed": 2})
    )
    assert body["seed"] == 2
