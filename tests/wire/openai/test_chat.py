from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.support import GOLDEN, events, golden, same_shape
from tests.wire.support import is_refused_here
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Message,
    Request,
    RowFinished,
    SamplingParams,
    TextPart,
    Timing,
    TokenLogprob,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.chat import ChatAsk, decode_chat

HELLO = [{"role": "user", "content": "Hello!"}]


def ask(**fields: Any) -> ChatAsk:
    return decode_chat(json.dumps({"messages": HELLO, **fields}).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("id", "m", "")
    return one


def answer() -> Answer:
    example = golden("chat_completion.json")
    return Answer(example["id"], example["model"], example["created"], "fp_44709d6fcb")


def text(content: str, row: int = 0, logprobs: tuple[TokenLogprob, ...] | None = None) -> Delta:
    return Delta("id", row, content, (1,), logprobs)


END: tuple[Event, ...] = (
    RowFinished("id", 0, "stop"),
    Completed("id", Usage(19, 10), Timing()),
)


# decoding


def test_the_published_request_decodes() -> None:
    body = json.dumps(golden("chat_request.json")).encode()
    decoded = decode_chat(body)
    (one,) = decoded.requests("chatcmpl-1", "caboose", "team")
    assert decoded.model == "gpt-4.1"
    assert not decoded.stream
    assert one.input == ChatInput(
        (Message("developer", "You are a helpful assistant."), Message("user", "Hello!"))
    )
    assert (one.id, one.model, one.tenant) == ("chatcmpl-1", "caboose", "team")
    assert one.sampling == SamplingParams()
    assert one.n == 1


def test_every_sampling_field_arrives() -> None:
    one = request(
        n=3,
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        typical_p=0.8,
        repetition_penalty=1.1,
        presence_penalty=-1,
        frequency_penalty=2,
        logit_bias={"12": -100, "7": 1.5},
        seed=-(2**63),
        max_tokens=20,
        min_tokens=2,
        stop=["a", "b"],
        stop_token_ids=[5],
        ignore_eos=True,
        include_stop_str_in_output=True,
        skip_special_tokens=False,
        logprobs=True,
        top_logprobs=20,
        priority=-1,
        cache_salt="salt",
        truncate_prompt_tokens=100,
    )
    assert one.truncate_prompt == 100
    assert one.sampling == SamplingParams(
        temperature=0.5,
        top_p=0.9,
        top_k=40,
        min_p=0.05,
        typical_p=0.8,
        repetition_penalty=1.1,
        presence_penalty=-1,
        frequency_penalty=2,
        logit_bias=((12, -100.0), (7, 1.5)),
        seed=-(2**63),
        max_tokens=20,
        min_tokens=2,
        stop_token_ids=(5,),
        ignore_eos=True,
        logprobs=20,
    )
    assert (one.n, one.stop, one.include_stop) == (3, ("a", "b"), True)
    assert (one.skip_special_tokens, one.priority, one.cache_salt) == (False, -1, "salt")


def test_nulls_are_as_good_as_absent() -> None:
    names = ["temperature", "top_p", "n", "stop", "seed", "max_tokens", "logit_bias", "tools"]
    names += ["functions", "response_format", "modalities", "stream_options", "model", "top_k"]
    assert request(**dict.fromkeys(names)) == request()


def test_no_top_k_may_be_said_in_two_ways() -> None:
    assert request(top_k=-1) == request(top_k=0) == request()


def test_max_completion_tokens_wins() -> None:
    assert request(max_tokens=5, max_completion_tokens=9).sampling.max_tokens == 9


def test_logprobs_without_top_means_the_chosen_one() -> None:
    assert request(logprobs=True).sampling.logprobs == 0
    assert request(logprobs=False).sampling.logprobs is None


def test_what_nobody_knows_is_ignored() -> None:
    assert request(nobody_knows_this={"a": [1]}) == request()


def test_conversations_keep_what_templates_see() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "tool_calls": [call], "reasoning_content": "hm"},
        {"role": "tool", "tool_call_id": "c1", "content": "42"},
        {"role": "assistant", "content": "So it is"},
    ]
    one = request(
        messages=messages,
        continue_final_message=True,
        chat_template_kwargs={"enable_thinking": False},
        reasoning_effort="low",
    )
    assert isinstance(one.input, ChatInput)
    first, second, third, last = one.input.messages
    assert first.content == (TextPart("a"), TextPart("b"))
    assert second.tool_calls == (call,)
    assert second.reasoning_content == "hm"
    assert third.tool_call_id == "c1"
    assert last.content == "So it is"
    assert one.input.continue_final_message
    assert not one.input.add_generation_prompt
    assert one.input.template_kwargs == {"enable_thinking": False, "reasoning_effort": "low"}


def test_tools_may_be_named_when_none_may_be_used() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    one = request(tools=[tool], tool_choice="none")
    assert one.tool_choice == "none"
    assert isinstance(one.input, ChatInput)
    assert one.input.tools == ()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"response_format": {"type": "structural_tag"}}, "response_format.type"),
        (
            {"structured_outputs": {"structural_tag": "x"}},
            "structured_outputs.structural_tag",
        ),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        ask(**fields)
    assert caught.value.param == param
    assert caught.value.status == 400


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("web_search_options", {"search_context_size": "low"}),
        ("web_search_options", {}),
        ("moderation", {"model": "omni-moderation-latest"}),
        ("audio", {"voice": "x"}),
        ("modalities", ["text", "audio"]),
        ("use_beam_search", True),
        ("chat_template", "{{ x }}"),
    ],
)
def test_what_another_server_may_go_without(name: str, value: Any) -> None:
    is_refused_here(ask(**{name: value}), name)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"temperature": 2.1}, "temperature"),
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": "hot"}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"n": 0}, "n"),
        ({"n": 129}, "n"),
        ({"n": 1.5}, "n"),
        ({"n": True}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 10**30}, "max_tokens"),
        ({"max_completion_tokens": -1}, "max_completion_tokens"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"stop": ["x"] * 17}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop": ["a", ""]}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"presence_penalty": 2.5}, "presence_penalty"),
        ({"frequency_penalty": -2.5}, "frequency_penalty"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"-1": 1}}, "logit_bias"),
        ({"logit_bias": {"99999999999": 1}}, "logit_bias"),
        ({"logit_bias": {str(i): 1 for i in range(5000)}}, "logit_bias"),
        ({"logit_bias": {"1": 101}}, "logit_bias[...]"),
        ({"seed": 2**63}, "seed"),
        ({"min_p": 2}, "min_p"),
        ({"min_tokens": 5, "max_tokens": 4}, "min_tokens"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"messages": []}, "messages"),
        ({"messages": "hi"}, "messages"),
        ({"messages": [{"content": "x"}]}, "messages[0]"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages[0].content"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text"}]}]},
            "messages[0].content[0].text",
        ),
        ({"continue_final_message": True}, "continue_final_message"),
        ({"chat_template_kwargs": {"a": 2**64}}, "chat_template_kwargs"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param
    assert caught.value.message


def test_template_variables_are_not_deep() -> None:
    deep: Any = 1
    for _ in range(20):
        deep = [deep]
    with pytest.raises(InvalidRequest):
        ask(chat_template_kwargs={"a": deep})


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b"not json",
        b'{"messages": [{"role": "user", "content": "x"}]} x',
        b'{"messages": [{"role": "user", "content": "\xff"}]}',
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
        b'{"messages": [{"role": "user", "content": "x"}], "temperature": 1e999}',
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 100_000 + b"}",
        b'{"x": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"tools": ' + b'{"a":' * 200_000 + b"1" + b"}" * 200_000 + b"}",
        b'{"messages": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    ],
)
def test_hostile_bodies_are_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_chat(body)
    assert caught.value.status == 400


# rendering


def test_the_published_response() -> None:
    renderer = ask().renderer(answer())
    for piece in ("Hello! How can I ", "assist you today?"):
        assert renderer.take(0, [text(piece)]) == b""
    renderer.take(0, END)
    ours = json.loads(renderer.finish(Usage(19, 10), Timing()))
    same_shape(ours, golden("chat_completion.json"))


def test_the_published_stream() -> None:
    theirs = [json.loads(line) for line in _lines("chat_chunks.jsonl")]
    first = theirs[0]
    named = Answer(first["id"], first["model"], first["created"], first["system_fingerprint"])
    renderer = ask(stream=True).renderer(named)
    sent = renderer.take(0, [text("Hello")])
    sent += renderer.take(0, END)
    sent += renderer.finish(Usage(19, 10), Timing())
    *ours, done = events(sent)
    assert done == "[DONE]"
    same_shape(ours, theirs)


def test_the_published_logprobs() -> None:
    hello = TokenLogprob(
        *("Hello", b"Hello", 1, -0.31725305),
        (("Hello", b"Hello", 1, -0.31725305), ("Hi", b"Hi", 2, -1.3190403)),
    )
    mark = TokenLogprob(
        *("!", b"!", 3, -0.02380986),
        (("!", b"!", 3, -0.02380986), (" there", b" there", 4, -3.787621)),
    )
    whole = ask(logprobs=True, top_logprobs=2).renderer(answer())
    whole.take(0, [text("Hello", logprobs=(hello,)), text("!", logprobs=(mark,)), *END])
    shown = json.loads(whole.finish(Usage(1, 2), Timing()))["choices"][0]["logprobs"]
    same_shape(shown, golden("chat_logprobs.json"))
    stream = ask(logprobs=True, top_logprobs=2, stream=True).renderer(answer())
    sent = stream.take(0, [text("Hello!", logprobs=(hello, mark))])
    same_shape(events(sent)[1]["choices"][0]["logprobs"], golden("chat_logprobs.json"))


def test_impossible_logprobs_are_numbers() -> None:
    renderer = ask(logprobs=True).renderer(answer())
    never = TokenLogprob("x", b"\xf0", 1, float("-inf"), (("y", b"y", 2, float("nan")),))
    renderer.take(0, [text("x", logprobs=(never,)), *END])
    shown = json.loads(renderer.finish(Usage(1, 1), Timing()))["choices"][0]["logprobs"]["content"][
        0
    ]
    assert shown["logprob"] == -9999.0
    assert shown["top_logprobs"][0]["logprob"] == -9999.0
    assert shown["bytes"] == [0xF0]


def test_usage_comes_last_and_null_before() -> None:
    renderer = ask(stream=True, stream_options={"include_usage": True}).renderer(answer())
    sent = renderer.take(0, [text("Hi"), *END]) + renderer.finish(Usage(19, 10, 16, 3), Timing())
    *chunks, last, done = events(sent)
    assert done == "[DONE]"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert last["choices"] == []
    assert last["usage"] == {
        "prompt_tokens": 19,
        "completion_tokens": 10,
        "total_tokens": 29,
        "prompt_tokens_details": {"cached_tokens": 16},
        "completion_tokens_details": {"reasoning_tokens": 3},
    }


def test_rows_of_a_stream_each_begin_with_their_role() -> None:
    renderer = ask(stream=True, n=2).renderer(answer())
    sent = renderer.take(0, [text("a", 1), text("b", 0), text("c", 1)])
    sent += renderer.take(0, [RowFinished("id", 1, "length"), RowFinished("id", 0, "stop", "END")])
    seen = [chunk["choices"][0] for chunk in events(sent)]
    assert [(one["index"], one["delta"].get("content")) for one in seen] == [
        (1, ""),
        (1, "a"),
        (0, ""),
        (0, "b"),
        (1, "c"),
        (1, None),
        (0, None),
    ]
    assert [one["delta"].get("role") for one in seen[:4]] == ["assistant", None, "assistant", None]
    assert [(one["finish_reason"], one["stop_reason"]) for one in seen[5:]] == [
        ("length", None),
        ("stop", "END"),
    ]


def test_a_row_without_text_still_has_role_and_end() -> None:
    sent = ask(stream=True).renderer(answer()).take(0, END)
    first, last = (chunk["choices"][0] for chunk in events(sent))
    assert first["delta"]["role"] == "assistant"
    assert last["finish_reason"] == "stop"


@pytest.mark.parametrize("said", [(), (text("So"),)])
def test_cut_by_a_policy_keeps_what_was_said(said: tuple[Event, ...]) -> None:
    cut = (*said, RowFinished("id", 0, "content_filter"))
    renderer = ask().renderer(answer())
    renderer.take(0, cut)
    (choice,) = json.loads(renderer.finish(Usage(1, 1), Timing()))["choices"]
    assert choice["finish_reason"] == "content_filter"
    assert choice["message"]["content"] == ("So" if said else "")
    shown = events(ask(stream=True).renderer(answer()).take(0, cut))
    assert shown[-1]["choices"][0]["finish_reason"] == "content_filter"


def test_reasoning_is_apart_from_the_answer() -> None:
    thought = Delta("id", 0, "So: 4", (1, 2), reasoning="2+2")
    whole = ask().renderer(answer())
    whole.take(0, [thought, *END])
    message = json.loads(whole.finish(Usage(1, 2), Timing()))["choices"][0]["message"]
    assert (message["content"], message["reasoning_content"]) == ("So: 4", "2+2")
    chunks = events(ask(stream=True).renderer(answer()).take(0, [thought]))
    assert [chunk["choices"][0]["delta"] for chunk in chunks[1:]] == [
        {"reasoning_content": "2+2", "reasoning": "2+2"},
        {"content": "So: 4"},
    ]


def test_names_and_text_are_escaped() -> None:
    named = Answer("id", 'a"b\n', 1, "fp")
    renderer = ask(stream=True).renderer(named)
    chunk = events(renderer.take(0, [text('\n\n"data: \u2028\x00é')]))[1]
    assert chunk["model"] == 'a"b\n'
    assert chunk["choices"][0]["delta"]["content"] == '\n\n"data: \u2028\x00é'


def _lines(name: str) -> list[str]:
    return (GOLDEN / name).read_text().splitlines()
