"""How hard to think, in the words of each model."""

from __future__ import annotations

import json

import msgspec
import pytest

from tests.wire.client_support import chat, terms
from trunkline.core.types import Json, Message, Request
from trunkline.wire.client import Terms
from trunkline.wire.openai.chat_client import ChatSpeaker

SPEAKER = ChatSpeaker()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
HOSTED = terms("tools", "reasoning", "max_completion_tokens")


def sent(request: Request, on: Terms) -> Json:
    """The body that goes out."""
    body: Json = json.loads(SPEAKER.encode(request, on).body)
    return body


@pytest.mark.parametrize(
    ("model", "asked", "word", "told"),
    [
        # Thinking without a word for how much, as LiteLLM reads budgets.
        ("gpt-5.4", {"enable_thinking": True, "thinking_budget": 31999}, "high", False),
        ("gpt-5.4", {"enable_thinking": True, "thinking_budget": 4095}, "medium", False),
        ("gpt-5.4", {"enable_thinking": True, "thinking_budget": 1024}, "low", False),
        ("openai/gpt-oss-120b", {"enable_thinking": True}, "medium", False),
        ("o4-mini", {"thinking_budget": 9000}, "high", False),
        ("mistral-small-latest", {"thinking_budget": 1024}, "high", False),
        # A word counts, whatever the budget.
        ("gpt-5.4", {"reasoning_effort": "low", "thinking_budget": 9000}, "low", False),
        # Models that take other words.
        ("gpt-5.1", {"reasoning_effort": "minimal"}, "low", False),
        ("gpt-5.1-codex-max", {"reasoning_effort": "xhigh"}, "xhigh", False),
        ("gpt-5", {"reasoning_effort": "xhigh"}, "high", False),
        ("gpt-5-2025-08-07", {"reasoning_effort": "minimal"}, "minimal", False),
        ("gpt-5-pro", {"reasoning_effort": "low"}, "high", False),
        ("o3", {"enable_thinking": False}, "low", False),
        ("gpt-5-mini", {"enable_thinking": False}, "minimal", False),
        ("gpt-5.2", {"enable_thinking": False}, "none", False),
        ("mistral-medium-latest", {"reasoning_effort": "minimal"}, "high", False),
        ("mistral-large-latest", {"enable_thinking": False}, None, False),
        ("deepseek-chat", {"reasoning_effort": "max"}, "max", False),
        ("kimi", {"reasoning_effort": "max"}, "high", False),
        # "none" only for those that are known to take it.
        ("deepseek-chat", {"enable_thinking": False}, None, False),
        ("deepseek-v4-pro", {"enable_thinking": False}, None, True),
        ("llama-3.3-70b-versatile", {"enable_thinking": False}, None, False),
        ("llama-3.3-70b-versatile", {"reasoning_effort": "none"}, None, True),
        ("qwen/qwen3-32b", {"enable_thinking": False}, "none", False),
        ("grok-4", {"enable_thinking": False}, None, True),
        ("grok-4-0709", {"reasoning_effort": "high"}, None, True),
        ("grok-4-fast-reasoning", {"enable_thinking": False}, None, True),
        ("grok-4-fast-non-reasoning", {"enable_thinking": False}, None, False),
        ("grok-code-fast-1", {"enable_thinking": True}, None, True),
        ("grok-4.20-multi-agent-0309", {"reasoning_effort": "xhigh"}, "xhigh", False),
        ("grok-4.20-0309-reasoning", {"reasoning_effort": "low"}, None, True),
        ("grok-4.3", {"enable_thinking": False}, "none", False),
        ("grok-4.5", {"reasoning_effort": "minimal"}, "low", False),
        ("grok-3", {"reasoning_effort": "low"}, None, True),
        ("grok-3-mini-fast", {"reasoning_effort": "medium"}, "high", False),
        ("grok-3-mini", {"enable_thinking": True, "thinking_budget": 1024}, "low", False),
        ("grok-3-mini", {"enable_thinking": False}, None, True),
        ("grok-9", {"reasoning_effort": "max"}, "max", False),
        # Models that do not think, or are not known to when they are told to.
        ("gpt-4.1", {"enable_thinking": True, "thinking_budget": 9000}, None, True),
        ("gpt-4o", {"reasoning_effort": "high"}, None, True),
        ("ft:gpt-4.1-mini:org::x", {"enable_thinking": False}, None, False),
        ("gpt-5-chat-latest", {"reasoning_effort": "low"}, None, True),
        ("llama-3.3-70b", {"enable_thinking": True}, None, True),
        ("mistral-large-latest", {"thinking_budget": 9000}, None, True),
    ],
)
def test_how_hard_to_think_in_the_words_of_the_model(
    model: str, asked: Json, word: str | None, told: bool
) -> None:
    on = msgspec.structs.replace(HOSTED, model=model)
    request = chat(template_kwargs=asked)
    assert sent(request, on).get("reasoning_effort") == word
    assert SPEAKER.encode(request, on).dropped == (("reasoning_effort",) if told else ())


def test_openais_newer_models_do_not_think_where_they_have_tools() -> None:
    request = chat(tools=(TOOL,), template_kwargs={"reasoning_effort": "high"})
    for model, word in (("gpt-5.6-terra", "none"), ("gpt-5.2", "none"), ("gpt-5.1", "high")):
        on = msgspec.structs.replace(HOSTED, model=model)
        assert sent(request, on)["reasoning_effort"] == word
        told = ("reasoning_effort",) if word == "none" else ()
        assert SPEAKER.encode(request, on).dropped == told
        # Those that think of their own accord are told not to as well.
        unasked = sent(chat(tools=(TOOL,)), on)
        assert unasked.get("reasoning_effort") == (word if word == "none" else None)
    elsewhere = msgspec.structs.replace(terms("tools", "reasoning"), model="openai/gpt-5.6")
    assert sent(request, elsewhere)["reasoning_effort"] == "high"


def test_a_server_that_takes_any_word_is_given_it() -> None:
    on = msgspec.structs.replace(terms("reasoning", "any_effort"), model="anthropic/claude-x")
    assert sent(chat(template_kwargs={"thinking_budget": 3000}), on)["reasoning_effort"] == "medium"
    assert sent(chat(template_kwargs={"reasoning_effort": "max"}), on)["reasoning_effort"] == "max"


def test_a_server_that_wants_its_thoughts_back() -> None:
    """DeepSeek: of turns that call tools, also where there was no thought."""
    on = terms("tools", "reasoning", "past_reasoning")
    call = {"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    turns = (
        Message("user", "Hi"),
        Message("assistant", "So.", reasoning_content="hm"),
        Message("user", "Go"),
        Message("assistant", None, tool_calls=(call,), reasoning_content="well"),
        Message("tool", "1", tool_call_id="c"),
        Message("assistant", None, tool_calls=(call,)),
        Message("tool", "2", tool_call_id="c"),
    )
    request = chat(*turns, tools=(TOOL,))
    said = [turn.get("reasoning_content") for turn in sent(request, on)["messages"]]
    assert said == [None, None, None, "well", None, "", None]
    assert SPEAKER.encode(request, on).dropped == ()
    elsewhere = terms("tools", "reasoning")
    assert SPEAKER.encode(request, elsewhere).dropped == ("reasoning_content",)
    for asked in ({"enable_thinking": False}, {"reasoning_effort": "none"}):
        off = chat(template_kwargs=asked)
        assert sent(off, on)["thinking"] == {"type": "disabled"}
        assert "reasoning_effort" not in sent(off, on)
        assert SPEAKER.encode(off, on).dropped == ()
