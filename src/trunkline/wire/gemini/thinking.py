"""`thinkingConfig`: what a model of Google's takes to say how hard it is to think.

By ai.google.dev/gemini-api/docs/thinking and, on cloud.google.com, vertex-ai/generative-ai/docs/
thinking:

- Gemini 2.5 takes `thinkingBudget`, in tokens: Pro 128 to 32768 and never none, Flash 0 to 24576,
  Flash-Lite 512 to 24576 or none, which is its default. `thinkingLevel` is an error there.
- Gemini 3 and later take `thinkingLevel`; budgets are an error from 3.5 on. None can be turned off.
  All take LOW and HIGH, all but `gemini-3-pro` MEDIUM, and up to 3.6 Flash and Flash-Lite MINIMAL;
  elsewhere "Thinking level MINIMAL is not supported for this model". A budget becomes a level.
- Models before 2.5, and those that speak or draw, are not told anything of thinking: "Thinking is
  not enabled for models/...". Nor does `includeThoughts` go anywhere where thinking may be off:
  "include_thoughts is only enabled when thinking is enabled" (lobehub issue 7985).

Words of effort are what Google's own endpoint for OpenAI's dialect makes of them
(ai.google.dev/gemini-api/docs/openai). All read 2026-11-22, as were the levels that others have
probed (simonw/llm-gemini 0.34, bolna-ai/bolna pull request 956).
"""

from __future__ import annotations

import re
from typing import Literal

import msgspec

from trunkline.core.types import Json
from trunkline.wire.asked import Reasoning

_GEMINI = re.compile(r"gemini-(\d+)(?:\.(\d+))?-(.*)")
_LATEST = re.compile(r"gemini-(?:pro|flash|flash-lite)-latest")
# Those before Gemini 2.5, and those that speak or draw.
_NEVER_THINKS = re.compile(r"gemini-(?:1|2\.0)|gemma-[1-3]|learnlm|.*-(?:image|tts|audio|live)")

_BUDGETS = {"minimal": 1024, "low": 1024, "medium": 8192, "high": 24576}
_HARDEST = ("xhigh", "max")
# In rising order, with the most tokens that each stands for.
_LEVELS = {"MINIMAL": 512, "LOW": 1024, "MEDIUM": 8192, "HIGH": 1 << 31}


class Model(msgspec.Struct, frozen=True):
    """How one model is told to think."""

    # "": it never thinks; "unknown": it has a name that tells nothing.
    by: Literal["", "budget", "level", "unknown"]
    # Fewest and most tokens of a budget.
    least: int = 0
    most: int = 0
    # Whether a budget may be 0, and whether it thinks where nobody says anything.
    may_stop: bool = False
    thinks: bool = False
    levels: tuple[str, ...] = ()


_NEVER = Model("")
_UNKNOWN = Model("unknown", levels=("LOW", "MEDIUM", "HIGH"))
_LOW_HIGH = Model("level", thinks=True, levels=("LOW", "HIGH"))
_FROM_LOW = Model("level", thinks=True, levels=("LOW", "MEDIUM", "HIGH"))
_FROM_MINIMAL = Model("level", thinks=True, levels=("MINIMAL", "LOW", "MEDIUM", "HIGH"))
# Of Gemini 2.5, by how the rest of the name begins.
_BUDGETED = {
    "pro": Model("budget", least=128, most=32768, thinks=True),
    "flash-lite": Model("budget", least=512, most=24576, may_stop=True),
    "flash": Model("budget", least=1, most=24576, may_stop=True, thinks=True),
}


def model_of(name: str) -> Model:
    """What is known of a model by its name, with or without a path in front."""
    name = name.lower().rpartition("/")[2]
    if _NEVER_THINKS.match(name):
        return _NEVER
    found = _GEMINI.match(name)
    if found is None:
        return _FROM_LOW if _LATEST.match(name) else _UNKNOWN
    version, kind = (int(found[1]), int(found[2] or 0)), found[3]
    if version < (3, 0):
        return next((one for start, one in _BUDGETED.items() if kind.startswith(start)), _NEVER)
    if version == (3, 0) and kind.startswith("pro"):
        return _LOW_HIGH
    return _FROM_MINIMAL if version < (3, 7) and kind.startswith("flash") else _FROM_LOW


def thinking_of(model: Model, wanted: Reasoning) -> tuple[Json, tuple[str, ...]]:
    """`thinkingConfig`, {} for none; and what of the request it does not say as it was said."""
    if model.by == "":
        return {}, (() if is_off(wanted) or wanted == Reasoning() else (_name(wanted),))
    if is_off(wanted):
        return _off(model)
    if wanted == Reasoning():
        return ({"includeThoughts": True} if model.thinks else {}), ()
    config, told = _by_budget(model, wanted) if model.by == "budget" else _by_level(model, wanted)
    if config or model.thinks:
        return {"includeThoughts": True} | config, told
    # Nobody knows how to turn it on.
    return {}, told or (_name(wanted),)


def is_off(wanted: Reasoning) -> bool:
    """Whether no thinking is asked for."""
    return wanted.off or wanted.budget == 0


def _name(wanted: Reasoning) -> str:
    """What a client would call it."""
    return "reasoning_effort" if wanted.budget is None else "thinking_budget"


def _off(model: Model) -> tuple[Json, tuple[str, ...]]:
    """None; where a model always thinks, the least that there is."""
    told = ("reasoning_effort",)
    match model.by:
        case "budget" if model.may_stop:
            return {"thinkingBudget": 0}, ()
        case "budget":
            return {"thinkingBudget": model.least}, told
        case "level":
            return {"thinkingLevel": model.levels[0]}, told
    return {}, told


def _by_budget(model: Model, wanted: Reasoning) -> tuple[Json, tuple[str, ...]]:
    budget, effort = wanted.budget, wanted.effort
    if budget is not None and budget > 0:
        sent = min(max(budget, model.least), model.most)
        # Who asks for more than there is has what there is, unless that is much less.
        fits = sent == budget or (sent == model.most and budget <= 2 * sent)
        return {"thinkingBudget": sent}, (() if fits else ("thinking_budget",))
    if effort in _HARDEST:
        return {"thinkingBudget": model.most}, ()
    if effort in _BUDGETS:
        return {"thinkingBudget": _BUDGETS[effort]}, ()
    # -1: the model decides; what thinks by itself does so anyway.
    config: Json = {} if model.thinks else {"thinkingBudget": -1}
    return config, (() if effort is None else ("reasoning_effort",))


def _by_level(model: Model, wanted: Reasoning) -> tuple[Json, tuple[str, ...]]:
    budget, effort = wanted.budget, (wanted.effort or "").upper()
    if effort in _LEVELS:
        # The next higher one, where there is no such level.
        steps = list(_LEVELS)
        at = steps.index(effort)
        level = next(one for one in model.levels if steps.index(one) >= at)
    elif wanted.effort in _HARDEST:
        level = model.levels[-1]
    elif budget is not None and budget > 0:
        # The lowest that has room for it; a level is no limit.
        level = next((one for one in model.levels if budget <= _LEVELS[one]), model.levels[-1])
    else:
        return {}, (("reasoning_effort",) if effort else ())
    return {"thinkingLevel": level}, ()
