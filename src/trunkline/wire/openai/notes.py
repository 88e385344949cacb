"""What a client says besides (`Request.notes`): no model of ours looks at it, other servers do.

Names and defaults: the official client's `types/chat/completion_create_params.py` and
`types/responses/response_create_params.py` (openai 3.54, read 2026-11-22). What means no more than
the default is no note. Nor is what has no effect here whoever answers:

- `stream_options.include_obfuscation`: nothing of ours is padded.
- `truncation` "auto": an input that is too long is an error, so nothing is lost unseen.
- `max_tool_calls`, and of `include` what tells of built-in tools: these are notes themselves
  (`tools.web_search`, as `responses_tools` finds them), and nothing else calls for the rest.
- `background_options`: running in the background is refused.
- `image`: so are images.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Raw

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Json, SamplingParams
from trunkline.wire.openai.fields import CommonFields, asks, decode, modest

# Values that mean the default.
_DEFAULTS = {
    "service_tier": b'"auto"',
    "verbosity": b'"medium"',
    "prompt_cache_options": b'{"mode":"implicit"}',
}
# Whose neutral value may differ from what a server does when nothing is said. (Penalties are 0
# everywhere, and some models refuse the mere name.)
_EXPLICIT = ("temperature", "top_p", "min_p", "repetition_penalty")
_NEUTRAL = SamplingParams()
# Kinds of what is passed over, each a note, of one request; and characters of such a name.
_MOST_KINDS = 32
_LONGEST_KIND = 48

_any = msgspec.json.Decoder(Any)


class Notes:
    """Finds notes among the raw fields `names`."""

    def __init__(self, *names: str) -> None:
        self._names = names

    def of(self, fields: msgspec.Struct) -> Json:
        """The notes, by name. Raises `InvalidRequest`."""
        return {
            name: readable(raw, name)
            for name in self._names
            if asks(raw := getattr(fields, name)) and bytes(raw) != _DEFAULTS.get(name)
        }


def readable(raw: Raw, where: str) -> Any:
    """What `raw` says. Raises `InvalidRequest` for what cannot be sent on."""
    found = decode(_any, raw, where)
    if not modest(found):
        problem = f"Invalid '{where}': nested too deeply, or an integer beyond 64 bits."
        raise InvalidRequest(problem, param=where)
    return found


def explicit(fields: CommonFields) -> tuple[str, ...]:
    """As `Request.explicit`."""
    return tuple(name for name in _EXPLICIT if getattr(fields, name) == getattr(_NEUTRAL, name))


def kinds(prefix: str, names: Iterable[str]) -> Json:
    """Notes of what is passed over, by kind; the names go into a header field."""
    found: Json = {}
    for name in names:
        plain = name.isascii() and name.replace("_", "").replace("-", "").isalnum()
        known = plain and len(name) <= _LONGEST_KIND and len(found) < _MOST_KINDS
        found[f"{prefix}.{name if known else 'other'}"] = True
    return found
