"""What models on Bedrock are told of thinking. Judged by botocore's service model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.bedrock.aws import ADAPTIVE, CLAUDE, NEWEST, NOVA, sent
from tests.wire.speaking import WEATHER, asking, called, chat
from trunkline.core.errors import Unsupported
from trunkline.core.types import ChatInput, Grammar, Message, Request, SamplingParams, Thought

_NOVA_2 = "us.amazon.nova-2-lite-v1:0"
_OSS = "openai.gpt-oss-120b-1:0"
_LLAMA = "us.meta.llama3-3-70b-instruct-v1:0"
_TOLD = ("reasoning_effort",)


def _asking(most: int | None = None, source: ChatInput | None = None, **variables: Any) -> Request:
    source = source or chat("x", template_kwargs=variables)
    return asking(source, sampling=SamplingParams(max_tokens=most))


def _enabled(budget: int) -> dict[str, Any]:
    return {"thinking": {"type": "enabled", "budget_tokens": budget}}


@pytest.mark.parametrize(
    ("most", "variables", "budget", "sent_most"),
    [
        # The answer has room besides.
        (None, {"reasoning_effort": "high"}, 16384, 16384 + 8192),
        (None, {"enable_thinking": True}, 8192, 16384),
        (None, {"reasoning_effort": "minimal"}, 1024, 9216),
        (4000, {"reasoning_effort": "high"}, 2000, 4000),
        (4000, {"reasoning_effort": "xhigh"}, 2000, 4000),
        (2048, {"enable_thinking": True}, 1024, 2048),
        # What the client says itself.
        (4000, {"enable_thinking": True, "thinking_budget": 3000}, 3000, 4000),
        (4000, {"reasoning_effort": "low", "thinking_budget": 500}, 1024, 4000),
        (4000, {"thinking_budget": 9000}, 2000, 4000),
        (None, {"thinking_budget": 20000}, 20000, 28192),
        (None, {"thinking_budget": 63000}, 63000, 64000),
        (None, {"thinking_budget": 99999}, 32000, 40192),
    ],
)
def test_a_budget_leaves_room_for_the_answer(
    most: int | None, variables: Any, budget: int, sent_most: int
) -> None:
    body, told = sent(_asking(most, **variables))
    assert body["additionalModelRequestFields"] == _enabled(budget)
    assert body["inferenceConfig"]["maxTokens"] == sent_most
    assert "outputConfig" not in body
    assert told == ()


@pytest.mark.parametrize("most", [900, 1500, 2047])
def test_too_few_tokens_to_think(most: int) -> None:
    body, told = sent(_asking(most, reasoning_effort="high"))
    assert "additionalModelRequestFields" not in body
    assert body["inferenceConfig"] == {"maxTokens": most}
    assert told == _TOLD


@pytest.mark.parametrize("model", [CLAUDE, ADAPTIVE, "us.anthropic.claude-opus-4-7"])
@pytest.mark.parametrize("choice", ["required", "named"])
def test_not_with_forced_tools(model: str, choice: Any) -> None:
    source = chat("x", tools=(WEATHER,), template_kwargs={"reasoning_effort": "high"})
    request = asking(source, tool_choice=choice, tool_name="get_weather")
    body, told = sent(request, model)
    assert "additionalModelRequestFields" not in body
    assert "outputConfig" not in body
    assert told == _TOLD


def test_the_newest_think_with_forced_tools() -> None:
    source = chat("x", tools=(WEATHER,), template_kwargs={"reasoning_effort": "high"})
    request = asking(source, tool_choice="required")
    body, told = sent(request, NEWEST)
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}
    assert body["toolConfig"]["toolChoice"] == {"any": {}}
    assert told == ()
    # Some take no demand at all.
    with pytest.raises(Unsupported) as caught:
        sent(request, "anthropic.claude-opus-5-5")
    assert caught.value.param == "tool_choice"


def _loop(*thoughts: Thought) -> ChatInput:
    """In the middle of calling tools, twice; the model thought before the first call."""
    first = Message("assistant", None, tool_calls=called("a").tool_calls, thoughts=thoughts)
    result = Message("tool", "21", tool_call_id="a")
    turns = ("x", first, result, called("b"), Message("tool", "22", tool_call_id="b"))
    return chat(*turns, tools=(WEATHER,), template_kwargs={"enable_thinking": True})


def test_a_turn_that_calls_tools_begins_with_its_thought() -> None:
    body, told = sent(_asking(4000, _loop(Thought("Hm.", signature="c2ln"))))
    assert body["additionalModelRequestFields"] == _enabled(2000)
    assert "reasoningContent" in body["messages"][1]["content"][0]
    assert told == ()
    body, told = sent(_asking(4000, _loop()))
    assert "additionalModelRequestFields" not in body
    assert told == _TOLD
    # So does an answer to be continued.
    begun = Message("assistant", "One")
    source = chat(
        "x", begun, continue_final_message=True, template_kwargs={"enable_thinking": True}
    )
    body, told = sent(_asking(4000, source))
    assert "additionalModelRequestFields" not in body
    assert told == _TOLD
    # Those that decide themselves may begin with anything.
    body, told = sent(_asking(4000, _loop()), ADAPTIVE)
    assert body["additionalModelRequestFields"] == {"thinking": {"type": "adaptive"}}


@pytest.mark.parametrize(
    ("model", "variables", "thinking", "effort", "told"),
    [
        (ADAPTIVE, {"enable_thinking": True}, {"type": "adaptive"}, None, ()),
        (ADAPTIVE, {"reasoning_effort": "minimal"}, {"type": "adaptive"}, "low", ()),
        (ADAPTIVE, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "high", ()),
        (ADAPTIVE, {"reasoning_effort": "max"}, {"type": "adaptive"}, "max", ()),
        (ADAPTIVE, {"reasoning_effort": "hard"}, {"type": "adaptive"}, None, _TOLD),
        (ADAPTIVE, {"thinking_budget": 2000}, _enabled(2000)["thinking"], None, ()),
        (NEWEST, {"reasoning_effort": "xhigh"}, {"type": "adaptive"}, "xhigh", ()),
        (NEWEST, {"thinking_budget": 2000}, {"type": "adaptive"}, None, ("thinking_budget",)),
        # Those that do not think by themselves need not be told.
        (CLAUDE, {"enable_thinking": False}, None, None, ()),
        (CLAUDE, {"reasoning_effort": "none"}, None, None, ()),
        (NEWEST, {"reasoning_effort": "none"}, None, None, ()),
        ("anthropic.claude-opus-5", {"reasoning_effort": "none"}, {"type": "disabled"}, None, ()),
        (
            "anthropic.claude-haiku-5-5",
            {"reasoning_effort": "none"},
            {"type": "disabled"},
            None,
            (),
        ),
        # These cannot stop.
        ("anthropic.claude-opus-5-5", {"enable_thinking": False}, None, "low", _TOLD),
        ("anthropic.claude-fable-5", {"reasoning_effort": "none"}, None, "low", _TOLD),
        # These cannot begin.
        ("anthropic.claude-3-haiku-20240307-v1:0", {"enable_thinking": True}, None, None, _TOLD),
        ("anthropic.claude-v2:1", {"reasoning_effort": "low"}, None, None, _TOLD),
    ],
)
def test_claudes(
    model: str, variables: Any, thinking: Any, effort: str | None, told: tuple[str, ...]
) -> None:
    body, left_out = sent(_asking(8000, **variables), model)
    assert body.get("additionalModelRequestFields", {}).get("thinking") == thinking
    assert body.get("outputConfig", {}).get("effort") == effort
    assert left_out == told


def test_effort_beside_a_schema() -> None:
    source = chat("x", template_kwargs={"reasoning_effort": "low"})
    grammar = Grammar("json_schema", '{"type":"object"}', "city", "A city.")
    body, _ = sent(asking(source, grammar=grammar), ADAPTIVE)
    assert body["outputConfig"]["effort"] == "low"
    schema = body["outputConfig"]["textFormat"]["structure"]["jsonSchema"]
    assert (schema["name"], schema["description"]) == ("city", "A city.")


@pytest.mark.parametrize(
    ("model", "most", "variables", "more", "told"),
    [
        (
            _NOVA_2,
            100,
            {"reasoning_effort": "low"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "low"}},
            (),
        ),
        (
            _NOVA_2,
            None,
            {"reasoning_effort": "max"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "high"}},
            (),
        ),
        # The highest has no limit there.
        (
            _NOVA_2,
            100,
            {"reasoning_effort": "high"},
            {"reasoningConfig": {"type": "enabled", "maxReasoningEffort": "medium"}},
            _TOLD,
        ),
        (_NOVA_2, 100, {"enable_thinking": False}, None, ()),
        (_OSS, 100, {"reasoning_effort": "minimal"}, {"reasoning_effort": "low"}, ()),
        (_OSS, 100, {"reasoning_effort": "xhigh"}, {"reasoning_effort": "high"}, ()),
        (_OSS, 100, {"enable_thinking": True}, None, ()),
        (_OSS, 100, {"reasoning_effort": "none"}, None, _TOLD),
        (_OSS, 100, {"thinking_budget": 5}, None, ("thinking_budget",)),
        (NOVA, 100, {"reasoning_effort": "high"}, None, _TOLD),
        (_LLAMA, 100, {"enable_thinking": True}, None, _TOLD),
        ("deepseek.r1-v1:0", 100, {"reasoning_effort": "low"}, None, _TOLD),
    ],
)
def test_other_families(
    model: str, most: int | None, variables: Any, more: Any, told: tuple[str, ...]
) -> None:
    body, left_out = sent(_asking(most, **variables), model)
    assert body.get("additionalModelRequestFields") == more
    assert "outputConfig" not in body
    assert left_out == told


def test_claude_thinks_at_its_own_temperature() -> None:
    source = chat("x", template_kwargs={"enable_thinking": True})
    for sampling in ({"temperature": 0.5}, {"top_k": 5}, {"top_p": 0.9}):
        (name,) = sampling
        request = asking(source, sampling=SamplingParams(**sampling))
        with pytest.raises(Unsupported) as caught:
            sent(request)
        assert caught.value.param == name
        body, told = sent(request, unsupported="drop")
        assert body["inferenceConfig"] == {"maxTokens": 16384}
        assert list(body["additionalModelRequestFields"]) == ["thinking"]
        assert told == (name,)
    body, _ = sent(asking(source, sampling=SamplingParams(top_p=0.95)))
    assert body["inferenceConfig"]["topP"] == 0.95
