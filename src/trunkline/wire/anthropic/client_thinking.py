"""Thinking, as a request to Anthropic's API asks for it.

Rules: platform.claude.com/docs/en/build-with-claude/extended-thinking and .../thinking (read
2026-11-22): a budget has at least 1024 tokens and less than `max_tokens`, of which it is a part;
with thinking neither temperature nor top_k may be given, nor a top_p below 0.95; with a budget no
tool may be demanded, and a turn that calls tools must go on with the thought that it began with.
"""

from __future__ import annotations

from trunkline.core.types import ChatInput, Json
from trunkline.wire.anthropic.claude import (
    LEAST_BUDGET,
    LEAST_TOP_P,
    USUAL_BUDGET,
    Claude,
    claude,
    effort_for,
)
from trunkline.wire.anthropic.client_turns import lacks_thought
from trunkline.wire.asked import Asked, Reasoning

# `max_tokens` must be said; most models answer at least so long.
_DEFAULT_TOKENS = 8192

_BUDGETS = {
    "minimal": 1024,
    "low": 2048,
    "medium": 8192,
    "high": 16384,
    "xhigh": 32768,
    "max": 49152,
}


def default_tokens(model: Claude) -> int:
    """`max_tokens` where nobody says; thinking is to come on top."""
    return min(_DEFAULT_TOKENS, model.limit)


def place_thinking(asked: Asked, source: ChatInput, body: Json, *, bounded: bool) -> None:
    """Whether to think, and how hard. `bounded`: `max_tokens` is the client's."""
    model = claude(asked.terms.model)
    wanted = asked.reasoning()
    if asked.take("reasoning") is not None:
        # A server that does not think is no reason to refuse.
        asked.tell("reasoning_effort")
    elif wanted.off:
        _turn_off(asked, model, wanted, body)
    elif wanted != Reasoning():
        _turn_on(asked, model, wanted, source, body, bounded=bounded)
    elif model.by_default and not bounded:
        body["max_tokens"] += USUAL_BUDGET


def _turn_off(asked: Asked, model: Claude, wanted: Reasoning, body: Json) -> None:
    if model.thinking == "never":
        return
    effort = wanted.effort if wanted.effort != "none" else None
    if model.off:
        body["thinking"] = {"type": model.off}
    else:
        # The least that it can be told.
        asked.tell("reasoning_effort")
        effort = "low"
        body["max_tokens"] += _BUDGETS[effort]
    if effort is not None and model.thinking != "unknown":
        # More than that is refused without thinking.
        _place_effort(asked, model, effort, body, most="high")


def _turn_on(
    asked: Asked, model: Claude, wanted: Reasoning, source: ChatInput, body: Json, *, bounded: bool
) -> None:
    budgeted = model.thinking == "budget" or (
        wanted.budget is not None and model.thinking in ("both", "unknown")
    )
    if model.thinking == "never" or (
        (budgeted or model.thinking == "unknown") and _is_barred(asked, source, body)
    ):
        asked.tell("reasoning_effort")
        return
    share = wanted.budget or _BUDGETS.get(wanted.effort or "", USUAL_BUDGET)
    share = max(share, LEAST_BUDGET)
    if not bounded:
        share = max(min(share, model.limit - body["max_tokens"]), LEAST_BUDGET)
        body["max_tokens"] += share
    elif wanted.budget is not None:
        share = min(share, body["max_tokens"] - 1)
    else:
        # The rest is for the answer.
        share = min(share, body["max_tokens"] // 2)
    if budgeted:
        if share < LEAST_BUDGET:
            asked.tell("reasoning_effort")
            return
        body["thinking"] = {"type": "enabled", "budget_tokens": share}
    else:
        body["thinking"] = {"type": "adaptive"}
        if wanted.budget is not None:
            asked.tell("thinking_budget")
        if wanted.effort is not None:
            _place_effort(asked, model, wanted.effort, body)
    _cool(asked, body)


def _is_barred(asked: Asked, source: ChatInput, body: Json) -> bool:
    """Whether thinking within a budget would be refused."""
    forced = body.get("tool_choice", {}).get("type") in ("any", "tool")
    # Servers of open models do not look for thoughts.
    return forced or (not asked.has("template_kwargs") and lacks_thought(source.messages))


def _place_effort(
    asked: Asked, model: Claude, wanted: str, body: Json, *, most: str = "max"
) -> None:
    effort = effort_for(model, wanted, most=most)
    if effort is None:
        asked.tell("reasoning_effort")
    else:
        body["output_config"] = {**body.get("output_config", {}), "effort": effort}


def _cool(asked: Asked, body: Json) -> None:
    """Take out what does not go together with thinking."""
    for name in ("temperature", "top_k"):
        if name in body:
            asked.leave(name, body.pop(name))
    if body.get("top_p", 1) < LEAST_TOP_P:
        asked.leave("top_p", body.pop("top_p"))
