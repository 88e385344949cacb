"""Sampling, tools and notes in Converse's words. Judged by botocore's service model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.wire.bedrock.aws import CLAUDE, NEWEST, NOVA, sent
from tests.wire.speaking import WEATHER, asking, called, chat
from trunkline.core.errors import Unsupported
from trunkline.core.types import Message, SamplingParams
from trunkline.wire.bedrock.families import family_of

_SONNET_4 = "us.anthropic.claude-sonnet-4-20250514-v1:0"
_BOTH = SamplingParams(temperature=0.5, top_p=0.9)


@pytest.mark.parametrize(
    ("model", "caches", "long", "strict", "thinking"),
    [
        ("arn:aws:bedrock:us-east-1::foundation-model/anthropic.claude-v2:1", 0, 0, 0, "never"),
        ("anthropic.claude-instant-v1", 0, 0, 0, "never"),
        ("anthropic.claude-3-haiku-20240307-v1:0", 0, 0, 0, "never"),
        ("anthropic.claude-3-5-sonnet-20240620-v1:0", 0, 0, 0, "never"),
        ("anthropic.claude-3-5-sonnet-20241022-v2:0", 1, 0, 0, "never"),
        ("anthropic.claude-3-7-sonnet-20250219-v1:0", 1, 0, 0, "budget"),
        (_SONNET_4, 1, 0, 0, "budget"),
        ("us.anthropic.claude-opus-4-1-20250805-v1:0", 1, 0, 0, "budget"),
        (CLAUDE, 1, 1, 1, "budget"),
        ("anthropic.claude-opus-4-6-v1", 1, 0, 1, "both"),
        (NEWEST, 1, 1, 1, "adaptive"),
        ("us.anthropic.claude-sonnet-5-5", 1, 1, 1, "adaptive"),
        ("us.anthropic.claude-mythos-preview", 1, 1, 1, "adaptive"),
    ],
)
def test_claudes_by_their_ids(
    model: str, caches: int, long: int, strict: int, thinking: str
) -> None:
    family = family_of(model)
    assert (family.caches, family.caches_long, family.strict) == (caches, long, strict)
    assert family.claude is not None
    assert family.claude.thinking == thinking


def test_other_ids() -> None:
    arn = "arn:aws:bedrock:us-east-1:123456789012:application-inference-profile/abc"
    names = [family_of(one).name for one in (NOVA, "openai.gpt-oss-20b-1:0", arn, "claude-3")]
    assert names == ["nova", "gpt-oss", "other", "other"]


def test_neutral_values_that_were_given() -> None:
    given = ("temperature", "top_p", "presence_penalty", "frequency_penalty", "top_k")
    request = asking(explicit=given)
    body, told = sent(request, NOVA)
    assert body["inferenceConfig"] == {"temperature": 1.0, "topP": 1.0}
    assert told == ()
    # Claude has them anyway.
    for model in (CLAUDE, NEWEST):
        body, told = sent(request, model)
        assert "inferenceConfig" not in body
        assert told == ()


def test_temperature_and_top_p_together() -> None:
    body, told = sent(asking(sampling=_BOTH), _SONNET_4)
    assert body["inferenceConfig"] == {"temperature": 0.5, "topP": 0.9}
    body, told = sent(asking(sampling=_BOTH), unsupported="drop")
    assert body["inferenceConfig"] == {"temperature": 0.5}
    assert told == ("top_p",)
    with pytest.raises(Unsupported) as caught:
        sent(asking(sampling=_BOTH))
    assert caught.value.param == "top_p"
    body, _ = sent(asking(sampling=SamplingParams(top_p=0.9)))
    assert body["inferenceConfig"] == {"topP": 0.9}


@pytest.mark.parametrize("sampling", [{"temperature": 0.5}, {"top_p": 0.9}, {"top_k": 5}])
def test_the_newest_claudes_are_not_sampled_from(sampling: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        sent(asking(sampling=SamplingParams(**sampling)), NEWEST)
    assert [caught.value.param] == list(sampling)


@pytest.mark.parametrize("sampling", [{"temperature": 1.5}, {"max_tokens": 0}])
def test_what_is_beyond_its_bounds(sampling: Any) -> None:
    with pytest.raises(Unsupported) as caught:
        sent(asking(sampling=SamplingParams(**sampling)), NOVA)
    assert [caught.value.param] == list(sampling)


def test_defaults_of_a_clients_dialect_are_not_sent() -> None:
    implied = ("temperature", "top_p", "top_k")
    sampling = SamplingParams(temperature=0.8, top_p=0.9, top_k=40)
    body, told = sent(asking(sampling=sampling, implied=implied), hosted=True)
    assert list(body) == ["messages"]
    assert told == ()


def test_top_k_of_nova() -> None:
    body, _ = sent(asking(sampling=SamplingParams(top_k=20)), NOVA)
    assert body["additionalModelRequestFields"] == {"inferenceConfig": {"topK": 20}}


def test_claude_tells_where_it_stopped() -> None:
    body, told = sent(asking(stop=("A", "B"), include_stop=True))
    assert body["inferenceConfig"]["stopSequences"] == ["A", "B"]
    assert body["additionalModelResponseFieldPaths"] == ["/stop_sequence"]
    assert told == ()
    body, _ = sent(asking(stop=("A",)), NOVA)
    assert "additionalModelResponseFieldPaths" not in body
    # Blank ones are refused there.
    body, told = sent(asking(stop=("A", "\n")), unsupported="drop")
    assert body["inferenceConfig"]["stopSequences"] == ["A"]
    assert told == ("stop",)


@pytest.mark.parametrize("choice", ["auto", "none"])
def test_turns_with_calls_need_their_tools(choice: Any) -> None:
    result = Message("tool", "21", tool_call_id="call_1")
    # OpenAI's and Anthropic's codecs offer no tools where none may be called; others do.
    tools = (WEATHER,) if choice == "none" else ()
    source = chat("x", called(), result, called(), result, "y", tools=tools)
    body, told = sent(asking(source, tool_choice=choice, parallel_tool_calls=False))
    (tool,) = body["toolConfig"]["tools"]
    assert tool["toolSpec"]["name"] == "get_weather"
    assert "may not be called now" in tool["toolSpec"]["description"]
    assert tool["toolSpec"]["inputSchema"] == {"json": {"type": "object", "properties": {}}}
    assert "toolChoice" not in body["toolConfig"]
    assert told == ()


def test_strict_tools() -> None:
    function = {**WEATHER["function"], "strict": True}  # type: ignore[dict-item]
    request = asking(chat("x", tools=({"type": "function", "function": function},)))
    for model in (CLAUDE, "qwen.qwen3-32b-v1:0"):
        body, told = sent(request, model)
        assert body["toolConfig"]["tools"][0]["toolSpec"]["strict"] is True
        assert told == ()
    for model in (NOVA, _SONNET_4):
        body, told = sent(request, model)
        assert "strict" not in body["toolConfig"]["tools"][0]["toolSpec"]
        assert told == ("tools.strict",)


@pytest.mark.parametrize(
    ("said", "tier", "told"),
    [
        ("flex", {"type": "flex"}, ()),
        ("priority", {"type": "priority"}, ()),
        ("standard_only", {"type": "default"}, ()),
        ("auto", None, ()),
        ("scale", None, ("service_tier",)),
    ],
)
def test_service_tiers(said: str, tier: Any, told: tuple[str, ...]) -> None:
    body, left_out = sent(asking(notes={"service_tier": said}))
    assert body.get("serviceTier") == tier
    assert left_out == told


def test_metadata_and_what_has_no_place() -> None:
    notes = {"metadata": {"team": "blue 7", "json": '{"a":1}', "long": "x" * 257}, "user": "u"}
    body, told = sent(asking(notes=notes))
    assert body["requestMetadata"] == {"team": "blue 7"}
    assert told == ("metadata", "user")
    body, told = sent(asking(notes={"metadata": {f"k{n}": "" for n in range(17)}}))
    assert len(body["requestMetadata"]) == 16
    assert told == ("metadata",)
    body, told = sent(asking(notes={"metadata": {"a": "b"}}))
    assert told == ()
