"""Conversations as Anthropic's turns; `content` reads them back.

system, developer      -> `system`, wherever they stand: older models know no other place
tool                   -> a `tool_result` block of the user's turn
consecutive turns of one role are one turn; results of tools come first in it
thoughts               -> `thinking` and `redacted_thinking` blocks, before the turn's text
cache points           -> `cache_control` of the text block that they are behind, else of the last
                          block of the message; and of the last tool

Text of white space alone is refused there ("text content blocks must contain non-whitespace text",
claude-code issue 23440), and so are system messages alone ("messages must have at least one
element", helicone pull 5257), more than four marks, and one of an hour behind one of five minutes
(platform.claude.com/docs/en/build-with-claude/prompt-caching).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from trunkline.core.errors import Unsupported
from trunkline.core.types import ChatInput, Json, Message
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.anthropic.claude import claude
from trunkline.wire.asked import Asked, arguments_of, texts_of
from trunkline.wire.cache_points import WHOLE, placed

# What ids of calls may be made of.
_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_MOST_MARKS = 4
_UNMARKED = ("thinking", "redacted_thinking")


def turns(asked: Asked, source: ChatInput) -> tuple[str | list[Json], list[Json]]:
    """`system`, "" if there is none, and `messages`.

    Raises `Unsupported` for a user's turn that says nothing, and where there are no turns at all.
    """
    marks = placed(source)
    system: list[Json] = []
    found: list[Json] = []
    for number, message in enumerate(source.messages):
        if message.name is not None and message.role != "tool":
            asked.tell("messages.name")
        if message.role in ("system", "developer"):
            if found:
                # It comes before what it followed.
                asked.tell("messages.system")
            blocks = _texts(message)
            system += blocks
        else:
            blocks = _blocks(asked, message)
            _join(found, "assistant" if message.role == "assistant" else "user", blocks)
        if number in marks and not _mark(blocks, marks[number]):
            asked.tell("cache_control")
    if not found and not asked.has("template_kwargs"):
        problem = "Anthropic's API takes no system messages alone: add a user's message."
        raise Unsupported(problem, param="messages")
    for turn in found:
        if not turn["content"]:
            problem = "A user's turn has no text but white space; Anthropic's API takes none such."
            raise Unsupported(problem, param="messages")
        turn["content"] = _plain(_results_first(turn["content"]))
    return _plain(system) if system else "", found


def _join(found: list[Json], role: str, blocks: list[Json]) -> None:
    if not blocks and role == "assistant":
        return
    if found and found[-1]["role"] == role:
        found[-1]["content"] += blocks
    else:
        found.append({"role": role, "content": [*blocks]})


def lacks_thought(messages: Sequence[Message]) -> bool:
    """Whether the last turn is the model's own, or calls tools, and its thought is not there.

    Such a turn must begin with the signed thought that it began with, if thinking is on; what it
    says after results need not (platform.claude.com/docs/en/build-with-claude/thinking, "Thinking
    with tool use"; of answers to be continued: aider issue 3820).
    """
    checked = bool(messages) and messages[-1].role == "assistant"
    first: Message | None = None
    for message in reversed(messages):
        if message.role == "user":
            break
        if message.role == "assistant":
            first = message
            checked = checked or bool(message.tool_calls)
    return checked and first is not None and not first.thoughts


def called_tools(messages: Sequence[Message]) -> list[Json]:
    """The least that defines the tools that were called so far.

    Without any definition a conversation with calls in it is refused (litellm pull 27620).
    """
    names = [call["function"]["name"] for one in messages for call in one.tool_calls or ()]
    schema = {"type": "object", "properties": {}}
    return [{"name": name, "input_schema": schema} for name in dict.fromkeys(names)]


def limit_marks(asked: Asked, source: ChatInput, body: Json) -> None:
    """Mark the tools, where they are to be, and see that what is marked may be."""
    tools = body.get("tools")
    for point in source.cache_points:
        if point.place == "tools" and tools:
            tools[-1] = tools[-1] | {"cache_control": _control(point.ttl)}
    found: list[Json] = list(tools or ())
    found += body["system"] if isinstance(body.get("system"), list) else []
    for turn in body["messages"]:
        found += turn["content"] if isinstance(turn["content"], list) else []
    marked = [one for one in found if "cache_control" in one]
    for one in marked[:-_MOST_MARKS]:
        asked.tell("cache_control")
        del one["cache_control"]
    short = False
    for one in marked[-_MOST_MARKS:]:
        control = one["cache_control"]
        short = short or control.get("ttl") != "1h"
        if short and control.get("ttl") == "1h":
            asked.tell("cache_control.ttl")
            one["cache_control"] = {"type": "ephemeral"}


def call_id(given: str | None) -> str:
    """An id of a call, in the letters that are allowed."""
    return _FOREIGN.sub("_", given or "call")


def _blocks(asked: Asked, message: Message) -> list[Json]:
    if message.role == "tool":
        content = _plain(_texts(message))
        result: Json = {"type": "tool_result", "tool_use_id": call_id(message.tool_call_id)}
        return [result | ({"content": content} if content else {})]
    blocks = _thoughts(asked, message)
    blocks += _texts(message)
    for call in message.tool_calls or ():
        name = call["function"]["name"]
        use = {"id": call_id(call.get("id")), "name": name, "input": arguments_of(call)}
        blocks.append({"type": "tool_use", **use})
    return blocks


def _thoughts(asked: Asked, message: Message) -> list[Json]:
    """Reasoning of an earlier turn, or that it is left out.

    Anthropic takes only what it has signed itself, byte for byte; servers of open models do not
    look at signatures.
    """
    text = message.reasoning_content
    if asked.has("template_kwargs"):
        if any(thought.sealed for thought in message.thoughts):
            asked.tell("messages.redacted_thinking")
        return [_thinking(text, SIGNATURE)] if text else []
    if not message.thoughts or claude(asked.terms.model).thinking == "never":
        if text or message.thoughts:
            asked.tell("reasoning_content")
        return []
    return [
        {"type": "redacted_thinking", "data": thought.sealed}
        if thought.sealed
        else _thinking(thought.text, thought.signature)
        for thought in message.thoughts
    ]


def _thinking(text: str, signature: str) -> Json:
    return {"type": "thinking", "thinking": text, "signature": signature}


def _texts(message: Message) -> list[Json]:
    """Text blocks; those that show nothing are refused there."""
    return [{"type": "text", "text": text} for text in texts_of(message) if not text.isspace()]


def _mark(blocks: list[Json], wanted: Mapping[int, str]) -> bool:
    """Mark the blocks of a message as `placed` says; whether each mark has found one."""
    left = dict(wanted)
    texts = [block for block in blocks if block["type"] == "text"]
    for number, block in enumerate(texts, 1):
        if number in left:
            block["cache_control"] = _control(left.pop(number))
    last = next((block for block in reversed(blocks) if block["type"] not in _UNMARKED), None)
    if WHOLE in left and last is not None:
        last["cache_control"] = _control(left.pop(WHOLE))
    return not left


def _control(ttl: str) -> Json:
    return {"type": "ephemeral"} | ({"ttl": ttl} if ttl else {})


def _results_first(blocks: list[Json]) -> list[Json]:
    return sorted(blocks, key=lambda block: block["type"] != "tool_result")


def _plain(blocks: list[Json]) -> Any:
    """One text alone is a string."""
    if len(blocks) == 1 and blocks[0]["type"] == "text" and "cache_control" not in blocks[0]:
        return blocks[0]["text"]
    return blocks
