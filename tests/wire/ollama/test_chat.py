from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.ollama.support import answer, end, golden, lines, rendered, same_shape, text
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    Completed,
    Delta,
    Event,
    Grammar,
    Message,
    ModelCard,
    Request,
    RowFinished,
    SamplingParams,
    Timing,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from trunkline.wire.codec import Incoming
from trunkline.wire.ollama.answers import Calls
from trunkline.wire.ollama.chat import CHAT, ChatAsk, decode_chat

HELLO = [{"role": "user", "content": "why is the sky blue?"}]
DEFAULTS = SamplingParams(temperature=0.8, top_k=40, top_p=0.9)


def ask(**fields: Any) -> ChatAsk:
    body = {"model": "llama3.2", "messages": HELLO, **fields}
    return decode_chat(json.dumps(body).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("id", "m", "team")
    return one


def call(index: int, arguments: str, name: str | None = None) -> Delta:
    one = ToolCallDelta(index, f"call_{index}" if name else None, name, arguments)
    return Delta("id", 0, "", (1,), None, "", (one,))


# decoding


def test_defaults() -> None:
    decoded = ask()
    assert (decoded.model, decoded.stream) == ("llama3.2", True)
    one = request()
    assert one.sampling == DEFAULTS
    assert (one.id, one.model, one.tenant, one.overflow) == ("id", "m", "team", "cap")
    assert one.input.messages == (Message("user", HELLO[0]["content"]),)  # type: ignore[union-attr]
    assert one.input.template_kwargs == {}  # type: ignore[union-attr]
    assert not ask(stream=False).stream


def test_published_tools() -> None:
    body = golden("chat_tools_request.json")
    (one,) = decode_chat(json.dumps(body).encode()).requests("id", "m", "")
    assert one.tool_choice == "auto"
    assert one.input.tools == tuple(body["tools"])  # type: ignore[union-attr]


def test_published_history() -> None:
    body = golden("chat_history_request.json")
    (one,) = decode_chat(json.dumps(body).encode()).requests("id", "m", "")
    _, called, result = one.input.messages  # type: ignore[union-attr]
    (made,) = called.tool_calls or ()
    assert made["function"]["name"] == "get_weather"
    assert json.loads(made["function"]["arguments"]) == {"city": "Toronto"}
    assert len(made["id"]) == 9
    assert made["id"].isalnum()
    assert (result.role, result.name, result.tool_call_id) == ("tool", "get_weather", made["id"])


def test_results_find_their_calls_by_name_and_then_by_order() -> None:
    calls: list[Any] = [{"function": {"name": name, "arguments": {}}} for name in ("a", "b", "a")]
    results = [
        {"role": "tool", "content": name, "tool_name": name} for name in ("b", "a", "unknown")
    ]
    (one,) = ask(messages=[*HELLO, {"role": "assistant", "tool_calls": calls}, *results]).requests(
        "id", "m", ""
    )
    _, called, *answers = one.input.messages  # type: ignore[union-attr]
    ids = [made["id"] for made in called.tool_calls or ()]
    assert len(set(ids)) == 3
    assert [result.tool_call_id for result in answers] == [ids[1], ids[0], ids[2]]


def test_ids_that_are_given_stay() -> None:
    calls = [{"id": "call_x", "function": {"name": "a", "arguments": {"k": [1, {"n": None}]}}}]
    result = {"role": "tool", "content": "1", "tool_call_id": "call_x"}
    (one,) = ask(messages=[*HELLO, {"role": "Assistant", "tool_calls": calls}, result]).requests(
        "id", "m", ""
    )
    _, called, told = one.input.messages  # type: ignore[union-attr]
    assert called.role == "assistant"
    assert (called.tool_calls or ())[0]["id"] == told.tool_call_id == "call_x"


def test_a_last_answer_is_continued() -> None:
    one = request(messages=[*HELLO, {"role": "assistant", "content": "Because"}])
    assert one.input.continue_final_message  # type: ignore[union-attr]
    assert not one.input.add_generation_prompt  # type: ignore[union-attr]


def test_thinking_in_history() -> None:
    messages = [{"role": "assistant", "content": "a", "thinking": "hm"}, *HELLO]
    assert request(messages=messages).input.messages[0].reasoning_content == "hm"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("think", "expected"),
    [
        (True, {"enable_thinking": True, "thinking": True}),
        (False, {"enable_thinking": False, "thinking": False}),
        ("low", {"enable_thinking": True, "thinking": True, "reasoning_effort": "low"}),
        ("max", {"enable_thinking": True, "thinking": True, "reasoning_effort": "high"}),
    ],
)
def test_think(think: Any, expected: dict[str, Any]) -> None:
    assert request(think=think).input.template_kwargs == expected  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (None, None),
        ("", None),
        ("json", Grammar("json_object")),
    ],
)
def test_format(given: Any, expected: Grammar | None) -> None:
    assert request(format=given).grammar == expected


def test_format_by_schema() -> None:
    schema = golden("generate_format_request.json")["format"]
    grammar = request(format=schema).grammar
    assert grammar is not None
    assert grammar.kind == "json_schema"
    said = json.loads(grammar.value)
    said.pop("x-guidance")
    assert said == schema


def test_logprobs() -> None:
    assert request(logprobs=True).sampling.logprobs == 0
    assert request(logprobs=True, top_logprobs=20).sampling.logprobs == 20
    assert request(top_logprobs=5).sampling.logprobs is None


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"model": ""}, "model is required"),
        ({"top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"think": "huge"}, 'invalid think value: "huge" (must be "high", "medium", "low", "max",'),
        ({"think": 1}, "think must be a boolean or string"),
        ({"format": "xml"}, 'invalid format: "xml"; expected "json" or a valid JSON Schema object'),
        ({"format": 5}, "invalid format: 5;"),
        ({"keep_alive": "soon"}, 'time: invalid duration "soon"'),
        ({"options": {"num_predict": "x"}}, 'option "num_predict" must be of type integer'),
        ({"messages": [{"content": "x"}]}, "messages[0]: role is required"),
        ({"messages": 5}, "invalid value for 'messages'"),
        ({"_debug_render_only": True}, "'_debug_render_only' is not supported"),
        ({"messages": [{**HELLO[0], "images": ["aGk="]}]}, "'images' are not passed on"),
    ],
)
def test_what_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert message in caught.value.message


def test_arguments_must_be_objects() -> None:
    calls = [{"function": {"name": "a", "arguments": '{"as": "text"}'}}]
    with pytest.raises(InvalidRequest, match="must be an object"):
        ask(messages=[{"role": "assistant", "tool_calls": calls}])


@pytest.mark.parametrize("body", [b"", b"  "])
def test_no_body(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="missing request body"):
        decode_chat(body)


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"model": 5}', b"\xff", b'{"a":' * 5000])
def test_malformed_bodies(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        CHAT.decode(Incoming(body))


def test_a_given_value_and_what_is_said_besides_go_along() -> None:
    one = request(options={"temperature": 1.0, "num_ctx": 4096})
    assert (one.explicit, one.notes) == (("temperature",), {"options.num_ctx": 4096})


# what the model can do


def card(*capabilities: str, context: int = 4096) -> ModelCard:
    return ModelCard("m", context, capabilities=("completion", *capabilities))


def test_what_the_model_cannot_do() -> None:
    tools = golden("chat_tools_request.json")["tools"]
    for fields, able, message in (
        ({"think": True}, "thinking", '"llama3.2" does not support thinking'),
        ({"tools": tools}, "tools", '"llama3.2" does not support tools'),
    ):
        ask(**fields).check(card(able))
        with pytest.raises(Unsupported) as caught:
            ask(**fields).check(card())
        assert caught.value.message == message
    ask(think=False).check(card())
    # A model that is loading has told nothing yet.
    ask(think=True, options={"num_ctx": 9999}).check(card(context=0))


def test_a_wider_context_than_there_is() -> None:
    ask(options={"num_ctx": 4096}).check(card())
    with pytest.raises(Unsupported, match="context of 4096 tokens"):
        ask(options={"num_ctx": 4097}).check(card())


# rendering


def test_whole_answer() -> None:
    data = rendered(ask(stream=False), (text("Hello! How are"), text(" you today?"), *end()))
    ours, theirs = json.loads(data), golden("chat_response.json")
    same_shape(ours, theirs)
    assert ours["message"] == theirs["message"]
    assert ours["created_at"] == "2023-12-12T14:53:43Z"
    assert ours["done_reason"] == "stop"
    assert (ours["prompt_eval_count"], ours["eval_count"]) == (26, 298)
    assert (ours["load_duration"], ours["prompt_eval_duration"]) == (250_000_000, 500_000_000)
    assert (ours["eval_duration"], ours["total_duration"]) == (4_000_000_000, 4_750_000_000)


def test_stream() -> None:
    ours = lines(rendered(ask(), (text("The"), text(""), *end("length"))))
    theirs = golden("chat_stream.jsonl")
    assert len(ours) == 2
    for one, other in zip(ours, theirs, strict=True):
        same_shape(one, other)
    assert ours[0]["message"] == {"role": "assistant", "content": "The"}
    assert ours[1]["done_reason"] == "length"


def test_no_duration_is_zero() -> None:
    events = (RowFinished("id", 0, "stop"), Completed("id", Usage(1, 1), Timing()))
    (last,) = lines(rendered(ask(), events))
    assert all(value > 0 for key, value in last.items() if key.endswith("_duration"))


def test_tool_call_split_at_every_byte() -> None:
    arguments = '{\n  "city": "Tökyo \\ud83d\\ude82",\n  "n": 12345678901234567890\n}'
    pieces: list[Event] = [call(0, "", "get_weather"), *(call(0, one) for one in arguments)]
    ours = lines(rendered(ask(), (*pieces, *end("tool_calls"))))
    theirs = golden("chat_tools_stream.jsonl")
    assert len(ours) == 2
    same_shape(
        ours[0]["message"], {**theirs[0]["message"], "tool_calls": ours[0]["message"]["tool_calls"]}
    )
    (made,) = ours[0]["message"]["tool_calls"]
    assert made["id"] == "call_0"
    assert made["function"]["index"] == 0
    assert made["function"]["name"] == "get_weather"
    assert made["function"]["arguments"] == {"city": "Tökyo 🚂", "n": 12345678901234567890}
    assert ours[1]["done_reason"] == "stop"


def test_two_calls_and_empty_arguments() -> None:
    events = (
        Delta("id", 0, "Let me look.", (1,), None, "hm"),
        call(0, "", "a"),
        call(1, "", "b"),
        call(1, '{"x":1}'),
        *end("tool_calls"),
    )
    first, second, _ = lines(rendered(ask(), events))
    assert first["message"] == {"role": "assistant", "content": "Let me look.", "thinking": "hm"}
    assert [one["function"] for one in second["message"]["tool_calls"]] == [
        {"index": 0, "name": "a", "arguments": {}},
        {"index": 1, "name": "b", "arguments": {"x": 1}},
    ]
    whole = json.loads(rendered(ask(stream=False), events))
    assert whole["message"]["content"] == "Let me look."
    assert whole["message"]["thinking"] == "hm"
    calls = whole["message"]["tool_calls"]
    assert [one["function"]["name"] for one in calls] == ["a", "b"]
    theirs = golden("chat_tools_response.json")
    assert set(calls[0]["function"]) - {"index"} == set(
        theirs["message"]["tool_calls"][0]["function"]
    )


def made(data: bytes, *, stream: bool) -> list[Any]:
    """All calls of an answer."""
    messages = [one["message"] for one in (lines(data) if stream else [json.loads(data)])]
    return [one for message in messages for one in message.get("tool_calls", [])]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "pieces",
    [
        # In turn, each with its own arguments.
        ((0, '{"a"', "w"), (1, "", "n"), (0, ":1}", None), (1, "{}", None)),
        # The first gets its arguments when all is over.
        ((0, "", "w"), (1, '{"', "n"), (1, 'b":2}', None), (0, '{"a":1}', None)),
        # Both at once, and something behind what was whole.
        ((0, '{"a":1}', "w"), (1, '{"b":2}', "n"), (0, "\n", None)),
    ],
)
def test_pieces_of_an_earlier_call_find_it(
    pieces: tuple[tuple[int, str, str | None], ...], stream: bool
) -> None:
    events = tuple(call(index, arguments, name) for index, arguments, name in pieces)
    calls = made(rendered(ask(stream=stream), (*events, *end("tool_calls"))), stream=stream)
    assert [(one["id"], one["function"]["name"]) for one in calls] == [
        ("call_0", "w"),
        ("call_1", "n"),
    ]
    assert calls[0]["function"]["arguments"] == {"a": 1}


def test_a_whole_call_is_sent_when_the_next_begins() -> None:
    events = (call(0, '{"a":1}', "w"), call(1, '{"b"', "n"), text("x"), call(1, ":2}"), *end())
    told = [one["message"].get("tool_calls") for one in lines(rendered(ask(), events))]
    names = [one and one[0]["function"]["name"] for one in told]
    assert names == ["w", None, "n", None]


def test_calls_that_stay_open_are_bounded() -> None:
    gathered = Calls()
    deltas = [ToolCallDelta(index, f"c{index}", "f", "{") for index in range(200)]
    assert gathered.take(deltas) == []
    assert len(gathered._open) == 64
    whole, cut = gathered.end()
    assert (whole, cut.count("\n")) == ([], 199)


@pytest.mark.parametrize("stream", [True, False])
def test_a_policys_end(stream: bool) -> None:
    data = rendered(ask(stream=stream), (text("Well"), *end("content_filter")))
    last = (lines(data) if stream else [json.loads(data)])[-1]
    assert last["done_reason"] == "content_filter"


@pytest.mark.parametrize("stream", [True, False])
def test_a_call_cut_off_is_text(stream: bool) -> None:
    events = (call(0, '{"city": "Tok', "get_weather"), *end("length"))
    data = rendered(ask(stream=stream), events)
    message = lines(data)[0]["message"] if stream else json.loads(data)["message"]
    assert message == {
        "role": "assistant",
        "content": '{"name": "get_weather", "arguments": {"city": "Tok',
    }


def test_logprobs_of_each_token() -> None:
    one = TokenLogprob(
        "é", "é".encode(), 7, -0.5, (("é", "é".encode(), 7, -0.5), ("x", b"x", 8, float("-inf")))
    )
    events = (Delta("id", 0, "é", (7,), (one,)), *end())
    expected = {
        "token": "é",
        "logprob": -0.5,
        "bytes": [195, 169],
        "top_logprobs": [
            {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
            {"token": "x", "logprob": -9999.0, "bytes": [120]},
        ],
    }
    first, last = lines(rendered(ask(logprobs=True, top_logprobs=2), events))
    assert first["logprobs"] == [expected]
    assert "logprobs" not in last
    assert json.loads(rendered(ask(stream=False, logprobs=True), events))["logprobs"] == [expected]


@pytest.mark.parametrize(
    ("keep", "seconds"),
    [
        *((None, None), (0, 0.0), (-1, -1.0), (2.5, 2.5), ("0", 0.0), ("-1m", -60.0)),
        *(("1h30m", 5400.0), ("+1.5s", 1.5), (".5m2ms", 30.002), ("250us", 0.00025)),
    ],
)
def test_how_long_it_is_kept(keep: Any, seconds: float | None) -> None:
    assert ask(keep_alive=keep).keep_alive == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("keep", "why"), [(None, "load"), ("5m", "load"), (0, "unload"), ("0s", "unload")]
)
def test_no_messages(keep: Any, why: str) -> None:
    asked = ask(messages=[], keep_alive=keep)
    assert asked.requests("id", "m", "") == ()
    assert not asked.stream
    assert json.loads(rendered(asked, (), answer("llama3.2:latest"))) == {
        "model": "llama3.2:latest",
        "created_at": "2023-12-12T14:53:43Z",
        "message": {"role": "assistant", "content": ""},
        "done": True,
        "done_reason": why,
    }
