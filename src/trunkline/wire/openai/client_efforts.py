"""How hard to think, in the words that a model has for it.

OpenAI's words are below, from little to much (openai 3.52, `types/shared/reasoning_effort.py`); no
model takes all of them, and one that does not think refuses any: "Unsupported parameter:
'reasoning.effort' is not supported with this model" (gpt-4.1), "'minimal' is not supported with
the 'gpt-5.1' model". So models are known by their names here; the nearest word that a model takes
stands for one that it does not.

Who asks for thinking without such a word (Anthropic's `thinking`, with a budget or without) gets
what LiteLLM makes of it (`litellm_core_utils/reasoning_effort_utils.py`, read 2026-11-22): from
4096 tokens high, from 2048 medium, below low, and medium where there is no budget; but only from
models that are known to take it, because some clients ask for thinking as a matter of course.

Grok: docs.x.ai, "Reasoning", and hermes-agent issue 23435 ("Model grok-4 does not support parameter
reasoningEffort"). "none" is OpenAI's word; others get it only where they are known to take it, as
Qwen does at Groq (console.groq.com/docs/reasoning).

OpenAI's chat completions refuse thinking together with tools since gpt-5.2: "Function tools with
reasoning_effort are not supported for gpt-5.6 in /v1/chat/completions. To use function tools, use
/v1/responses or set reasoning_effort to 'none'." (openai-openapi issue 541, litellm PR 34569.)
"""

from __future__ import annotations

import re

import msgspec

from trunkline.wire.asked import Asked, Reasoning
from trunkline.wire.client import Terms

_WORDS = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
_USUAL = ("low", "medium", "high")


class _Family(msgspec.Struct, frozen=True):
    """Models that are alike, by the beginning of their names less any folder before them."""

    pattern: re.Pattern[str]
    # What they take. Empty: they do not think.
    words: tuple[str, ...]
    # Whether all of them think when they are told to.
    thinks: bool = True
    # False: there is no word for not thinking.
    told_off: bool = True
    # True: they think unless they are told not to.
    always: bool = False


def _family(
    pattern: str,
    *words: str,
    thinks: bool = True,
    told_off: bool = True,
    always: bool = False,
) -> _Family:
    return _Family(re.compile(pattern), words, thinks, told_off, always)


# The first that fits counts.
_FAMILIES = (
    _family(r"(?:ft:)?(?:gpt-3|gpt-4|chatgpt-)|gpt-\d.*-chat", thinks=False),
    _family(r"o\d|gpt-oss|gpt-5(?:-\d+)?-codex", *_USUAL),
    _family(r"gpt-5-pro", "high"),
    _family(r"gpt-5(?![.\d])", "minimal", *_USUAL),
    _family(r"gpt-5\.1(?!-codex-max)", "none", *_USUAL),
    _family(r"(?:ft:)?(?:gpt-\d|codex)", "none", *_USUAL, "xhigh", "max"),
    # Mistral's API takes "none", the default, and "high"; of many models neither.
    _family(r"mistral-(?:small-(?:latest|2603)|medium-(?:2604|3[.-]5))", "high", told_off=False),
    _family(r"(?:open-)?(?:mis|magis|minis|codes|devs|pix|mix)tral", "high",
            thinks=False, told_off=False),
    _family(r"grok-3-mini", "low", "high", told_off=False, always=True),
    _family(r"grok-4\.3", "none", *_USUAL),
    _family(r"grok-4\.5", *_USUAL, told_off=False, always=True),
    # It tells how many agents there are.
    _family(r"grok-4\.20-multi-agent", *_USUAL, "xhigh",
            thinks=False, told_off=False, always=True),
    _family(r"grok-(?:[23]|(?:code|4(?:[.-]\d+)?).*non-reasoning)", thinks=False),
    _family(r"grok-(?:code|4(?:-|$|\.20))", thinks=False, told_off=False, always=True),
    # They have words of their own for much.
    _family(r"deepseek-(?:r\d|reasoner|v[4-9])", *_WORDS,
            thinks=False, told_off=False, always=True),
    _family(r"deepseek|grok", *_WORDS, thinks=False, told_off=False),
    _family(r"qwen", "none", *_USUAL, thinks=False),
)  # fmt: skip
_UNKNOWN = _family("", *_USUAL, thinks=False, told_off=False)
_ANY = _family("", *_WORDS)


# Models that do not think where they have tools, in OpenAI's chat completions.
_EITHER = re.compile(r"(?:ft:)?gpt-(?:5\.[2-9]|[6-9])")


def effort(asked: Asked, told: str, *, tools: bool = False) -> str | None:
    """What is to be said of thinking; None: nothing. `tools`: there are some, in a chat completion.

    What is asked for and has no place is told as `told`: no model that does not think is a reason
    to refuse.
    """
    wanted = asked.reasoning()
    asked.pass_over("reasoning", told)
    family = _ANY if asked.has("any_effort") else _of(asked.terms.model)
    word = _word(wanted, family)
    needed = wanted.enabled is not False or family.always
    if word is None and wanted != Reasoning() and needed:
        asked.tell(told)
    if tools and word != "none" and _either(asked.terms):
        # Also where nobody asked for it: newer ones think unless they are told not to.
        asked.tell(told)
        return "none"
    return word


def _word(wanted: Reasoning, family: _Family) -> str | None:
    if not family.words or (wanted.off and not family.told_off):
        return None
    said = "none" if wanted.off else wanted.effort
    if said is None and family.thinks:
        said = _derived(wanted)
    if said is None or said not in _WORDS:
        return said
    # Who wants some thinking is never told that there is to be none.
    words = [one for one in family.words if one != "none" or wanted.off]
    at = _WORDS.index(said)
    return min(words, key=lambda one: (abs(_WORDS.index(one) - at), -_WORDS.index(one)))


def _derived(wanted: Reasoning) -> str | None:
    budget = wanted.budget
    if budget is None:
        return "medium" if wanted.enabled else None
    return "high" if budget >= 4096 else "medium" if budget >= 2048 else "low"


def _of(model: str) -> _Family:
    name = _name(model)
    return next((one for one in _FAMILIES if one.pattern.match(name)), _UNKNOWN)


def _either(terms: Terms) -> bool:
    openai = "max_completion_tokens" in terms.features
    return openai and _EITHER.match(_name(terms.model)) is not None


def _name(model: str) -> str:
    return model.rpartition("/")[2].lower()
