"""Thinking and sampling, as the models of Anthropic take them."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest

from tests.wire.anthropic.sending import CLAUDE, SCHEMA, SPEAKER, TOOL, call, named, sent
from tests.wire.client_support import ALL, chat, terms
from trunkline.core.errors import (
    Unsupported,
)
from trunkline.core.types import (
    Grammar,
    Json,
    Message,
    SamplingParams,
)


@pytest.mark.parametrize(
    ("model", "variables", "thinking", "effort"),
    [
        # Half of what there is, where it is less than the effort is worth.
        ("claude-sonnet-4-5-20250929", {"enable_thinking": True}, 5000, None),
        ("claude-3-7-sonnet-latest", {"reasoning_effort": "low"}, 2048, None),
        ("anthropic.claude-opus-4-20250514-v1:0", {"reasoning_effort": "high"}, 5000, None),
        ("claude-opus-4-6", {"reasoning_effort": "minimal"}, "adaptive", "low"),
        ("claude-sonnet-4.7", {"enable_thinking": True}, "adaptive", None),
        ("claude-opus-5", {"reasoning_effort": "max"}, "adaptive", "max"),
        ("claude-opus-5", {"enable_thinking": False}, "disabled", None),
        ("claude-opus-5", {}, None, None),
        (
            "claude-opus-5",
            {"enable_thinking": False, "reasoning_effort": "max"},
            "disabled",
            "high",
        ),
        # The client's own budget leaves what it leaves.
        ("claude-haiku-4-5", {"thinking_budget": 9000}, 9000, None),
        ("claude-haiku-4-5", {"thinking_budget": 20000}, 9999, None),
        ("claude-haiku-4-5", {"thinking_budget": 5}, 1024, None),
        ("claude-sonnet-4-6", {"thinking_budget": 4096}, 4096, None),
        ("claude-sonnet-4-6", {"reasoning_effort": "xhigh"}, "adaptive", "high"),
        ("claude-sonnet-4-6", {"reasoning_effort": "max"}, "adaptive", "max"),
        ("claude-opus-4-8", {"reasoning_effort": "xhigh"}, "adaptive", "xhigh"),
        ("claude-3-5-haiku-20241022", {"enable_thinking": False}, None, None),
        ("claude-sonnet-5-5", {"enable_thinking": False}, "between_tools", None),
        ("claude-opus-5-5", {"enable_thinking": False}, None, "low"),
        ("claude-mythos-preview", {"reasoning_effort": "none"}, None, "low"),
    ],
)
def test_thinking(model: str, variables: Json, thinking: Any, effort: str | None) -> None:
    request = chat(template_kwargs=variables, sampling=SamplingParams(max_tokens=10000))
    body = sent(request, named(model))
    expected: Any = None if thinking is None else {"type": thinking}
    if isinstance(thinking, int):
        expected = {"type": "enabled", "budget_tokens": thinking}
    assert body.get("thinking") == expected
    assert body.get("output_config") == (None if effort is None else {"effort": effort})


def test_thinking_where_it_would_be_refused() -> None:
    on = {"enable_thinking": True}
    loop = (
        Message("user", "a"),
        Message("assistant", None, tool_calls=(call("c", "{}"),)),
        Message("tool", "r", tool_call_id="c"),
    )
    begun = (Message("user", "a"), Message("assistant", "One"))
    for request in (
        chat(tools=(TOOL,), tool_choice="required", template_kwargs=on),
        chat(*loop, tools=(TOOL,), template_kwargs=on),
        # An answer to be continued: a stream that broke off.
        chat(*begun, template_kwargs=on, continue_final_message=True),
    ):
        outgoing = SPEAKER.encode(request, CLAUDE)
        assert outgoing.dropped == ("reasoning_effort",)
        assert "thinking" not in json.loads(outgoing.body)
    # A model that does not think is no reason to refuse.
    assert SPEAKER.encode(chat(template_kwargs=on), terms()).dropped == ("reasoning_effort",)
    hot = SamplingParams(temperature=0.5)
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(chat(template_kwargs=on, sampling=hot), CLAUDE)
    assert caught.value.param == "temperature"


@pytest.mark.parametrize(
    ("model", "variables", "most", "budget"),
    [
        ("claude-sonnet-4-5", {"reasoning_effort": "low"}, 8192 + 2048, 2048),
        ("claude-sonnet-4-5", {"reasoning_effort": "high"}, 8192 + 16384, 16384),
        ("claude-sonnet-4-5", {"reasoning_effort": "xhigh"}, 8192 + 32768, 32768),
        ("claude-sonnet-4-5", {"thinking_budget": 200_000}, 64_000, 64_000 - 8192),
        ("claude-opus-4-1", {"reasoning_effort": "max"}, 32_000, 32_000 - 8192),
        ("claude-opus-4-7", {"reasoning_effort": "high"}, 8192 + 16384, None),
        ("claude-opus-5", {}, 8192 + 8192, None),
        ("claude-3-haiku-20240307", {}, 4096, None),
    ],
)
def test_thinking_comes_on_top_where_nobody_says_how_long_an_answer_may_be(
    model: str, variables: Json, most: int, budget: int | None
) -> None:
    body = sent(chat(template_kwargs=variables), named(model))
    assert body["max_tokens"] == most
    assert body.get("thinking", {}).get("budget_tokens") == budget


def test_no_thinking_where_there_is_no_room_for_it() -> None:
    for model, most, variables in (
        ("claude-sonnet-4-5", 2047, {"reasoning_effort": "high"}),
        ("claude-sonnet-4-5", 1024, {"thinking_budget": 1024}),
        ("claude-3-5-haiku-20241022", 9999, {"reasoning_effort": "high"}),
    ):
        request = chat(template_kwargs=variables, sampling=SamplingParams(max_tokens=most))
        outgoing = SPEAKER.encode(request, named(model))
        assert outgoing.dropped == ("reasoning_effort",)
        assert "thinking" not in json.loads(outgoing.body)
    least = chat(
        template_kwargs={"reasoning_effort": "high"}, sampling=SamplingParams(max_tokens=2048)
    )
    assert sent(least, named("claude-sonnet-4-5"))["thinking"]["budget_tokens"] == 1024


def test_what_is_left_out_of_thinking_is_told() -> None:
    def told(model: str, **variables: Any) -> tuple[str, ...]:
        return SPEAKER.encode(chat(template_kwargs=variables), named(model)).dropped

    assert told("claude-opus-4-7", thinking_budget=4096) == ("thinking_budget",)
    assert told("claude-opus-5-5", enable_thinking=False) == ("reasoning_effort",)
    assert told("claude-opus-5", reasoning_effort="a lot") == ("reasoning_effort",)


def test_neutral_sampling_is_left_out_where_it_is_the_default() -> None:
    both = chat(explicit=("temperature", "top_p"))
    outgoing = SPEAKER.encode(both, CLAUDE)
    assert outgoing.dropped == ()
    assert {"temperature", "top_p"}.isdisjoint(json.loads(outgoing.body))
    # Engines of open models have defaults of their own.
    body = json.loads(SPEAKER.encode(both, ALL).body)
    assert (body["temperature"], body["top_p"]) == (1, 1)


@pytest.mark.parametrize(
    ("model", "refused"),
    [
        ("claude-sonnet-4-20250514", ()),
        ("claude-opus-4-1-20250805", ("top_p",)),
        ("claude-sonnet-4-5", ("top_p",)),
        ("claude-sonnet-4-6", ("top_p",)),
        ("claude-opus-4-7", ("temperature", "top_k", "top_p")),
        ("claude-fable-5-1", ("temperature", "top_k", "top_p")),
    ],
)
def test_sampling_that_a_model_does_not_take(model: str, refused: tuple[str, ...]) -> None:
    request = chat(sampling=SamplingParams(temperature=0.5, top_k=4, top_p=0.5))
    on = named(model)
    if refused:
        with pytest.raises(Unsupported) as caught:
            SPEAKER.encode(request, on)
        assert caught.value.param in refused
    outgoing = SPEAKER.encode(request, msgspec.structs.replace(on, unsupported="drop"))
    assert tuple(sorted(outgoing.dropped)) == refused
    assert {"temperature", "top_k", "top_p"} - set(refused) <= json.loads(outgoing.body).keys()
    assert set(refused).isdisjoint(json.loads(outgoing.body))


def test_what_the_newest_models_refuse() -> None:
    newest = named("claude-opus-5-5")
    forced = chat(tools=(TOOL,), tool_choice="required")
    begun = chat(
        Message("user", "a"),
        Message("assistant", "One"),
        add_generation_prompt=False,
        continue_final_message=True,
    )
    for request, param in ((forced, "tool_choice"), (begun, "continue_final_message")):
        with pytest.raises(Unsupported) as caught:
            SPEAKER.encode(request, newest)
        assert caught.value.param == param
        outgoing = SPEAKER.encode(request, msgspec.structs.replace(newest, unsupported="drop"))
        assert outgoing.dropped == (param,)
        body = json.loads(outgoing.body)
        assert "tool_choice" not in body
        assert [turn["role"] for turn in body["messages"]] == ["user"]


def test_adaptive_thinking_needs_no_thought_to_go_on_from() -> None:
    loop = (
        Message("user", "a"),
        Message("assistant", None, tool_calls=(call("c", "{}"),)),
        Message("tool", "r", tool_call_id="c"),
    )
    on = {"enable_thinking": True}
    for request in (
        chat(*loop, tools=(TOOL,), template_kwargs=on),
        chat(tools=(TOOL,), tool_choice="required", template_kwargs=on),
    ):
        assert sent(request, named("claude-opus-4-6"))["thinking"] == {"type": "adaptive"}


def test_a_schema_and_an_effort_share_their_place() -> None:
    grammar = Grammar("json_schema", SCHEMA)
    body = sent(chat(grammar=grammar, template_kwargs={"reasoning_effort": "low"}))
    wanted = {"type": "json_schema", "schema": json.loads(SCHEMA)}
    assert body["output_config"] == {"format": wanted, "effort": "low"}
