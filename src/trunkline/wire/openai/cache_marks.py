"""Marks of clients of OpenAI's dialects that the prompt up to them is worth keeping.

- `cache_control`, as Anthropic spells it, is what clients of LiteLLM and of OpenRouter send: on
  parts, on messages and on tools (docs.litellm.ai/docs/completion/prompt_caching), and at the top
  of a body for the prompt as a whole (openrouter.ai/docs, AnthropicCacheControlDirective).
- `prompt_cache_breakpoint` on parts is OpenAI's (the official client's
  `types/chat/chat_completion_content_part_text_param.py`, openai 3.54, read 2026-11-22). It keeps
  for 30 minutes and more; "1h" is the longest of `CachePoint`.

They are hints: of a shape that nobody knows they are none, and never an error. A mark of a part
counts behind that part, as far as the part is a text block of its own (`core.types.TextPart`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.outline import FAULTS
from trunkline.wire.openai.fields import NOTHING

_LIFETIMES = ("5m", "1h")

_any = msgspec.json.Decoder(Any)


class Marked(msgspec.Struct):
    """What may be marked."""

    cache_control: Raw = NOTHING
    prompt_cache_breakpoint: Raw = NOTHING


def lifetime(marked: Iterable[Marked]) -> str | None:
    """How long the last mark among `marked` wants to be kept, "" = not said; None: no mark."""
    found: str | None = None
    for one in marked:
        if one.cache_control is not NOTHING:
            said = of_control(_decoded(one.cache_control))
            found = found if said is None else said
        if one.prompt_cache_breakpoint is not NOTHING:
            said = _of_breakpoint(_decoded(one.prompt_cache_breakpoint))
            found = found if said is None else said
    return found


def part_marks(parts: Iterable[Marked]) -> list[tuple[int, str]]:
    """(index of a part that is marked, how long it wants to be kept), in order."""
    found = ((index, lifetime((part,))) for index, part in enumerate(parts))
    return [(index, ttl) for index, ttl in found if ttl is not None]


def of_control(control: object) -> str | None:
    """As `lifetime`, of a decoded `cache_control`."""
    if not isinstance(control, dict) or control.get("type") != "ephemeral":
        return None
    said = control.get("ttl")
    return said if said in _LIFETIMES else ""


def _of_breakpoint(mark: object) -> str | None:
    if not isinstance(mark, dict) or mark.get("mode") != "explicit":
        return None
    return "1h" if mark.get("ttl") else ""


def _decoded(raw: Raw) -> object:
    try:
        found: object = _any.decode(raw)
    except FAULTS:
        return None
    return found
