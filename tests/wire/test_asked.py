"""Nothing that a request asks for is lost unnoticed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.speaking import WEATHER, asking, body, chat, terms
from trunkline.core.errors import InvalidRequest, Unsupported
from trunkline.core.types import Grammar, SamplingParams, TextInput, TokensInput
from trunkline.wire.asked import Asked, Reasoning, chat_input, prompt_text, schema_of
from trunkline.wire.client import Terms
from trunkline.wire.codec import Incoming
from trunkline.wire.speakers import SPEAKERS
from trunkline.wire.table import ROUTES


def test_what_finds_no_place_is_refused_by_its_name() -> None:
    request = asking(sampling=SamplingParams(temperature=0.5, top_k=3))
    asked = Asked(request, terms("top_k"))
    sent = {"model": "m"}
    asked.put(sent, "temperature", "temperature")
    asked.put(sent, "top_k", "top_k")
    with pytest.raises(Unsupported, match="'top_k'") as caught:
        asked.outgoing("/x", sent)
    assert caught.value.param == "top_k"


def test_what_finds_no_place_is_left_out_and_told_where_the_terms_say_so() -> None:
    request = asking(sampling=SamplingParams(temperature=0.5, top_k=3, seed=1), n=2)
    asked = Asked(request, terms(unsupported="drop"))
    sent: dict[str, object] = {}
    asked.put(sent, "temperature", "temperature")
    outgoing = asked.outgoing("/x", sent)
    assert body(outgoing) == {"temperature": 0.5}
    assert set(outgoing.dropped) == {"top_k", "seed", "n"}


def test_what_only_helps_along_is_never_refused_but_told() -> None:
    asked = Asked(asking(sampling=SamplingParams(seed=1)), terms())
    asked.pass_over("seed")
    assert asked.outgoing("/x", {}).dropped == ("seed",)


def test_further_fields_of_the_terms_win() -> None:
    asked = Asked(asking(), terms(extra_body={"a": 2, "b": 3}))
    assert body(asked.outgoing("/x", {"a": 1, "c": 4})) == {"a": 2, "b": 3, "c": 4}


def test_defaults_of_the_terms_are_for_what_is_not_said() -> None:
    asked = Asked(asking(), terms(default_body={"a": 2, "b": 3}, extra_body={"b": 4}))
    assert body(asked.outgoing("/x", {"a": 1})) == {"a": 1, "b": 4}
    # The longest answer has several names.
    asked = Asked(asking(), terms(default_body={"max_tokens": 2, "seed": 1}))
    assert body(asked.outgoing("/x", {"max_completion_tokens": 9})) == {
        "max_completion_tokens": 9,
        "seed": 1,
    }


@pytest.mark.parametrize("given", [None, 7])
@pytest.mark.parametrize(
    ("operation", "name"),
    [
        ("openai.chat", "max_tokens"),
        ("openai.completions", "max_tokens"),
        ("openai.responses", "max_output_tokens"),
        ("anthropic.messages", "max_tokens"),
    ],
)
def test_each_dialect_has_its_own_name_for_the_longest_answer(
    operation: str, name: str, given: int | None
) -> None:
    source = TextInput("x") if operation == "openai.completions" else chat("x")
    request = asking(source, sampling=SamplingParams(max_tokens=given))
    defaults = {"max_tokens": 5, "reasoning_effort": "low"}
    sent = body(SPEAKERS[operation].encode(request, terms(default_body=defaults)))
    lengths = {key: value for key, value in sent.items() if key.endswith("_tokens")}
    assert lengths == {name: given or 5}
    assert ("reasoning_effort" in sent) == (operation != "openai.responses")


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"enable_thinking": True}, Reasoning(enabled=True)),
        ({"thinking": False, "enable_thinking": False}, Reasoning(enabled=False)),
        ({"reasoning_effort": "low"}, Reasoning(effort="low")),
        ({}, Reasoning()),
    ],
)
def test_thinking_in_all_its_spellings(variables: dict[str, object], expected: Reasoning) -> None:
    request = asking(chat("x", template_kwargs=variables))
    asked = Asked(request, terms())
    assert asked.reasoning() == expected
    assert asked.outgoing("/x", {}).dropped == ()


def test_a_server_that_never_thinks_need_not_be_told() -> None:
    request = asking(chat("x", template_kwargs={"enable_thinking": False}))
    asked = Asked(request, terms("reasoning"))
    assert asked.reasoning() == Reasoning()
    assert asked.outgoing("/x", {}).dropped == ()


def test_other_template_variables_are_asked_for() -> None:
    request = asking(chat("x", tools=(WEATHER,), template_kwargs={"documents": []}))
    with pytest.raises(Unsupported, match="'chat_template_kwargs'"):
        Asked(request, terms()).outgoing("/x", {})


def test_hints_are_no_demands() -> None:
    request = asking(priority=3, cache_salt="s", tenant="t", affinity="a", return_prompt_ids=True)
    assert Asked(request, terms()).outgoing("/x", {}).dropped == ()


def test_only_the_prompts_that_there_are() -> None:
    with pytest.raises(Unsupported, match="conversations"):
        prompt_text(asking(), terms(), "It")
    with pytest.raises(Unsupported, match="token ids"):
        prompt_text(asking(TokensInput((1,))), terms(), "It")
    with pytest.raises(Unsupported, match="conversations, not prompts"):
        chat_input(asking(TextInput("x")), "It")
    assert prompt_text(asking(TextInput("x")), terms(), "It") == "x"


def test_a_schema_loses_what_is_our_own() -> None:
    text = '{"x-guidance":{"lenient":true},"type":"object"}'
    assert schema_of(Grammar("json_schema", text)) == {"type": "object"}
    with pytest.raises(InvalidRequest, match="not a JSON object"):
        schema_of(Grammar("json_schema", "true"))


def test_notes_that_ask_for_nothing_special_are_no_loss() -> None:
    for tier, told in (("auto", ()), ("default", ()), ("standard_only", ()),
                       ("flex", ("service_tier",)), ({"x": 1}, ("service_tier",))):  # fmt: skip
        asked = Asked(asking(notes={"service_tier": tier}), terms())
        assert asked.outgoing("/x", {}).dropped == told


def test_what_nobody_asked_for_is_left_out_without_a_word() -> None:
    request = asking(sampling=SamplingParams(top_k=40, seed=7), implied=("top_k",))
    with pytest.raises(Unsupported, match="'seed'"):
        Asked(request, terms()).outgoing("/x", {})
    asked = Asked(request, terms("top_k", unsupported="drop"))
    assert asked.outgoing("/x", {}).dropped == ("seed",)


def test_neutral_values_that_were_given_are_lost_nowhere() -> None:
    given = ("temperature", "presence_penalty", "top_k")
    request = asking(explicit=given, sampling=SamplingParams(top_k=0))
    assert Asked(request, terms()).outgoing("/x", {}).dropped == ()
    hosted = Asked(request, terms(hosted=True))
    assert hosted.take("temperature") == 1.0
    asked = Asked(asking(explicit=given, sampling=SamplingParams(top_k=5)), terms())
    with pytest.raises(Unsupported, match="'top_k'"):
        asked.outgoing("/x", {})


@pytest.mark.parametrize("operation", ["cohere.chat", "bedrock.converse", "gemini.generate"])
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_what_a_client_does_not_say_is_no_reason_to_refuse(path: str, operation: str) -> None:
    codec = next(route.codec for route in ROUTES if route.path == path)
    assert codec is not None
    sent = {"model": "m", "prompt": "Hi", "messages": [{"role": "user", "content": "Hi"}]}
    ask: Any = codec.decode(Incoming(json.dumps(sent).encode()))
    (request,) = ask.requests("r", "m", "")
    assert SPEAKERS[operation].encode(request, terms("top_k")).dropped == ()


def test_a_plain_stream_of_tgi_and_llamacpp_suits_any_server() -> None:
    for path, sent in (("/generate_stream", {"inputs": "Hi"}), ("/completion", {"prompt": "Hi"})):
        codec = next(route.codec for route in ROUTES if route.path == path)
        assert codec is not None
        ask: Any = codec.decode(Incoming(json.dumps(sent).encode()))
        (request,) = ask.requests("r", "m", "")
        bare = Terms(model="m", features=frozenset(("stream",)))
        assert SPEAKERS["openai.completions"].encode(request, bare).dropped == ()
