"""Requests in the words of Bedrock's Converse: messages of blocks, toolConfig, inferenceConfig.

Shapes: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and the service
model of bedrock-runtime 2023-09-30 in botocore 1.44 (read 2026-11-21).
"""

from __future__ import annotations

import hashlib
import re

import msgspec

from trunkline.core.types import ChatInput, Json, Message
from trunkline.wire.asked import Asked, arguments_of, schema_of, text_of

# Field of a request -> field of inferenceConfig.
_CONFIG = {
    "max_tokens": "maxTokens",
    "temperature": "temperature",
    "top_p": "topP",
    "stop": "stopSequences",
}
_NO_PARAMETERS: Json = {"type": "object", "properties": {}}
_TOOL_ID = re.compile(r"[a-zA-Z0-9_-]{1,64}")
# Claude's least, and what it gets where nothing says how much it may think.
_LEAST_THOUGHT = 1024
_USUAL_THOUGHT = 4096


def body_of(asked: Asked, source: ChatInput, tool_name: str) -> Json:
    """The body."""
    system, messages = _messages(source.messages)
    body: Json = {"messages": messages}
    if system:
        body["system"] = [{"text": text} for text in system]
    config: Json = {}
    for name, field in _CONFIG.items():
        asked.place(config, name, field)
    if config:
        body["inferenceConfig"] = config
    _place_tools(asked, body, tool_name)
    _place_format(asked, body)
    _place_model_fields(asked, body, config.get("maxTokens"))
    # Where an assistant's turn is the last, the answer goes on from it.
    asked.take("continue_final_message", "continue_final_message")
    asked.pass_over("reasoning", "reasoning_effort")
    return body


def tool_use_id(identifier: str) -> str:
    """`identifier` where it fits there, else one that is made of it."""
    if _TOOL_ID.fullmatch(identifier):
        return identifier
    return "id_" + hashlib.blake2b(identifier.encode(), digest_size=16).hexdigest()


def _place_tools(asked: Asked, body: Json, tool_name: str) -> None:
    # There is no such choice there; but turns with calls in them need their tools.
    if asked.peek("tool_choice") == "none" and not _has_calls(body["messages"]):
        asked.take("tools")
        asked.take("tool_choice")
    tools = asked.take("tools", "tools")
    if not tools:
        return
    config: Json = {"tools": [{"toolSpec": _tool(tool["function"])} for tool in tools]}
    match asked.peek("tool_choice"):
        case "required":
            asked.take("tool_choice")
            config["toolChoice"] = {"any": {}}
        case "named":
            asked.take("tool_choice")
            config["toolChoice"] = {"tool": {"name": tool_name}}
    body["toolConfig"] = config


def _has_calls(messages: list[Json]) -> bool:
    return any("toolUse" in block for message in messages for block in message["content"])


def _tool(function: Json) -> Json:
    sent: Json = {"name": function["name"]}
    if function.get("description"):
        sent["description"] = function["description"]
    sent["inputSchema"] = {"json": function.get("parameters") or _NO_PARAMETERS}
    return sent


def _place_format(asked: Asked, body: Json) -> None:
    grammar = asked.peek("grammar")
    if grammar is None or grammar.kind != "json_schema" or not asked.has("json_schema"):
        return
    schema = msgspec.json.encode(schema_of(asked.take("grammar"))).decode()
    structure = {"jsonSchema": {"schema": schema, "name": "answer"}}
    body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}


def _place_model_fields(asked: Asked, body: Json, max_tokens: int | None) -> None:
    """What Converse has no field for, but Claude has."""
    claude = "anthropic." in asked.terms.model
    more: Json = {}
    if claude:
        asked.put(more, "top_k", "top_k")
    reasoning = asked.reasoning()
    if reasoning.effort is not None and reasoning.effort != "none":
        body.setdefault("outputConfig", {})["effort"] = reasoning.effort
    elif reasoning.enabled and claude:
        most = 2 * _USUAL_THOUGHT if max_tokens is None else max_tokens
        more["thinking"] = {"type": "enabled", "budget_tokens": max(_LEAST_THOUGHT, most // 2)}
    elif reasoning.enabled:
        asked.leave("reasoning", reasoning)
    if more:
        body["additionalModelRequestFields"] = more


def _messages(messages: tuple[Message, ...]) -> tuple[list[str], list[Json]]:
    """System texts, and turns; those of one role that follow one another are one turn.

    A system message has no place among the turns there: later ones join the first.
    """
    system: list[str] = []
    turns: list[Json] = []
    for message in messages:
        if message.role in ("system", "developer"):
            system.append(text_of(message))
            continue
        role = "assistant" if message.role == "assistant" else "user"
        blocks = _blocks(message)
        if turns and turns[-1]["role"] == role:
            turns[-1]["content"] += blocks
        elif blocks:
            turns.append({"role": role, "content": blocks})
    return [text for text in system if text], turns


def _blocks(message: Message) -> list[Json]:
    """Thoughts are left out: without the model's signature they are refused there."""
    text = text_of(message)
    if message.role == "tool":
        identifier = tool_use_id(message.tool_call_id or "")
        # Text must not be empty there.
        content = [{"text": text or " "}]
        return [{"toolResult": {"toolUseId": identifier, "content": content}}]
    blocks: list[Json] = [{"text": text}] if text.strip() else []
    for call in message.tool_calls or ():
        use = {
            "toolUseId": tool_use_id(call["id"]),
            "name": call["function"]["name"],
            "input": arguments_of(call),
        }
        blocks.append({"toolUse": use})
    return blocks
