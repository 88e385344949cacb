"""Conversations as Anthropic's turns; `content` reads them back.

system, developer      -> `system`, wherever they stand: older models know no other place
tool                   -> a `tool_result` block of the user's turn
consecutive turns of one role are one turn; results of tools come first in it
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from trunkline.core.types import Json, Message
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.asked import arguments_of

# What ids of calls may be made of.
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")


def turns(messages: Sequence[Message], *, thoughts: bool) -> tuple[str | list[Json], list[Json]]:
    """`system`, "" if there is none, and `messages`.

    `thoughts`: the reasoning of earlier turns is sent back. Anthropic takes only what it has
    signed itself; servers of open models do not look at signatures.
    """
    system: list[Json] = []
    found: list[Json] = []
    for message in messages:
        if message.role in ("system", "developer"):
            system += _texts(message)
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message, thoughts=thoughts)
        if not blocks:
            continue
        if found and found[-1]["role"] == role:
            found[-1]["content"] += blocks
        else:
            found.append({"role": role, "content": blocks})
    for turn in found:
        turn["content"] = _plain(_results_first(turn["content"]))
    return _plain(system) if system else "", found


def lacks_thought(messages: Sequence[Message]) -> bool:
    """Whether the last turn is in the middle of calling tools.

    Such a turn must begin with the signed thought that it began with, if thinking is on
    (platform.claude.com/docs/en/build-with-claude/extended-thinking, "Preserving thinking blocks").
    """
    for message in reversed(messages):
        if message.role == "user":
            return False
        if message.tool_calls:
            return True
    return False


def call_id(given: str | None) -> str:
    """An id of a call, in the letters that are allowed."""
    return _FOREIGN.sub("_", given or "call")


def _blocks(message: Message, *, thoughts: bool) -> list[Json]:
    if message.role == "tool":
        content = _plain(_texts(message))
        result: Json = {"type": "tool_result", "tool_use_id": call_id(message.tool_call_id)}
        return [result | ({"content": content} if content else {})]
    blocks: list[Json] = []
    if thoughts and message.reasoning_content:
        thought = {"thinking": message.reasoning_content, "signature": SIGNATURE}
        blocks.append({"type": "thinking", **thought})
    blocks += _texts(message)
    for call in message.tool_calls or ():
        name = call["function"]["name"]
        use = {"id": call_id(call.get("id")), "name": name, "input": arguments_of(call)}
        blocks.append({"type": "tool_use", **use})
    return blocks


def _texts(message: Message) -> list[Json]:
    """Text blocks; empty ones are refused there."""
    content = message.content or ""
    texts = [content] if isinstance(content, str) else [part.text for part in content]
    return [{"type": "text", "text": text} for text in texts if text]


def _results_first(blocks: list[Json]) -> list[Json]:
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _plain(blocks: list[Json]) -> Any:
    """One text alone is a string."""
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        return blocks[0]["text"]
    return blocks
