"""What a body says besides: of accounts, services and servers of Anthropic's.

Fields: the official client's `types/message_create_params.py` and `types/beta/` of the same name
(anthropic 2.11, read 2026-11-22).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from trunkline.core.errors import PreviousNotFound, Unsupported
from trunkline.core.types import Json
from trunkline.wire.anthropic.fields import MessagesFields
from trunkline.wire.anthropic.tools import is_own

# Field -> what it is where nothing is said.
_DEFAULTS: Mapping[str, Any] = {
    "billing_policy": {"type": "billing_policy", "bill_to": "self"},
    "container": None,
    "context_management": {"edits": []},
    "diagnostics": {"previous_message_id": None},
    "fallback_credit_token": None,
    "fallbacks": None,
    "inference_geo": None,
    "mcp_servers": None,
    "speed": "standard",
}
# Services by OpenAI's names; "auto" is what both have by default.
_TIERS = {"auto": None, "standard_only": "default"}
# What is told in a header: nothing that a client made up.
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


def noted(fields: MessagesFields, left_out: Iterable[str]) -> Json:
    """`Request.notes`; `left_out`: types of blocks.

    Raises `Unsupported` and `PreviousNotFound` for what would make a conversation another one.
    """
    _refuse(fields)
    notes = {
        name: value
        for name, default in _DEFAULTS.items()
        if (value := getattr(fields, name)) and value != default
    }
    if _clears_nothing(fields.context_management):
        notes.pop("context_management", None)
    notes |= _of_metadata(fields.metadata)
    if fields.service_tier is not None:
        tier = _tier(fields.service_tier)
        notes |= {"service_tier": tier} if tier else {}
    if fields.thinking is not None and fields.thinking.type == "between_tools":
        notes["thinking.between_tools"] = True
    notes |= {f"tools.{kind}": True for kind in _kinds(fields.tools or ())}
    return notes | {f"messages.{_name(kind)}": True for kind in left_out}


def _refuse(fields: MessagesFields) -> None:
    if fields.compaction:
        problem = "compaction: conversations are not summarized here; ask for that in a message"
        raise Unsupported(problem, param="compaction")
    if isinstance(fields.thread, dict) and fields.thread.get("type") == "continue":
        # The client then sends all messages by itself.
        problem = "thread: conversations are not kept here; send all messages"
        raise PreviousNotFound(problem, param="thread")


def _clears_nothing(management: Any) -> bool:
    """Whether all that is asked for is to keep each thought, as we do."""
    edits = management.get("edits") if isinstance(management, dict) else None
    return isinstance(edits, list) and management.keys() == {"edits"} and all(map(_keeps, edits))


def _keeps(edit: Any) -> bool:
    if not isinstance(edit, dict) or not str(edit.get("type")).startswith("clear_thinking_"):
        return False
    return edit.get("keep") in ("all", {"type": "all"})


def _of_metadata(metadata: Any) -> Json:
    if not isinstance(metadata, dict):
        return {}
    others = {
        name: value for name, value in metadata.items() if name != "user_id" and value is not None
    }
    user = metadata.get("user_id")
    return ({"user": user} if user else {}) | ({"metadata": others} if others else {})


def _tier(given: Any) -> Any:
    return _TIERS.get(given, given) if isinstance(given, str) else given


def _kinds(tools: Sequence[Json]) -> list[str]:
    """Types of the tools that are passed over."""
    return [_name(tool.get("type")) for tool in tools if not is_own(tool)]


def _name(kind: Any) -> str:
    return kind if isinstance(kind, str) and _NAME.fullmatch(kind) else "other"
