"""What a model is told of thinking, which each family has its own field for.

Claude: `thinking` in additionalModelRequestFields and outputConfig.effort ("Supported values are
low, medium, high, xhigh, and max", botocore 1.44); what goes together with it:
platform.claude.com/docs/en/build-with-claude/extended-thinking and .../adaptive-thinking. Nova 2:
`reasoningConfig` (docs.aws.amazon.com/nova/latest/nova2-userguide/extended-thinking.html; the
highest effort takes no limit and no sampling). gpt-oss: `reasoning_effort` (github.com/vercel/ai
issue 11467). Read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.core.types import ChatInput, Json, Message
from trunkline.wire.anthropic.client_turns import lacks_thought
from trunkline.wire.asked import Asked, Reasoning
from trunkline.wire.bedrock.families import Family
from trunkline.wire.bedrock.turns import signed

# Claude's least budget, and how much a word is worth.
_LEAST_BUDGET = 1024
_USUAL_BUDGET = 8192
_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 16384,
    "max": 16384,
}
# What the answer gets besides, where the client names no most.
_ROOM = 8192
# As the client says it -> Claude's words, and those of models with three of them.
_EFFORTS = {"minimal": "low"} | {word: word for word in ("low", "medium", "high", "xhigh", "max")}
_THREE = {**_EFFORTS, "xhigh": "high", "max": "high"}
# Nucleus sampling together with thinking.
_LEAST_TOP_P = 0.95


def place_thinking(asked: Asked, body: Json, more: Json, source: ChatInput, family: Family) -> None:
    """Whether to think, and how hard: in `more` (additionalModelRequestFields) and `body`.

    A model that cannot do as it is asked is no reason to refuse, but it is told.
    """
    wanted = asked.reasoning()
    if asked.take("reasoning") is not None:
        asked.tell("reasoning_effort")
        return
    if wanted == Reasoning():
        return
    if wanted.enabled is False or (wanted.effort == "none" and not wanted.enabled):
        _stop(asked, more, family)
    elif family.thinks:
        _claude(asked, wanted, body, more, source, family)
    elif family.name == "nova" and family.version >= (2, 0):
        _nova(asked, wanted, body, more)
    elif family.name == "gpt-oss":
        # It thinks anyway.
        if wanted.effort is not None:
            _place(asked, more, "reasoning_effort", wanted.effort, _THREE)
        if wanted.budget is not None:
            asked.tell("thinking_budget")
    else:
        asked.tell("reasoning_effort")


def _stop(asked: Asked, more: Json, family: Family) -> None:
    if family.claude and family.starts_thinking and family.stops_thinking:
        more["thinking"] = {"type": "disabled"}
    elif (family.claude and family.starts_thinking) or family.name in ("gpt-oss", "other"):
        asked.tell("reasoning_effort")


def _claude(
    asked: Asked, wanted: Reasoning, body: Json, more: Json, source: ChatInput, family: Family
) -> None:
    forced = {"any", "tool"} & set(body.get("toolConfig", {}).get("toolChoice", {}))
    by_budget = not family.adapts or (family.takes_budget and wanted.budget is not None)
    # With a budget a turn that calls tools must begin with a thought.
    if forced or (by_budget and _lacks_signed(source.messages)):
        asked.tell("reasoning_effort")
        return
    if by_budget:
        config = body.get("inferenceConfig", {})
        budget = _budget(wanted, config.get("maxTokens"))
        if budget is None:
            asked.tell("reasoning_effort")
            return
        body["inferenceConfig"] = {"maxTokens": budget + _ROOM, **config}
        more["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        more["thinking"] = {"type": "adaptive"}
        if wanted.budget is not None:
            asked.tell("thinking_budget")
        if wanted.effort is not None:
            words = _EFFORTS if family.version >= (4, 7) else _EFFORTS | {"xhigh": "high"}
            told: Json = {}
            _place(asked, told, "effort", wanted.effort, words)
            if told:
                body["outputConfig"] = {**body.get("outputConfig", {}), **told}
    _leave_sampling(asked, body.get("inferenceConfig", {}), more)


def _leave_sampling(asked: Asked, config: Json, more: Json) -> None:
    """Give back what does not go together with Claude's thinking."""
    if "temperature" in config:
        asked.leave("temperature", config.pop("temperature"))
    if config.get("topP", 1) < _LEAST_TOP_P:
        asked.leave("top_p", config.pop("topP"))
    if "top_k" in more:
        asked.leave("top_k", more.pop("top_k"))


def _budget(wanted: Reasoning, most: int | None) -> int | None:
    """Tokens to think, less than `most`, of which the answer gets half; None: too few for that."""
    budget = wanted.budget
    if budget is not None and (most is None or budget < most):
        budget = max(_LEAST_BUDGET, budget)
        return budget if most is None or budget < most else None
    if budget is None:
        budget = _BUDGETS.get(wanted.effort or "", _USUAL_BUDGET)
    if most is not None:
        budget = min(budget, most // 2)
    return budget if budget >= _LEAST_BUDGET else None


def _lacks_signed(messages: Sequence[Message]) -> bool:
    """Whether the last turn is in the middle of calling tools, and no thought of it is signed."""
    if not lacks_thought(messages):
        return False
    for message in reversed(messages):
        if message.role == "user":
            return True
        if signed(message):
            return False
    return True


def _nova(asked: Asked, wanted: Reasoning, body: Json, more: Json) -> None:
    thinking: Json = {"type": "enabled"}
    _place(asked, thinking, "maxReasoningEffort", wanted.effort or "medium", _THREE)
    config = body.get("inferenceConfig", {})
    if thinking.get("maxReasoningEffort") == "high" and {"maxTokens", "temperature", "topP"} & set(
        config
    ):
        # The highest takes none of them; what the client limits stays within its limit.
        thinking["maxReasoningEffort"] = "medium"
        asked.tell("reasoning_effort")
    if wanted.budget is not None:
        asked.tell("thinking_budget")
    if "maxReasoningEffort" in thinking:
        more["reasoningConfig"] = thinking


def _place(asked: Asked, to: Json, key: str, word: str, words: dict[str, str]) -> None:
    if word in words:
        to[key] = words[word]
    else:
        asked.tell("reasoning_effort")
