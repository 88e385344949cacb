from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.ollama.support import answer, end, golden, lines, rendered, same_shape, text
from trunkline.core.errors import InvalidRequest, ModelNotFound, Unsupported
from trunkline.core.types import (
    ChatInput,
    Delta,
    InfillInput,
    Message,
    ModelCard,
    Request,
    SamplingParams,
    TextInput,
)
from trunkline.wire.ollama.generate import GenerateAsk, decode_generate


def ask(**fields: Any) -> GenerateAsk:
    return decode_generate(json.dumps({"model": "llama3.2", "prompt": "Why?", **fields}).encode())


def request(**fields: Any) -> Request:
    (one,) = ask(**fields).requests("id", "m", "")
    return one


def test_the_published_request() -> None:
    decoded = decode_generate(json.dumps(golden("generate_request.json")).encode())
    (one,) = decoded.requests("id", "m", "")
    assert not decoded.stream
    assert one.sampling == SamplingParams(
        temperature=0.8,
        top_k=20,
        top_p=0.9,
        typical_p=0.7,
        repetition_penalty=1.2,
        presence_penalty=1.5,
        frequency_penalty=1.0,
        seed=42,
        max_tokens=100,
    )
    assert one.stop == ("\n", "user:")
    assert one.input == ChatInput((Message("user", "Why is the sky blue?"),))
    assert (one.tool_choice, one.overflow, one.return_prompt_ids) == ("none", "cap", True)


def test_system_and_context() -> None:
    one = request(system="Be brief.", context=[1, 2, 3], think=False)
    assert one.input == ChatInput(
        (Message("system", "Be brief."), Message("user", "Why?")),
        template_kwargs={"enable_thinking": False, "thinking": False},
        prefix_ids=(1, 2, 3),
    )


def test_raw() -> None:
    one = request(raw=True)
    assert one.input == TextInput("Why?")
    assert not one.return_prompt_ids


def test_a_given_value_and_what_is_said_besides_go_along() -> None:
    one = request(options={"temperature": 1.0, "num_ctx": 4096})
    assert (one.explicit, one.notes) == (("temperature",), {"options.num_ctx": 4096})


def test_a_model_without_template_gets_the_bare_prompt() -> None:
    asked = ask(system="Be brief.")
    asked.check(ModelCard("m", 4096))
    (one,) = asked.requests("id", "m", "")
    assert one.input == TextInput("Be brief.\n\nWhy?")
    chat = ask()
    chat.check(ModelCard("m", 4096, chat_template="{{ messages }}"))
    assert isinstance(chat.requests("id", "m", "")[0].input, ChatInput)


@pytest.mark.parametrize(
    "field", [{"template": "{{ .Prompt }}"}, {"system": "x"}, {"context": [1]}]
)
def test_raw_excludes(field: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        ask(raw=True, **field)
    assert caught.value.message == "raw mode does not support template, system, or context"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"template": "{{ .Prompt }}"}, "'template' is not supported"),
        ({"images": ["aGk="]}, "'images' are not passed on"),
    ],
)
def test_what_no_model_can_do(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(Unsupported) as caught:
        ask(**fields)
    assert message in caught.value.message


def test_a_suffix_is_filled_in() -> None:
    assert request(suffix="return", system="x").input == InfillInput(("Why?",), ("return",))
    # A raw prompt is the whole prompt.
    assert request(suffix="return", raw=True).input == TextInput("Why?")
    ask(suffix="return").check(ModelCard("m", 4096, capabilities=("completion", "insert")))
    with pytest.raises(Unsupported) as caught:
        ask(suffix="return").check(ModelCard("m", 4096, capabilities=("completion",)))
    assert caught.value.message == '"llama3.2" does not support insert'


def test_a_model_must_be_named() -> None:
    with pytest.raises(ModelNotFound):
        ask(model="")


def test_whole_answer() -> None:
    data = rendered(
        ask(stream=False), (text("The sky", 7, 8), text(" is blue.", 9), *end("stop", (1, 2)))
    )
    ours = json.loads(data)
    same_shape(ours, golden("generate_response.json"))
    assert ours["response"] == "The sky is blue."
    assert ours["context"] == [1, 2, 7, 8, 9]


def test_stream() -> None:
    ours = lines(rendered(ask(), (text("The"), *end("length", (1, 2)))))
    for one, other in zip(ours, golden("generate_stream.jsonl"), strict=True):
        same_shape(one, other)
    assert ours[0]["response"] == "The"
    assert (ours[1]["response"], ours[1]["done_reason"]) == ("", "length")
    assert ours[1]["context"] == [1, 2, 1]


def test_raw_answers_have_no_context() -> None:
    assert "context" not in json.loads(rendered(ask(stream=False, raw=True), (text("x"), *end())))


def test_thinking() -> None:
    events = (Delta("id", 0, "", (1,), None, "hm"), Delta("id", 0, "So", (2,)), *end())
    first, second, _ = lines(rendered(ask(), events))
    assert (first["thinking"], first["response"]) == ("hm", "")
    assert "thinking" not in second
    whole = json.loads(rendered(ask(stream=False), events))
    assert (whole["thinking"], whole["response"]) == ("hm", "So")


def test_load_and_unload() -> None:
    loaded = decode_generate(b'{"model": "llama3.2"}')
    assert loaded.requests("id", "m", "") == ()
    ours = json.loads(rendered(loaded, ()))
    same_shape(ours, golden("load_response.json"))
    assert ours["done_reason"] == "load"
    asked = decode_generate(json.dumps(golden("unload_request.json")).encode())
    ours = json.loads(rendered(asked, (), answer()))
    same_shape(ours, golden("unload_response.json"))
    assert ours["done_reason"] == "unload"
