"""Bodies that are passed on to Anthropic although others have answered before.

Who speaks Messages to us gets `answer.SIGNATURE` with each thought that nobody signed, and sends it
back. A route may then go to Anthropic, which looks at signatures: "Invalid `signature` in
`thinking` block" (claude-code issue 10627). And within a budget it wants a turn that has called
tools to begin with a thought: "Expected `thinking` or `redacted_thinking`, but found `text`"
(opencode issue 3077), which turns of models that show no thoughts do not. So such a turn is ended
without thinking.

The rules (read 2026-11-22): platform.claude.com/docs/en/build-with-claude/thinking, "Thinking with
tool use": calls and results up to the answer are one turn; "in extended (manual) mode, the API
additionally enforces that the final assistant turn of a thinking-enabled request begins with a
thinking block. Adaptive mode relaxes this"; one without thinking should have no thoughts in it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from trunkline.core.outline import FAULTS
from trunkline.core.types import RawRequest
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.anthropic.claude import claude
from trunkline.wire.client import Terms

_MARK = SIGNATURE.encode()
_CLEARING = b"clear_thinking"
# Quotes within strings are escaped, so these bytes are the type of a block.
_RESULT = b'"tool_result"'
_THOUGHT = b"thinking"

_THOUGHTS = ("thinking", "redacted_thinking")


class _Block(msgspec.Struct):
    type: str = ""
    signature: str | None = None


class _Turn(msgspec.Struct):
    role: str
    content: str | list[Raw]


class _Role(msgspec.Struct):
    role: str


class _Thinking(msgspec.Struct):
    type: str = ""


class _Management(msgspec.Struct):
    edits: list[Raw] = []


_turns = msgspec.json.Decoder(list[Raw])
_turn = msgspec.json.Decoder(_Turn)
_role = msgspec.json.Decoder(_Role)
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


def adapted(raw: RawRequest, model: str) -> tuple[dict[str, Raw | UnsetType], tuple[str, ...]]:
    """What changes in the fields of `raw`, and what is left out by that; mostly nothing at all.

    What makes no sense is passed on as it is, for the server to say so.
    """
    messages = raw.fields.get("messages")
    if messages is None:
        return {}, ()
    marked = _MARK in bytes(messages)
    try:
        budgeted = _has_budget(raw.fields)
        if not marked and not (budgeted and _looks_for_thoughts(model)):
            return {}, ()
        sent = _turns.decode(messages)
        kept = [one for one in map(_without_ours, sent) if one is not None] if marked else sent
        if not kept:
            return {}, ()
        changes: dict[str, Raw | UnsetType] = {}
        left_out: tuple[str, ...] = ()
        looks = kept != sent or _looks_for_thoughts(model)
        if budgeted and looks and (start := _thoughtless_from(kept)) is not None:
            # A turn that is not thought about must have no thoughts in it.
            rest = [_without_thoughts(one) for one in kept[start:]]
            kept = [*kept[:start], *(one for one in rest if one is not None)]
            changes |= _unthinking(raw.fields)
            left_out = ("thinking",)
        if kept != sent:
            changes["messages"] = Raw(_encoder.encode(kept))
            left_out = ("messages.thinking", *left_out)
    except FAULTS:
        return {}, ()
    return changes, left_out


def _looks_for_thoughts(model: str) -> bool:
    """Whether a budget makes the model look for the thought that a turn began with."""
    known = claude(model).thinking
    return known in ("budget", "both") or (known == "unknown" and "claude" in model.lower())


def _has_budget(fields: Mapping[str, Raw]) -> bool:
    return "thinking" in fields and _thinking.decode(fields["thinking"]).type == "enabled"


def _without_ours(turn: Raw) -> Raw | None:
    """A turn less thoughts with our signature; None: nothing is left of it."""
    return _less(turn, _is_ours) if _MARK in bytes(turn) else turn


def _without_thoughts(turn: Raw) -> Raw | None:
    return _less(turn, _is_thought) if _THOUGHT in bytes(turn) else turn


def _less(turn: Raw, unwanted: Callable[[Raw], bool]) -> Raw | None:
    content = _turn.decode(turn).content
    if isinstance(content, str):
        return turn
    kept = [one for one in content if not unwanted(one)]
    if len(kept) == len(content):
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


def _is_thought(raw: Raw) -> bool:
    return _block.decode(raw).type in _THOUGHTS


def _thoughtless_from(turns: Sequence[Raw]) -> int | None:
    """Where the turn began that is in the middle of calling tools and has no thought first.

    None: there is none such. To the server, all that follows what the user said last is one turn:
    what it says after results of tools need not begin with a thought.
    """
    start: int | None = None
    returns = False
    for place in range(len(turns) - 1, -1, -1):
        if _role.decode(turns[place]).role != "assistant":
            returns = returns or _RESULT in bytes(turns[place])
        elif returns or start == place + 1:
            start, returns = place, False
        else:
            break
    if start is None:
        return None
    content = _turn.decode(turns[start]).content
    thinks = not isinstance(content, str) and content != [] and _is_thought(content[0])
    return None if thinks else start


def _unthinking(fields: Mapping[str, Raw]) -> dict[str, Raw | UnsetType]:
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
