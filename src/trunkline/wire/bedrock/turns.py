"""Conversations as Converse's turns of blocks; blank texts are refused there, so they are left out.

system, developer      -> `system`, wherever they stand
tool                   -> a `toolResult` block of the user's turn
consecutive turns of one role are one turn; an assistant's begins with its signed thoughts, which
the service wants back unmodified (`ReasoningTextBlock` in botocore 1.44)
cache points are blocks of their own, behind the text or the message that is marked; their lifetimes
may not grow (strandsagents.com/docs/api/typescript/BedrockCacheTTL, read 2026-11-22)
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, Json, Message, Thought
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.asked import Asked, arguments_of, texts_of
from trunkline.wire.bedrock.families import Family
from trunkline.wire.cache_points import WHOLE, placed

_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# What a tool has said that said nothing. Some models refuse blank text there, and no content.
_NOTHING = "(empty)"
# Most cache points of a request.
_MOST_POINTS = 4


def place_turns(asked: Asked, body: Json, source: ChatInput, family: Family) -> None:
    """`messages`, and `system` where there is any.

    Raises `InvalidRequest` where there is no turn, or one of the user has nothing in it.
    """
    marks = _marks(asked, source, family)
    system: list[Json] = []
    turns: list[Json] = []
    for index, message in enumerate(source.messages):
        if message.name and message.role != "tool":
            asked.tell("messages.name")
        blocks = _blocks(asked, message, family)
        if index in marks:
            blocks = _marked(asked, blocks, marks[index], family)
        if message.role in ("system", "developer"):
            if turns:
                # There is no place for it but in front.
                asked.tell("messages.system")
            to = system
        else:
            role = "assistant" if message.role == "assistant" else "user"
            if not turns or turns[-1]["role"] != role:
                if role == "assistant" and not blocks:
                    continue
                turns.append({"role": role, "content": []})
            to = turns[-1]["content"]
        to += blocks
    if not turns or not all(turn["content"] for turn in turns):
        problem = (
            "Bedrock takes no turn of the user without text: say something in it, or leave it out."
        )
        raise InvalidRequest(problem, param="messages")
    body["messages"] = turns
    if system:
        body["system"] = system


def cache_point(asked: Asked, ttl: str, family: Family) -> Json:
    """A `cachePoint` block. Five minutes is what all of them keep."""
    point: Json = {"type": "default"}
    if ttl and family.caches_long:
        point["ttl"] = ttl
    elif ttl not in ("", "5m"):
        asked.tell("cache_control.ttl")
    return {"cachePoint": point}


def order_lifetimes(asked: Asked, body: Json) -> None:
    """An hour may not follow five minutes: tools come first, then `system`, then the turns."""
    blocks = [*body.get("toolConfig", {}).get("tools", ()), *body.get("system", ())]
    for turn in body["messages"]:
        blocks += turn["content"]
    short = False
    for point in [block["cachePoint"] for block in blocks if "cachePoint" in block]:
        short = short or point.get("ttl") != "1h"
        if short and point.get("ttl") == "1h":
            asked.tell("cache_control.ttl")
            del point["ttl"]


def tool_use_id(identifier: str) -> str:
    """`identifier` where it fits there, else one that is made of it."""
    if _TOOL_ID.fullmatch(identifier):
        return identifier
    return "id_" + hashlib.blake2b(identifier.encode(), digest_size=16).hexdigest()


def signed(message: Message) -> list[Json]:
    """`reasoningContent` blocks of a message's thoughts, less those that no provider has sealed."""
    return [block for one in message.thoughts if (block := _thought(one)) is not None]


def _marks(asked: Asked, source: ChatInput, family: Family) -> dict[int, dict[int, Json]]:
    """As `placed`, of cache points. What exceeds the most that is taken goes in front."""
    points = source.cache_points
    if not points:
        return {}
    if not family.caches:
        asked.tell("cache_control")
        return {}
    room = _MOST_POINTS - any(point.place == "tools" for point in points)
    wanted = [
        (index, number, ttl)
        for index, numbers in placed(source).items()
        for number, ttl in numbers.items()
    ]
    if len(wanted) > room:
        asked.tell("cache_control")
    found: dict[int, dict[int, Json]] = {}
    for index, number, ttl in wanted[-room:]:
        found.setdefault(index, {})[number] = cache_point(asked, ttl, family)
    return found


def _marked(
    asked: Asked, blocks: list[Json], marks: Mapping[int, Json], family: Family
) -> list[Json]:
    """The blocks of a message, and its cache points where `placed` has them."""
    left = dict(marks)
    found: list[Json] = []
    texts = 0
    for block in blocks:
        found.append(block)
        if "text" in block:
            texts += 1
            if texts in left:
                found.append(left.pop(texts))
    if WHOLE in left and _takes_mark(found, family):
        found.append(left.pop(WHOLE))
    if left:
        asked.tell("cache_control")
    return found


def _takes_mark(blocks: list[Json], family: Family) -> bool:
    """Whether a cache point may stand behind `blocks`; Nova takes it behind text alone."""
    if not blocks:
        return False
    return "text" in blocks[-1] or not (family.nova or "reasoningContent" in blocks[-1])


def _blocks(asked: Asked, message: Message, family: Family) -> list[Json]:
    texts: list[Json] = [{"text": text} for text in texts_of(message) if text.strip()]
    if message.role == "tool":
        result = {
            "toolUseId": tool_use_id(message.tool_call_id or ""),
            "content": texts or [{"text": _NOTHING}],
        }
        return [{"toolResult": result}]
    thoughts = signed(message) if family.signs else []
    if not thoughts and (message.reasoning_content or message.thoughts):
        # Refused there, or of no use, without the model's own signature.
        asked.tell("reasoning_content")
    return [*thoughts, *texts, *(_use(call) for call in message.tool_calls or ())]


def _use(call: Mapping[str, Json]) -> Json:
    use = {
        "toolUseId": tool_use_id(str(call.get("id") or "")),
        "name": call["function"]["name"],
        "input": arguments_of(dict(call)),
    }
    return {"toolUse": use}


def _thought(thought: Thought) -> Json | None:
    if thought.sealed:
        return {"reasoningContent": {"redactedContent": _blob(thought.sealed)}}
    if not thought.signature or thought.signature == SIGNATURE:
        return None
    told = {"text": thought.text, "signature": thought.signature}
    return {"reasoningContent": {"reasoningText": told}}


def _blob(sealed: str) -> str:
    """A blob is base64 in JSON, which such data are already."""
    try:
        base64.b64decode(sealed, validate=True)
    except (binascii.Error, ValueError):
        return base64.b64encode(sealed.encode()).decode()
    return sealed
