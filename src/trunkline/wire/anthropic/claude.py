"""What the models of Anthropic take, as far as it differs between them, by their names.

Sources (read 2026-11-22): platform.claude.com/docs/en/models (limits, thinking and efforts of each)
and its migration guides for Opus 4.7, Opus 5.5 and Sonnet 5.5; thinking-tool-workflows in
build-with-claude (forced tools); `model_prices_and_context_window.json` of litellm 1.106 agrees.
That temperature and top_p are refused together from Opus 4.1 on: litellm issue 15097,
otoroshi-llm-extension issue 140; skydiscover issue 15 for 4.6.
"""

from __future__ import annotations

import functools
import re
from typing import Literal

import msgspec

# "claude-sonnet-4-5-20250929", "anthropic.claude-3-7-sonnet-...", "claude-opus-4@20250514",
# "anthropic/claude-sonnet-4.5"; a date is no version.
_NAME = re.compile(
    r"claude-(?:(?P<family>[a-z]+)-)?"
    r"(?P<major>\d{1,2})(?:[-.](?P<minor>\d{1,2})(?!\d))?(?!\d)(?:-(?P<after>[a-z]+))?"
)
_NUMBERLESS = re.compile(r"claude-(fable|mythos)")
_ALWAYS = ("fable", "mythos")

# What thinking within a budget has at least, and where nobody says how much; and the least top_p
# beside thinking.
LEAST_BUDGET = 1024
USUAL_BUDGET = 8192
LEAST_TOP_P = 0.95
# In rising order.
_EFFORTS = ("low", "medium", "high", "xhigh", "max")


class Claude(msgspec.Struct, frozen=True):
    """One model; the defaults are for a name that tells nothing."""

    # "budget": within a budget of tokens that the request names; "adaptive": as it sees fit;
    # "both": either way; "unknown": nobody knows.
    thinking: Literal["never", "budget", "both", "adaptive", "unknown"] = "unknown"
    # It thinks where nothing is said of it.
    by_default: bool = False
    # What turns thinking off; "" = nothing does.
    off: Literal["", "disabled", "between_tools"] = "disabled"
    # Words for how hard it tries.
    efforts: tuple[str, ...] = _EFFORTS
    # Most tokens of an answer, its thinking included.
    limit: int = 128_000
    # temperature, top_p and top_k may be other than they are by default.
    samples: bool = True
    # temperature and top_p may both be.
    samples_twice: bool = True
    # A call of a tool may be demanded.
    forces: bool = True
    # The last turn may be the model's own, to be continued.
    continues: bool = True


_UNKNOWN = Claude()


@functools.lru_cache(maxsize=256)
def claude(name: str) -> Claude:
    """The model of that name, on whatever platform."""
    name = name.lower()
    found = _NAME.search(name)
    if found is None:
        if (named := _NUMBERLESS.search(name)) is None:
            return _UNKNOWN
        return _adaptive(named[1], (5, 0))
    family = found["family"] or found["after"] or ""
    version = int(found["major"]), int(found["minor"] or 0)
    if version >= (4, 6):
        return _adaptive(family, version)
    if version < (3, 7):
        limit = 4096 if version < (3, 5) else 8192
        return Claude(thinking="never", efforts=(), limit=limit)
    return Claude(
        thinking="budget",
        efforts=_EFFORTS[:3] if (family, version) == ("opus", (4, 5)) else (),
        limit=32_000 if family == "opus" and version < (4, 5) else 64_000,
        samples_twice=version < (4, 1),
    )


def _adaptive(family: str, version: tuple[int, int]) -> Claude:
    older = version == (4, 6)
    always = family in _ALWAYS or (family in ("opus", "sonnet") and version >= (5, 5))
    off: Literal["", "disabled", "between_tools"] = "" if always else "disabled"
    return Claude(
        thinking="both" if older else "adaptive",
        by_default=version >= (5, 0),
        off="between_tools" if always and family == "sonnet" else off,
        efforts=("low", "medium", "high", "max") if older else _EFFORTS,
        samples=older,
        samples_twice=False,
        forces=not (always and version > (5, 0)),
        continues=False,
    )


def effort_for(model: Claude, wanted: str, *, most: str = "max") -> str | None:
    """The word nearest to `wanted` from below that the model knows; None: there is none.

    `most`: none above it.
    """
    wanted = "low" if wanted == "minimal" else wanted
    if wanted not in _EFFORTS:
        return None
    reach = min(_EFFORTS.index(wanted), _EFFORTS.index(most))
    known = [one for one in _EFFORTS[: reach + 1] if one in model.efforts]
    return known[-1] if known else None
