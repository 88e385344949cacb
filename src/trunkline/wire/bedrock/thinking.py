"""What a model is told of thinking, which each family has its own field for.

Claude: `thinking` in additionalModelRequestFields and outputConfig.effort ("Supported values are
low, medium, high, xhigh, and max", botocore 1.44); which model takes what: `wire.anthropic.claude`;
what goes together: platform.claude.com/docs/en/build-with-claude/extended-thinking and
.../adaptive-thinking. Nova 2: `reasoningConfig` (docs.aws.amazon.com/nova/latest/nova2-userguide/
extended-thinking.html; the highest effort takes no limit and no sampling). gpt-oss:
`reasoning_effort` (github.com/vercel/ai issue 11467). Read 2026-11-22.
"""

from __future__ import annotations

from collections.abc import Sequence

from trunkline.core.types import ChatInput, Json, Message
from trunkline.wire.anthropic.claude import (
    LEAST_BUDGET,
    LEAST_TOP_P,
    USUAL_BUDGET,
    Claude,
    effort_for,
)
from trunkline.wire.asked import Asked, Reasoning
from trunkline.wire.bedrock.families import Family
from trunkline.wire.bedrock.turns import signed

# How much a word is worth to Claude.
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
# As the client says it -> the words of models that have three.
_THREE = {
    "minimal": "low",
    "low": "low",
    "medium": "medium",
    "high": "high",
    "xhigh": "high",
    "max": "high",
}


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
        _stop(asked, body, more, family)
    elif family.claude is not None and family.claude.thinking != "never":
        _claude(asked, wanted, body, more, source, family)
    elif family.name == "nova-2":
        _nova(asked, wanted, body, more)
    elif family.name == "gpt-oss":
        # It thinks anyway.
        if wanted.effort is not None:
            _place(asked, more, "reasoning_effort", wanted.effort)
        if wanted.budget is not None:
            asked.tell("thinking_budget")
    else:
        asked.tell("reasoning_effort")


def _stop(asked: Asked, body: Json, more: Json, family: Family) -> None:
    """No thinking; those that do not begin with it by themselves need no word."""
    model = family.claude
    if model is None:
        if not family.nova:
            asked.tell("reasoning_effort")
    elif model.by_default and model.off:
        more["thinking"] = {"type": model.off}
    elif model.by_default:
        # The least that it can be told.
        asked.tell("reasoning_effort")
        _place_effort(asked, body, model, "low")


def _claude(
    asked: Asked, wanted: Reasoning, body: Json, more: Json, source: ChatInput, family: Family
) -> None:
    model = family.claude or Claude()
    forced = {"any", "tool"} & set(body.get("toolConfig", {}).get("toolChoice", {}))
    by_budget = model.thinking == "budget" or (
        model.thinking == "both" and wanted.budget is not None
    )
    if by_budget:
        # A turn that calls tools must begin with a thought then.
        barred = bool(forced) or _lacks_signed(source.messages)
    else:
        barred = bool(forced) and not family.thinks_when_forced
    if barred:
        asked.tell("reasoning_effort")
        return
    if by_budget:
        config = body.get("inferenceConfig", {})
        budget = _budget(wanted, config.get("maxTokens"), model.limit)
        if budget is None:
            asked.tell("reasoning_effort")
            return
        room = min(budget + _ROOM, model.limit)
        body["inferenceConfig"] = {"maxTokens": room, **config}
        more["thinking"] = {"type": "enabled", "budget_tokens": budget}
    else:
        more["thinking"] = {"type": "adaptive"}
        if wanted.budget is not None:
            asked.tell("thinking_budget")
        if wanted.effort is not None:
            _place_effort(asked, body, model, wanted.effort)
    _leave_sampling(asked, body.get("inferenceConfig", {}), more)


def _place_effort(asked: Asked, body: Json, model: Claude, wanted: str) -> None:
    effort = effort_for(model, wanted)
    if effort is None:
        asked.tell("reasoning_effort")
    else:
        body["outputConfig"] = {**body.get("outputConfig", {}), "effort": effort}


def _leave_sampling(asked: Asked, config: Json, more: Json) -> None:
    """Give back what does not go together with Claude's thinking."""
    if "temperature" in config:
        asked.leave("temperature", config.pop("temperature"))
    if config.get("topP", 1) < LEAST_TOP_P:
        asked.leave("top_p", config.pop("topP"))
    if "top_k" in more:
        asked.leave("top_k", more.pop("top_k"))


def _budget(wanted: Reasoning, most: int | None, limit: int) -> int | None:
    """Tokens to think, less than `most`, of which the answer gets half; None: too few for that.

    `limit`: most tokens that the model gives.
    """
    budget = wanted.budget
    top = limit if most is None else most
    if budget is not None and budget < top:
        budget = max(LEAST_BUDGET, budget)
        return budget if budget < top else None
    if budget is None:
        budget = _BUDGETS.get(wanted.effort or "", USUAL_BUDGET)
    budget = min(budget, top // 2)
    return budget if budget >= LEAST_BUDGET else None


def _lacks_signed(messages: Sequence[Message]) -> bool:
    """Whether the last turn is the model's own, or calls tools, and no thought of it is signed."""
    checked = bool(messages) and messages[-1].role == "assistant"
    for message in reversed(messages):
        if message.role == "user":
            break
        if signed(message):
            return False
        checked = checked or bool(message.tool_calls)
    return checked


def _nova(asked: Asked, wanted: Reasoning, body: Json, more: Json) -> None:
    thinking: Json = {"type": "enabled"}
    _place(asked, thinking, "maxReasoningEffort", wanted.effort or "medium")
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


def _place(asked: Asked, to: Json, key: str, word: str) -> None:
    if word in _THREE:
        to[key] = _THREE[word]
    else:
        asked.tell("reasoning_effort")
