"""Thoughts that we have made up a signature for, taken out of bodies that are passed on.

Who speaks Messages to us gets `answer.SIGNATURE` with each thought that nobody signed, and sends it
back. A route may then go to Anthropic, which looks at signatures: "Invalid `signature` in
`thinking` block" (claude-code issue 10627). The rules of what must be left:
platform.claude.com/docs/en/build-with-claude/extended-thinking, "Preserving thinking blocks".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.types import RawRequest
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.client import Terms

_MARK = SIGNATURE.encode()
_CLEARING = b"clear_thinking"

_FAULTS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_THOUGHTS = ("thinking", "redacted_thinking")


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None


class _Turn(msgspec.Struct):
    role: str
    content: str | list[Raw]


class _Thinking(msgspec.Struct):
    type: str = ""


class _Management(msgspec.Struct):
    edits: list[Raw] = []


_turns = msgspec.json.Decoder(list[Raw])
_turn = msgspec.json.Decoder(_Turn)
_fields = msgspec.json.Decoder(dict[str, Raw])
_block = msgspec.json.Decoder(_Block)
_thinking = msgspec.json.Decoder(_Thinking)
_management = msgspec.json.Decoder(_Management)
_encoder = msgspec.json.Encoder()


def checks_signatures(terms: Terms) -> bool:
    """Whether the server may refuse thoughts that others have signed.

    Anthropic does, and who passes requests on to it under whatever name. Engines of open models do
    not look; where nobody knows, a thought of another model is no loss to speak of.
    """
    if "template_kwargs" in terms.features:
        return False
    return terms.hosted or "claude" in terms.model.lower()


def without_ours(raw: RawRequest) -> tuple[dict[str, Raw | UnsetType], tuple[str, ...]]:
    """What changes in the fields of `raw`, and what is left out by that; mostly nothing at all.

    What makes no sense is passed on as it is, for the server to say so.
    """
    messages = raw.fields.get("messages")
    if messages is None or _MARK not in bytes(messages):
        return {}, ()
    try:
        sent = _turns.decode(messages)
        kept = [one for one in map(_without, sent) if one is not None]
        changes: dict[str, Raw | UnsetType] = {"messages": Raw(_encoder.encode(kept))}
        left_out = "messages.thinking"
        if kept == sent or not kept:
            return {}, ()
        if _must_not_think(raw.fields, kept):
            changes |= _thoughtless(raw.fields)
            return changes, (left_out, "thinking")
    except _FAULTS:
        return {}, ()
    return changes, (left_out,)


def _without(turn: Raw) -> Raw | None:
    """A turn less thoughts with our signature; None: nothing is left of it."""
    if _MARK not in bytes(turn):
        return turn
    sent = _turn.decode(turn)
    if isinstance(sent.content, str):
        return turn
    kept = [one for one in sent.content if not _is_ours(one)]
    if len(kept) == len(sent.content):
        return turn
    if not kept:
        # Turns of one role may follow each other.
        return None
    return Raw(_encoder.encode(_fields.decode(turn) | {"content": kept}))


def _is_ours(raw: Raw) -> bool:
    if _MARK not in bytes(raw):
        return False
    block = _block.decode(raw)
    return block.type == "thinking" and block.signature == SIGNATURE


def _must_not_think(fields: Mapping[str, Raw], kept: list[Raw]) -> bool:
    """Whether a budget is given, but the last turn calls tools and has no thought left."""
    if "thinking" not in fields or _thinking.decode(fields["thinking"]).type != "enabled":
        return False
    calls = False
    for raw in reversed(kept):
        turn = _turn.decode(raw)
        blocks = [] if isinstance(turn.content, str) else turn.content
        kinds = {_block.decode(one).type for one in blocks}
        if turn.role == "assistant":
            if not kinds.isdisjoint(_THOUGHTS):
                return False
            calls = calls or "tool_use" in kinds
        elif "tool_result" not in kinds:
            break
    return calls


def _thoughtless(fields: Mapping[str, Raw]) -> dict[str, Raw | UnsetType]:
    """Thinking turned off, and what is refused without it."""
    changes: dict[str, Raw | UnsetType] = {"thinking": Raw(b'{"type":"disabled"}')}
    management = fields.get("context_management")
    if management is not None and _CLEARING in bytes(management):
        edits = [one for one in _management.decode(management).edits if _CLEARING not in bytes(one)]
        others: dict[str, Any] = dict(_fields.decode(management))
        changes["context_management"] = (
            Raw(_encoder.encode(others | {"edits": edits})) if edits else UNSET
        )
    return changes
