from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.anthropic.support import answered, ask, called, ended, events, text, thought
from trunkline.core.types import Delta, Event, FinishReason, Usage

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
            if name == "signature":
                block["signature"] = event["delta"][name]
            else:
                pieces.append(event["delta"][name])
        elif block["type"] == "tool_use":
            block["input"] = json.loads("".join(pieces) or "{}")
        else:
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
