from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.support import events, golden, same_shape
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    Delta,
    Event,
    RowFinished,
    TextInput,
    Timing,
    TokenLogprob,
    TokensInput,
    Usage,
)
from trunkline.wire.codec import Answer
from trunkline.wire.openai.completions import CompletionAsk, decode_completion


def ask(**fields: Any) -> CompletionAsk:
    return decode_completion(json.dumps({"prompt": "Say this is a test", **fields}).encode())


def answer(name: str = "completion.json") -> Answer:
    example = golden(name)
    return Answer(
        *(example["id"], example["model"], example["created"], example["system_fingerprint"])
    )


def test_the_published_request_decodes() -> None:
    decoded = decode_completion(json.dumps(golden("completion_request.json")).encode())
    (one,) = decoded.requests("cmpl-1", "caboose", "")
    assert one.input == TextInput("Say this is a test")
    assert (one.sampling.max_tokens, one.sampling.temperature) == (7, 0.0)


def test_without_max_tokens_it_is_16() -> None:
    (one,) = ask().requests("x", "m", "")
    assert one.sampling.max_tokens == 16


def test_max_tokens_null_is_the_rest_of_the_context() -> None:
    (one,) = ask(max_tokens=None).requests("r", "m", "")
    assert one.sampling.max_tokens is None


@pytest.mark.parametrize(
    ("prompt", "inputs"),
    [
        ("a", [TextInput("a")]),
        ("", [TextInput("")]),
        (["a", "b"], [TextInput("a"), TextInput("b")]),
        ([1, 2], [TokensInput((1, 2))]),
        ([[1, 2], [3]], [TokensInput((1, 2)), TokensInput((3,))]),
    ],
)
def test_prompts(prompt: Any, inputs: list[Any]) -> None:
    requests = ask(prompt=prompt).requests("x", "m", "")
    assert [one.input for one in requests] == inputs
    assert len({one.id for one in requests}) == len(inputs)


def test_prompts_without_special_tokens() -> None:
    (one,) = ask(add_special_tokens=False).requests("x", "m", "")
    assert one.input == TextInput("Say this is a test", add_special_tokens=False)


@pytest.mark.parametrize(
    "prompt",
    [
        None,
        5,
        {},
        [],
        [[]],
        [[], [1]],
        ["a", 1],
        [1, "a"],
        [[1], 2],
        [-1],
        [2**31],
        [1.5],
        [True],
        [None],
        ["a"] * 257,
    ],
)
def test_other_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(prompt=prompt)
    assert (caught.value.param or "").startswith("prompt")


def test_a_prompt_is_needed() -> None:
    with pytest.raises(InvalidRequest) as caught:
        decode_completion(b"{}")
    assert caught.value.param == "prompt"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt_embeds": "x"}, "prompt_embeds"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        ask(**fields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 0, "prompt_logprobs": 1}, "max_tokens"),
        ({"echo": True, "suffix": "x"}, "echo"),
        ({"prompt_logprobs": 21}, "prompt_logprobs"),
        ({"prompt_logprobs": -1}, "prompt_logprobs"),
        ({"prompt_logprobs": 1, "stream": True}, "prompt_logprobs"),
        ({"prompt": ["a"] * 100, "n": 100}, "prompt"),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(**fields)
    assert caught.value.param == param


def test_neutral_values_are_accepted() -> None:
    ask(echo=False, suffix="", best_of=1, n=1, logprobs=0, response_format={"type": "text"})
    ask(echo=None, suffix=None, best_of=None, logprobs=20)


def test_the_published_response() -> None:
    renderer = ask().renderer(answer())
    renderer.take(0, [Delta("x", 0, "\n\nThis is "), Delta("x", 0, "indeed a test")])
    renderer.take(0, [RowFinished("x", 0, "length")])
    same_shape(json.loads(renderer.finish(Usage(5, 7), Timing())), golden("completion.json"))


def test_the_published_chunk() -> None:
    renderer = ask(stream=True).renderer(answer("completion_chunk.json"))
    (chunk,) = events(renderer.take(0, [Delta("x", 0, "This")]))
    same_shape(chunk, golden("completion_chunk.json"))
    end, usage_free = events(
        renderer.take(0, [RowFinished("x", 0, "length")]) + renderer.finish(Usage(1, 1), Timing())
    )
    assert end["choices"][0]["finish_reason"] == "length"
    assert usage_free == "[DONE]"


def test_choices_count_through_prompts_and_rows() -> None:
    whole = ask(prompt=["a", "b"], n=2).renderer(answer())
    stream = ask(prompt=["a", "b"], n=2, stream=True).renderer(answer())
    sent = b""
    for prompt in (1, 0):
        for row in (1, 0):
            pieces: list[Event] = [Delta("x", row, f"{prompt}{row}"), RowFinished("x", row, "stop")]
            whole.take(prompt, pieces)
            sent += stream.take(prompt, pieces)
    choices = json.loads(whole.finish(Usage(2, 4), Timing()))["choices"]
    assert [(one["index"], one["text"]) for one in choices] == [
        (0, "00"),
        (1, "01"),
        (2, "10"),
        (3, "11"),
    ]
    texts = [chunk["choices"][0] for chunk in events(sent)]
    assert [one["index"] for one in texts if one["text"]] == [3, 2, 1, 0]


def test_logprobs_are_four_lists() -> None:
    one = TokenLogprob("He", b"He", 1, -0.5, (("He", b"He", 1, -0.5), ("Hi", b"Hi", 2, -1.5)))
    two = TokenLogprob("llo", b"llo", 3, -2.5, (("y", b"y", 4, -0.25),))
    whole = ask(logprobs=2).renderer(answer())
    whole.take(0, [Delta("x", 0, "He", (1,), (one,)), Delta("x", 0, "llo", (3,), (two,))])
    shown = json.loads(whole.finish(Usage(1, 2), Timing()))["choices"][0]["logprobs"]
    assert shown == {
        "text_offset": [0, 2],
        "token_logprobs": [-0.5, -2.5],
        "tokens": ["He", "llo"],
        "top_logprobs": [{"He": -0.5, "Hi": -1.5}, {"y": -0.25, "llo": -2.5}],
    }
    stream = ask(logprobs=2, stream=True).renderer(answer())
    sent = stream.take(0, [Delta("x", 0, "He", (1,), (one,))])
    sent += stream.take(0, [Delta("x", 0, "llo", (3,), (two,))])
    assert [chunk["choices"][0]["logprobs"]["text_offset"] for chunk in events(sent)] == [[0], [2]]


def test_usage_of_a_stream() -> None:
    renderer = ask(stream=True, stream_options={"include_usage": True}).renderer(answer())
    sent = renderer.take(0, [Delta("x", 0, "a")]) + renderer.finish(Usage(5, 7), Timing())
    chunk, usage, done = events(sent)
    assert chunk["usage"] is None
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 12
    assert done == "[DONE]"


def test_echo_puts_the_prompt_before_each_completion() -> None:
    asked = ask(prompt=["One", "Two"], n=2, echo=True)
    renderer = asked.renderer(answer())
    for prompt in (0, 1):
        renderer.take(prompt, [Delta("x", row, f"-{row}") for row in (0, 1)])
    choices = json.loads(renderer.finish(Usage(1, 1), Timing()))["choices"]
    assert [one["text"] for one in choices] == ["One-0", "One-1", "Two-0", "Two-1"]
    stream = ask(prompt=["One", "Two"], echo=True, stream=True).renderer(answer())
    sent = stream.take(1, [Delta("x", 0, "!"), Delta("x", 0, "?")])
    # Also where nothing follows.
    sent += stream.take(0, [RowFinished("x", 0, "stop")])
    shown = [(one["choices"][0]["index"], one["choices"][0]["text"]) for one in events(sent)]
    assert shown == [(1, "Two"), (1, "!"), (1, "?"), (0, "One"), (0, "")]


def test_the_best_are_those_with_the_highest_logprob_per_token() -> None:
    asked = ask(prompt=["a", "b"], n=2, best_of=3)
    first, _ = asked.requests("x", "m", "")
    assert (first.n, first.sampling.logprobs) == (3, 0)
    renderer = asked.renderer(answer())
    means = ((-1.0, -0.1, -0.5), (-0.2, -3.0, float("-inf")))
    for prompt, row_means in enumerate(means):
        for row, mean in enumerate(row_means):
            # The longest has the lowest sum; it is the mean that counts.
            for _ in range(4 if row == 1 else 1):
                one = TokenLogprob("t", b"t", 1, mean)
                renderer.take(prompt, [Delta("x", row, str(row), (1,), (one,))])
            renderer.take(prompt, [RowFinished("x", row, "length")])
    choices = json.loads(renderer.finish(Usage(1, 1), Timing()))["choices"]
    assert [(one["index"], one["text"]) for one in choices] == [
        (0, "1111"),
        (1, "2"),
        (2, "0"),
        (3, "1111"),
    ]
    assert all(one["logprobs"] is None for one in choices)


def test_the_best_cannot_be_streamed() -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(best_of=2, stream=True)
    assert caught.value.param == "best_of"
