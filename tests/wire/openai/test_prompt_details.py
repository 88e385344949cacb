"""Prompts in the answers of completions and chat: `echo`, `prompt_logprobs`, `return_token_ids`.

Shapes: OpenAI's `types/completion_choice.py` (openai 3.52), where the first token of an echo has
null for its probabilities, and `serving.py` in vLLM's entrypoints/openai/completion (030ea52).
"""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.support import events
from tests.wire.support import ANSWER, TIMING, USAGE, delta, token
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import (
    Delta,
    Event,
    InfillInput,
    ModelCard,
    PromptToken,
    PromptTokens,
    RowFinished,
)
from trunkline.wire.openai.chat import ChatAsk, decode_chat
from trunkline.wire.openai.completions import CompletionAsk, decode_completion

BEST = (("Hi", b"Hi", 7, -0.25), (" my", b" my", 8, -1.5), ("!", b"!", 9, float("-inf")))
PROMPT: tuple[Event, ...] = (
    PromptTokens("r", (PromptToken("<s>", b"<s>", 1), PromptToken("He", b"He", 5, -2.5, 4, BEST))),
    PromptTokens("r", (PromptToken(" my", b" my", 8, -1.5, 2, BEST),)),
)
END = RowFinished("r", 0, "stop", None, 2)


def ask(**fields: Any) -> CompletionAsk:
    return decode_completion(json.dumps({"prompt": "He my", **fields}).encode())


def chat(**fields: Any) -> ChatAsk:
    messages = [{"role": "user", "content": "Hi"}]
    return decode_chat(json.dumps({"messages": messages, **fields}).encode())


def whole(asked: CompletionAsk | ChatAsk, *found: Event) -> Any:
    renderer = asked.renderer(ANSWER)
    for event in found:
        assert renderer.take(0, [event]) == b""
    return json.loads(renderer.finish(USAGE, TIMING))


def stream(asked: CompletionAsk | ChatAsk, *found: Event) -> list[Any]:
    renderer = asked.renderer(ANSWER)
    return events(b"".join(renderer.take(0, [event]) for event in found))


ECHOED = {
    "text_offset": [0, 0, 2, 5],
    "token_logprobs": [None, -2.5, -1.5, -0.5],
    "tokens": ["<s>", "He", " my", " cat"],
    "top_logprobs": [
        None,
        {"Hi": -0.25, "He": -2.5},
        {"Hi": -0.25, " my": -1.5},
        {" cat": -0.5},
    ],
}
ANSWERED = delta(" cat", token(" cat", 3, top=1))


def test_echo_with_log_probabilities() -> None:
    asked = ask(echo=True, logprobs=1)
    (request,) = asked.requests("r", "m", "")
    assert (request.prompt_logprobs, request.sampling.logprobs) == (1, 1)
    (choice,) = whole(asked, *PROMPT, ANSWERED, END)["choices"]
    assert choice["text"] == "He my cat"
    assert choice["logprobs"] == ECHOED
    assert "token_ids" not in choice
    assert "prompt_logprobs" not in choice


def test_echo_with_log_probabilities_in_a_stream() -> None:
    first, second, last = stream(ask(echo=True, logprobs=1, stream=True), *PROMPT, ANSWERED, END)
    parts = [one["choices"][0] for one in (first, second)]
    assert [one["text"] for one in parts] == ["He my", " cat"]
    for name, values in ECHOED.items():
        assert [value for one in parts for value in one["logprobs"][name]] == values
    assert last["choices"][0]["finish_reason"] == "stop"


def test_the_echo_alone() -> None:
    asked = ask(echo=True, logprobs=0, max_tokens=0)
    (request,) = asked.requests("r", "m", "")
    assert request.sampling.max_tokens == 0
    (choice,) = whole(asked, *PROMPT, RowFinished("r", 0, "length"))["choices"]
    assert (choice["text"], choice["finish_reason"]) == ("He my", "length")
    assert choice["logprobs"]["tokens"] == ["<s>", "He", " my"]
    assert choice["logprobs"]["top_logprobs"] == [None, {"He": -2.5}, {" my": -1.5}]


def test_the_echo_of_tokens() -> None:
    asked = ask(prompt=[[1, 5, 8], [4]], echo=True)
    requests = asked.requests("r", "m", "")
    assert [one.show_prompt for one in requests] == [True, True]
    assert requests[0].prompt_logprobs is None
    assert not ask(echo=True).requests("r", "m", "")[0].show_prompt
    renderer = asked.renderer(ANSWER)
    renderer.take(1, [PromptTokens("r-1", (PromptToken("x", b"x", 4),)), delta("y"), END])
    renderer.take(0, [*PROMPT, ANSWERED, END])
    choices = json.loads(renderer.finish(USAGE, TIMING))["choices"]
    assert [one["text"] for one in choices] == ["<s>He my cat", "xy"]


def test_each_row_has_the_echo() -> None:
    asked = ask(echo=True, logprobs=1, n=2, stream=True)
    chunks = stream(asked, *PROMPT, delta("a", token("a", 1), row=1), ANSWERED)
    assert [one["choices"][0]["index"] for one in chunks] == [1, 1, 0, 0]
    assert chunks[0]["choices"][0]["text"] == chunks[2]["choices"][0]["text"] == "He my"


RANKED = [
    None,
    {
        "5": {"logprob": -2.5, "rank": 4, "decoded_token": "He"},
        "7": {"logprob": -0.25, "rank": 1, "decoded_token": "Hi"},
        "8": {"logprob": -1.5, "rank": 2, "decoded_token": " my"},
        "9": {"logprob": -9999.0, "rank": 3, "decoded_token": "!"},
    },
    {
        "8": {"logprob": -1.5, "rank": 2, "decoded_token": " my"},
        "7": {"logprob": -0.25, "rank": 1, "decoded_token": "Hi"},
        "9": {"logprob": -9999.0, "rank": 3, "decoded_token": "!"},
    },
]


def test_prompt_logprobs() -> None:
    asked = ask(prompt_logprobs=3, return_token_ids=True)
    (request,) = asked.requests("r", "m", "")
    assert (request.prompt_logprobs, request.sampling.logprobs) == (3, None)
    (choice,) = whole(asked, *PROMPT, ANSWERED, END)["choices"]
    assert choice["prompt_logprobs"] == RANKED
    assert choice["logprobs"] is None
    assert (choice["prompt_token_ids"], choice["token_ids"]) == ([1, 5, 8], [3, 2])
    assert choice["text"] == " cat"


def test_prompt_logprobs_of_a_conversation() -> None:
    asked = chat(prompt_logprobs=3, return_token_ids=True)
    (request,) = asked.requests("r", "m", "")
    assert (request.prompt_logprobs, request.show_prompt) == (3, True)
    body = whole(asked, *PROMPT, ANSWERED, END)
    assert body["prompt_logprobs"] == RANKED
    assert body["prompt_token_ids"] == [1, 5, 8]
    assert body["choices"][0]["token_ids"] == [3, 2]


def test_token_ids_in_streams() -> None:
    chunks = stream(ask(stream=True, return_token_ids=True), *PROMPT, ANSWERED, END)
    choices = [one["choices"][0] for one in chunks]
    assert [one.get("prompt_token_ids") for one in choices] == [[1, 5, 8], None, None]
    assert [one.get("token_ids") for one in choices] == [None, [3], [2]]
    chunks = stream(chat(stream=True, return_token_ids=True), *PROMPT, ANSWERED, END)
    assert [one.get("prompt_token_ids") for one in chunks] == [[1, 5, 8], *[None] * 4]
    choices = [one["choices"][0] for one in chunks]
    assert [one["token_ids"] for one in choices if "token_ids" in one] == [[3], [2]]
    assert "".join(one["delta"].get("content", "") for one in choices) == " cat"


@pytest.mark.parametrize("fields", [{}, {"stream": True}])
def test_nobody_is_told_unasked(fields: dict[str, Any]) -> None:
    for asked in (ask(**fields), chat(**fields)):
        renderer = asked.renderer(ANSWER)
        sent = renderer.take(0, [Delta("r", 0, "x", (3,)), END]) + renderer.finish(USAGE, TIMING)
        for name in (b"token_ids", b"prompt_logprobs"):
            assert name not in sent


def test_streams_have_no_prompt_logprobs() -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(prompt_logprobs=1, stream=True)
    assert caught.value.param == "prompt_logprobs"


def test_a_suffix_is_filled_in() -> None:
    asked = ask(prompt=["a", "b"], suffix="c")
    assert [one.input for one in asked.requests("r", "m", "")] == [
        InfillInput(("a",), ("c",)),
        InfillInput(("b",), ("c",)),
    ]
    (of_tokens,) = ask(prompt=[1, 2], suffix="c").requests("r", "m", "")
    assert of_tokens.input == InfillInput(((1, 2),), ("c",))
    asked.check(ModelCard("m", 4096, capabilities=("completion", "insert")))
    # Nothing is known of it yet.
    asked.check(ModelCard("m", 0))
    with pytest.raises(Unsupported, match="'suffix' is not supported") as caught:
        asked.check(ModelCard("m", 4096, capabilities=("completion",)))
    assert caught.value.param == "suffix"
    ask().check(ModelCard("m", 4096))


def test_what_must_be_kept_is_bounded() -> None:
    prompts = ["x" * 100_000] * 8
    ask(prompt=prompts, echo=True, logprobs=19)
    ask(prompt=prompts, logprobs=20)
    with pytest.raises(InvalidRequest, match="too long for 20 alternatives") as caught:
        ask(prompt=prompts, echo=True, logprobs=20)
    assert caught.value.param == "prompt"
