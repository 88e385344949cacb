from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.anthropic.support import (
    ANSWER,
    answered,
    ask,
    called,
    ended,
    events,
    request,
    text,
    thought,
)
from trunkline.core.types import ChatInput, Delta, Event, FinishReason, Thought, Usage
from trunkline.wire.anthropic.answer import SIGNATURE

NOTHING = Usage(5, 1)


def whole(*batch: Event, usage: Usage = NOTHING, **fields: Any) -> Any:
    return json.loads(answered(ask(**fields), [batch], usage))


def streamed(*batch: Event, usage: Usage = NOTHING, **fields: Any) -> list[Any]:
    call = ask(stream=True, **fields)
    return events(answered(call, [[event] for event in batch], usage))


def assembled(stream: list[Any]) -> Any:
    """The message that a client makes of a stream, as the docs say; order is checked."""
    first, ping, *middle, last, stop = stream
    assert (first["type"], ping["type"], stop["type"]) == ("message_start", "ping", "message_stop")
    message = first["message"]
    pieces: list[str] = []
    for event in middle:
        kind = event["type"]
        if kind == "content_block_start":
            assert event["index"] == len(message["content"])
            message["content"].append(event["content_block"])
            pieces = []
            continue
        assert event["index"] == len(message["content"]) - 1
        block = message["content"][-1]
        if kind == "content_block_delta":
            (name,) = set(event["delta"]) - {"type"}
            assert name != "partial_json" or block["type"] == "tool_use"
            if name == "signature":
                block["signature"] = event["delta"][name]
            else:
                pieces.append(event["delta"][name])
        elif block["type"] == "tool_use":
            block["input"] = json.loads("".join(pieces) or "{}")
        elif block["type"] != "redacted_thinking":
            assert kind == "content_block_stop"
            block[block["type"]] = "".join(pieces)
    message |= last["delta"]
    message["usage"] |= last["usage"]
    return message


@pytest.mark.parametrize(
    ("reason", "stop", "expected"),
    [
        ("stop", None, ("end_turn", None)),
        ("stop", 151645, ("end_turn", None)),
        ("stop", "END", ("stop_sequence", "END")),
        ("length", None, ("max_tokens", None)),
        ("tool_calls", None, ("tool_use", None)),
        # A stop string within a call ends the answer as it would within text.
        ("cancelled", None, ("end_turn", None)),
    ],
)
def test_stop_reasons(
    reason: FinishReason, stop: str | int | None, expected: tuple[str, str | None]
) -> None:
    message = whole(text("a"), ended(reason, stop))
    assert (message["stop_reason"], message["stop_sequence"]) == expected


def test_a_stop_string_within_a_call_leaves_what_there_was() -> None:
    batch = (called(0, '{"a": "x', "f"), ended("stop", "END"))
    message = whole(*batch)
    assert message["content"] == [{"type": "tool_use", "id": "call_1", "name": "f", "input": {}}]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")
    pieces = [
        event["delta"]["partial_json"]
        for event in streamed(*batch)
        if event["type"] == "content_block_delta"
    ]
    assert pieces == ['{"a": "x']


def test_cached_tokens_are_not_input_tokens() -> None:
    usage = whole(text("a"), ended(), usage=Usage(100, 7, cached_tokens=64, reasoning_tokens=3))
    assert usage["usage"] == {
        "input_tokens": 36,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 64,
        "output_tokens": 7,
        "output_tokens_details": {"thinking_tokens": 3},
        "service_tier": "standard",
    }


def test_who_asks_for_caching_reads_what_was_written() -> None:
    marked = [{"type": "text", "text": "Hi", "cache_control": {"type": "ephemeral"}}]
    message = whole(
        text("a"),
        ended(),
        usage=Usage(100, 7, cached_tokens=64),
        messages=[{"role": "user", "content": marked}],
    )
    used = message["usage"]
    counts = [used[f"{name}input_tokens"] for name in ("", "cache_creation_", "cache_read_")]
    assert counts == [1, 35, 64]


def test_the_words_cache_control_in_a_text_ask_for_nothing() -> None:
    said = [{"role": "user", "content": 'What is "cache_control": {"type": "ephemeral"}?'}]
    message = whole(text("a"), ended(), usage=Usage(100, 7), messages=said, cache_control=None)
    assert message["usage"]["input_tokens"] == 100


def test_no_block_of_whitespace_alone_before_or_between_calls() -> None:
    batch = (
        thought("Hm."),
        text("\n\n"),
        called(0, "{}", "f"),
        text("\n"),
        called(1, "{}", "g"),
        text("\n"),
        ended("tool_calls"),
    )
    kinds = [block["type"] for block in whole(*batch)["content"]]
    assert kinds == ["thinking", "tool_use", "tool_use"]


def test_whitespace_before_text_stays() -> None:
    message = whole(text("\n"), text(" "), text(" a\n"), text("\n"), text("b"), ended())
    assert message["content"] == [{"type": "text", "text": "\n  a\n\nb"}]


def test_whitespace_alone_is_an_answer() -> None:
    assert whole(text("\n"), ended("length"))["content"] == [{"type": "text", "text": "\n"}]
    found = assembled(streamed(text("\n"), ended("length")))
    assert found["content"] == [{"type": "text", "text": "\n"}]


def test_endless_whitespace_flows() -> None:
    sent = [text(" ") for _ in range(200)]
    found = assembled(streamed(*sent, ended("length")))
    assert found["content"][0]["text"] == " " * 200


def test_no_output_is_no_block() -> None:
    assert whole(ended())["content"] == []
    assert [event["type"] for event in streamed(ended())] == [
        "message_start",
        "ping",
        "message_delta",
        "message_stop",
    ]


def test_huge_numbers_in_arguments_survive() -> None:
    body = answered(ask(), [[called(0, '{"n": 123456789012345678901}', "f"), ended()]], NOTHING)
    assert b'"input":{"n": 123456789012345678901}' in body


def test_reasoning_text_and_call_in_one_delta() -> None:
    call = called(0, "{}", "f").tool_calls
    one = Delta("id", 0, "b", (1,), reasoning="a", tool_calls=call)
    found = assembled(streamed(one, ended("tool_calls")))
    assert [block["type"] for block in found["content"]] == ["thinking", "text", "tool_use"]
    assert found == whole(one, ended("tool_calls"))


def test_what_was_written_to_the_cache_is_no_input() -> None:
    told = whole(text("a"), ended(), usage=Usage(100, 7, 64, cache_write_tokens=30))["usage"]
    counts = [told[f"{name}input_tokens"] for name in ("", "cache_creation_", "cache_read_")]
    assert counts == [6, 30, 64]


# Thoughts that their provider sealed


def signed(signature: str) -> Delta:
    return Delta("id", 0, "", seal=Thought("", signature))


SEALED = Delta("id", 0, "", seal=Thought("", sealed="xyz"))


def test_seals_come_out_as_they_were_given() -> None:
    batch = (thought("Hm"), thought("."), signed("s1"), SEALED, signed("s2"), text("b"), ended())
    message = whole(*batch)
    assert message["content"] == [
        {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "", "signature": "s2"},
        {"type": "text", "text": "b"},
    ]
    found = [one for one in streamed(*batch) if one["type"] == "content_block_delta"]
    signatures = [one["delta"].get("signature") for one in found if one["index"] in (0, 2)]
    assert signatures == [None, None, "s1", "s2"]


def test_a_seal_is_of_one_thought_alone() -> None:
    batch = (
        thought("a"),
        signed("s1"),
        thought("b"),
        SEALED,
        Delta("id", 0, "c", reasoning="d", seal=Thought("", "s2")),
        ended(),
    )
    content = whole(*batch)["content"]
    assert [block.get("signature") for block in content] == ["s1", SIGNATURE, None, "s2", None]
    hidden = whole(*batch, thinking={"type": "adaptive", "display": "omitted"})["content"]
    assert [one["thinking"] for one in hidden if "thinking" in one] == ["", "", ""]
    assert hidden[0]["signature"] == "s1"


@pytest.mark.parametrize("stream", [True, False])
def test_the_official_client_reads_seals_and_sends_them_back(stream: bool) -> None:
    batch = (thought("Hm."), signed("s1"), SEALED, called(0, "{}", "f"), ended("tool_calls"))
    asked: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        asked.append(json.loads(request.content))
        body = answered(ask(stream=stream), [[event] for event in batch], NOTHING)
        kind = "text/event-stream" if stream else "application/json"
        return httpx2.Response(200, headers={"content-type": kind}, content=body)

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    turns: list[Any] = [{"role": "user", "content": "a"}]
    with anthropic.Anthropic(api_key="x", max_retries=0, http_client=http) as client:
        message: anthropic.types.Message
        if stream:
            with client.messages.stream(model="m", max_tokens=9, messages=turns) as events_:
                message = events_.get_final_message()
        else:
            message = client.messages.create(model="m", max_tokens=9, messages=turns)
        turns.append({"role": "assistant", "content": message.content})
        turns.append({"role": "user", "content": "b"})
        client.messages.with_raw_response.create(
            model="m", max_tokens=9, messages=turns, stream=stream
        )
    thinking, redacted, use = asked[1]["messages"][1]["content"]
    assert (thinking["thinking"], thinking["signature"]) == ("Hm.", "s1")
    assert redacted["data"] == "xyz"
    assert use["name"] == "f"
    again = request(messages=asked[1]["messages"]).input
    assert isinstance(again, ChatInput)
    assert again.messages[1].thoughts == (Thought("Hm.", "s1"), Thought("", sealed="xyz"))


# Calls whose pieces come in turns


def test_pieces_of_an_earlier_call_open_no_block() -> None:
    """As the deltas of OpenAI's dialect may come: each with the index of its call."""
    late = (called(0, "", "w"), called(1, '{"b":2}', "n"), called(0, "{}"), ended("tool_calls"))
    mixed = (
        called(0, '{"a"', "w"),
        called(1, "", "n"),
        called(0, ":1"),
        called(1, "{}"),
        called(0, "}"),
        ended("tool_calls"),
    )
    for batch, inputs in ((late, [{}, {"b": 2}]), (mixed, [{"a": 1}, {}])):
        message = whole(*batch)
        assert [block["name"] for block in message["content"]] == ["w", "n"]
        assert [block["input"] for block in message["content"]] == inputs
        assert assembled(streamed(*batch)) == message


def test_a_call_whose_arguments_never_end_holds_others_back_to_the_end_alone() -> None:
    batch = (called(0, '{"a', "w"), called(1, "{}", "n"), ended("length"))
    for message in (whole(*batch), assembled(streamed(*batch[1:]))):
        assert message["content"][-1]["name"] == "n"
    pieces = [one["delta"] for one in streamed(*batch) if one["type"] == "content_block_delta"]
    assert [one["partial_json"] for one in pieces] == ['{"a', "{}"]
    # A million characters do not wait.
    long = streamed(called(0, "", "w"), called(1, "{" + "1" * (1 << 20), "n"), called(1, "2"))
    assert long[-4]["delta"]["partial_json"] == "2"
    said = streamed(called(0, "{", "w"), text("b" * (1 << 20)), text("c"), called(0, "late"))
    assert [one.get("delta", {}).get("text", "")[-1:] for one in said][6] == "c"


def test_what_comes_between_the_pieces_of_a_call_comes_after_it() -> None:
    """As some servers of OpenAI's dialect tell of it."""
    spaces = (called(0, "{", "w"), text("\n"), called(0, "}"), called(1, "{}", "n"))
    sealed = (called(0, "{", "w"), thought("a"), signed("s"), SEALED, called(0, "}"), text("b"))
    mixed = (
        text("a"),
        called(0, '{"c"', "w"),
        text("mid"),
        thought("Hm"),
        called(0, ':"1"'),
        thought("."),
        called(1, "{", "n"),
        text("z"),
        called(1, "}"),
        called(0, "}"),
        text("end"),
    )
    for batch, kinds in (
        (spaces, ["tool_use", "tool_use"]),
        (sealed, ["tool_use", "thinking", "redacted_thinking", "text"]),
        (mixed, ["text", "tool_use", "text", "thinking", "tool_use", "text"]),
        ((called(0, "", "w"), text("b")), ["tool_use", "text"]),
    ):
        message = whole(*batch, ended("tool_calls"))
        assert [block["type"] for block in message["content"]] == kinds
        assert assembled(streamed(*batch, ended("tool_calls"))) == message


def test_what_waits_comes_as_soon_as_it_may() -> None:
    renderer = ask(stream=True).renderer(ANSWER)
    taken = [
        renderer.take(0, [one])
        for one in (called(0, "{", "w"), text("b"), called(0, "}"), text("c"))
    ]
    assert taken[1] == b""
    assert b'"text":"b"' in taken[2]
    assert taken[3].count(b"event: ") == 1


@pytest.mark.parametrize(
    ("pieces", "given"),
    [
        (("[", "1]"), {"input": "[1]"}),
        ((" ", '"a', 'b"'), {"input": '"ab"'}),
        (("null",), {}),
        ((" ", "{ }"), {}),
    ],
)
def test_arguments_that_are_no_object(pieces: tuple[str, ...], given: Any) -> None:
    batch = [called(0, "", "w"), *(called(0, piece) for piece in pieces), called(1, "{}", "n")]
    message = whole(*batch, ended("tool_calls"))
    assert message["content"][0]["input"] == given
    assert assembled(streamed(*batch, ended("tool_calls"))) == message


def test_arguments_that_are_cut_short_are_none() -> None:
    said = '{"a": true, "b":[1.5e3,-2,null,"x\\u00e9\\n\\ud83d\\ude00"], "é漢": {"c":{}}}'
    for size in range(len(said) + 1):
        (block,) = whole(called(0, said[:size], "w"), ended("length"))["content"]
        assert (block["input"] == {}) is (size < len(said))


def test_no_arguments_are_lost_behind_an_object() -> None:
    block = whole(called(0, '{}{"a":1}', "w"), ended("tool_calls"))["content"][0]
    assert block["input"] == {"input": '{}{"a":1}'}


def test_what_comes_after_the_end_is_whole() -> None:
    for late in (text("y"), thought("y"), called(1, "{}", "n"), called(1, '{"a', "n")):
        for first in (text("x"), called(0, "{}", "w"), called(0, "{", "w")):
            batch = (first, ended(), late)
            message = whole(*batch)
            found = streamed(*batch)
            starts = [one["index"] for one in found if one["type"] == "content_block_start"]
            stops = [one["index"] for one in found if one["type"] == "content_block_stop"]
            assert starts == stops == list(range(len(message["content"])))
            assert ('"y"' in json.dumps(message)) is bool(late.text or late.reasoning)


def test_what_never_began_is_nothing() -> None:
    batch = (called(3, "{}"), text("a"), ended())
    assert whole(*batch)["content"] == [{"type": "text", "text": "a"}]
    assert assembled(streamed(*batch)) == whole(*batch)


@given(
    texts=st.lists(st.sampled_from(["{}", '{"a":1}', '{"b":{"c":[]}}']), min_size=1, max_size=4),
    order=st.lists(st.integers(0, 5), max_size=40),
)
def test_calls_arrive_whole_in_whatever_order(texts: list[str], order: list[int]) -> None:
    left = [[None, *text] for text in texts]
    batch: list[Event] = []
    for number in [*order, *(n for n in range(len(texts)) for _ in range(20))]:
        if number > 3:
            batch.append(text(" a") if number == 4 else thought("b"))
        elif number < len(texts) and left[number]:
            piece = left[number].pop(0)
            batch.append(called(number, piece or "", "f" if piece is None else None))
    message = assembled(streamed(*batch, ended("tool_calls")))
    assert message == whole(*batch, ended("tool_calls"))
    blocks = [block for block in message["content"] if block["type"] == "tool_use"]
    inputs = sorted(json.dumps(block["input"]) for block in blocks)
    assert inputs == sorted(json.dumps(json.loads(text)) for text in texts)


def test_max_tokens_of_zero_says_nothing() -> None:
    batch = (text("a"), ended("length"))
    message = whole(*batch, max_tokens=0)
    assert (message["content"], message["stop_reason"]) == ([], "max_tokens")
    assert message["usage"]["output_tokens"] == 0
    assert assembled(streamed(*batch, max_tokens=0)) == message


# What a model may say: thinking, then texts and calls; all cut anywhere.
words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
arguments = st.dictionaries(words, words | st.integers() | st.none(), max_size=3).map(
    lambda value: json.dumps(value, ensure_ascii=False)
)


@given(
    thinking=st.none() | words,
    parts=st.lists(words.map(lambda word: ("text", word)) | arguments.map(lambda a: ("call", a))),
    size=st.integers(1, 5),
)
def test_stream_and_message_say_the_same(
    thinking: str | None, parts: list[tuple[str, str]], size: int
) -> None:
    batch: list[Event] = []
    if thinking is not None:
        batch += [thought(piece) for piece in cut(thinking, size)]
    calls = 0
    for kind, value in parts:
        if kind == "text":
            batch += [text(piece) for piece in cut(value, size)]
        else:
            batch.append(called(calls, "", "f"))
            batch += [called(calls, piece) for piece in cut(value, size)]
            calls += 1
    batch.append(ended("tool_calls" if calls else "stop"))
    message = whole(*batch)
    assert assembled(streamed(*batch)) == message
    inputs = [json.loads(value) for kind, value in parts if kind == "call"]
    assert [b["input"] for b in message["content"] if b["type"] == "tool_use"] == inputs


def cut(value: str, size: int) -> list[str]:
    return [value[i : i + size] for i in range(0, len(value), size)]
