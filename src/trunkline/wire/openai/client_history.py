"""Earlier turns that another server answered, made to fit in bodies that are passed on.

A route may go to several servers, and what one calls fine the next refuses:

- ids of calls: `client_fields.call_id` tells whose are to be how;
- `reasoning_content` and `reasoning`, which our own answers have and clients send back: Mistral
  knows neither ("extra_forbidden", litellm issue 30835); Groq and Cerebras say "property
  'reasoning_content' is unsupported" (freellmapi issue 1070, qwen-code issue 11045), and take back
  `reasoning` from models of theirs that have said it. OpenAI does not look, others want it back;
- reasoning items whose `encrypted_content` we have made up: OpenAI "could not be decrypted or
  parsed" (codex issue 8145), also where the field alone is taken out (sub2api issue 3138).

Bodies that need none of it are not decoded, and stay as they are byte for byte. What makes no sense
is passed on as it is, for the server to say so.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import msgspec
from msgspec import Raw

from trunkline.core.outline import FAULTS
from trunkline.core.types import RawRequest
from trunkline.wire.client import Terms
from trunkline.wire.openai.client_fields import CHAT_ID, RESPONSES_ID, call_id
from trunkline.wire.openai.responses_items import HIDDEN

_MARK = HIDDEN.encode()
# The beginning of an id that may not fit: one that is not Mistral's, or too long for OpenAI.
_NOT_SHORT = re.compile(rb'id"\s*:\s*"(?![0-9A-Za-z]{9}")')
_LONG = {
    longest: re.compile(rb'id"\s*:\s*"[^"]{%d}' % (longest + 1))
    for longest in (CHAT_ID, RESPONSES_ID)
}

_list = msgspec.json.Decoder(list[Raw])
_fields = msgspec.json.Decoder(dict[str, Raw])
_text = msgspec.json.Decoder(str | None)
_encoder = msgspec.json.Encoder()


class _Kind(msgspec.Struct):
    role: str | None = None
    type: str | None = None
    encrypted_content: str | None = None


_kind = msgspec.json.Decoder(_Kind)

# A turn or item as it is to be, None: not at all; what is left out goes by name into the list.
_Mend = Callable[[Raw, list[str]], Raw | None]


def suits(terms: Terms) -> bool:
    """Whether the server takes turns of chat completions as any other has made them."""
    return terms.features.isdisjoint(("short_call_ids", "bare_turns", "max_completion_tokens"))


def chat_history(raw: RawRequest, terms: Terms) -> tuple[RawRequest, tuple[str, ...]]:
    """`raw` with turns that suit the server, and what is left out of them."""
    sent = raw.fields.get("messages")
    if sent is None or suits(terms):
        return raw, ()
    data = bytes(sent)
    bare = "bare_turns" in terms.features and b'"reasoning' in data
    ids = b'"tool_call' in data and _misfits(data, terms, CHAT_ID)
    if not (bare or ids):
        return raw, ()

    def mend(turn: Raw, left_out: list[str]) -> Raw:
        found = _fields.decode(turn)
        changed = {**found, **_call_ids(found, terms)} if ids else dict(found)
        if bare and _kind.decode(turn).role == "assistant" and _bare(changed, terms):
            left_out.append("messages.reasoning_content")
        return turn if changed == found else Raw(_encoder.encode(changed))

    return _mended(raw, "messages", sent, mend)


def input_history(raw: RawRequest, terms: Terms) -> tuple[RawRequest, tuple[str, ...]]:
    """As `chat_history`, of the items of a Responses request."""
    sent = raw.fields.get("input")
    if sent is None:
        return raw, ()
    data = bytes(sent)
    # Engines of open models do not look at it.
    hidden = terms.hosted and _MARK in data
    ids = b'"call_id"' in data and _misfits(data, terms, RESPONSES_ID)
    if not (hidden or ids):
        return raw, ()

    def mend(item: Raw, left_out: list[str]) -> Raw | None:
        if hidden and _is_ours(item):
            left_out.append("input.reasoning")
            return None
        found = _fields.decode(item)
        changed = {**found, **_fitting(found, "call_id", terms, RESPONSES_ID)}
        return item if changed == found else Raw(_encoder.encode(changed))

    return _mended(raw, "input", sent, mend)


def _misfits(data: bytes, terms: Terms, longest: int) -> bool:
    """Whether some id may not fit."""
    if "short_call_ids" in terms.features:
        return _NOT_SHORT.search(data) is not None
    return "max_completion_tokens" in terms.features and _LONG[longest].search(data) is not None


def _mended(
    raw: RawRequest, field: str, sent: Raw, mend: _Mend
) -> tuple[RawRequest, tuple[str, ...]]:
    left_out: list[str] = []
    try:
        turns = _list.decode(sent)
        kept = [one for one in (mend(turn, left_out) for turn in turns) if one is not None]
    except FAULTS:
        return raw, ()
    if kept == turns or not kept:
        return raw, ()
    fields = {**raw.fields, field: Raw(_encoder.encode(kept))}
    return msgspec.structs.replace(raw, fields=fields), tuple(dict.fromkeys(left_out))


def _call_ids(turn: dict[str, Raw], terms: Terms) -> dict[str, Raw]:
    """What changes in a turn with calls, or with the result of one."""
    changes = _fitting(turn, "tool_call_id", terms, CHAT_ID)
    calls = turn.get("tool_calls")
    if calls is not None and bytes(calls) != b"null":
        found = [_fields.decode(one) for one in _list.decode(calls)]
        fitting = [{**one, **_fitting(one, "id", terms, CHAT_ID)} for one in found]
        if fitting != found:
            changes["tool_calls"] = Raw(_encoder.encode(fitting))
    return changes


def _fitting(fields: dict[str, Raw], name: str, terms: Terms, longest: int) -> dict[str, Raw]:
    """The id `name` as the server takes it, where that is another."""
    given = _text.decode(fields[name]) if name in fields else None
    fit = call_id(given, terms, longest) if given else given
    return {} if fit == given else {name: Raw(_encoder.encode(fit))}


def _bare(turn: dict[str, Raw], terms: Terms) -> bool:
    """Take reasoning out of a turn. Returns whether there was any."""
    ours = turn.pop("reasoning_content", None)
    if ours is None and "short_call_ids" not in terms.features:
        # A model of its own has said that.
        return False
    return turn.pop("reasoning", None) is not None or ours is not None


def _is_ours(item: Raw) -> bool:
    if _MARK not in bytes(item):
        return False
    found = _kind.decode(item)
    return found.type == "reasoning" and (found.encrypted_content or "").startswith(HIDDEN)
