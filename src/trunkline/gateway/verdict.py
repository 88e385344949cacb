"""What to do about an error that a target gave, by its kind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from trunkline.gateway.config import Fallbacks

# The lists of `Fallbacks`.
Cause = Literal["error", "context_window", "content_policy", "rate_limit"]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What one kind of error means."""

    # Another target may do better; this one may, a little later.
    elsewhere: bool = False
    again: bool = False
    # The target is to blame; its breaker counts it.
    ill: bool = False
    # Which fallbacks may help; None = the request itself is wrong, nobody can.
    cause: Cause | None = None


# A stream that broke off like this may be continued by another target.
BREAKS = frozenset({"upstream_failed", "upstream_timeout", "engine_crashed"})

_ILL = Verdict(elsewhere=True, again=True, ill=True, cause="error")
_BUSY = Verdict(elsewhere=True, again=True, cause="rate_limit")
_WRONG = Verdict()

_VERDICTS: Mapping[str, Verdict] = {
    "upstream_failed": _ILL,
    "upstream_timeout": _ILL,
    "engine_crashed": _ILL,
    "unavailable": _ILL,
    "internal": Verdict(elsewhere=True, ill=True, cause="error"),
    # Its key or its model's name is wrong, and will be the next time.
    "upstream_refused": Verdict(elsewhere=True, ill=True, cause="error"),
    "rate_limited": _BUSY,
    "queue_full": _BUSY,
    # What one cannot do, another may; what one finds wrong, a fallback may see otherwise.
    "unsupported": Verdict(elsewhere=True, cause="error"),
    "invalid_request": Verdict(cause="error"),
    "unprocessable": Verdict(cause="error"),
    "payload_too_large": Verdict(cause="error"),
    "context_overflow": Verdict(cause="context_window"),
    "content_refused": Verdict(cause="content_policy"),
}


def verdict(kind: str) -> Verdict:
    """What an error of `kind` means; one that is not known is the request's own fault."""
    return _VERDICTS.get(kind, _WRONG)


def fallback_names(fallbacks: Fallbacks, cause: Cause) -> tuple[str, ...]:
    """Routes to go on with, in order: those for this cause, then those for any."""
    special: Mapping[Cause, tuple[str, ...]] = {
        "error": (),
        "context_window": fallbacks.context_window,
        "content_policy": fallbacks.content_policy,
        "rate_limit": fallbacks.rate_limit,
    }
    return tuple(dict.fromkeys((*special[cause], *fallbacks.error)))
