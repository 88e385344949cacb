"""Requests in the words of Bedrock's Converse: messages of blocks, toolConfig, inferenceConfig.

Shapes: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and the service
model of bedrock-runtime 2023-09-30 in botocore 1.44 (read 2026-11-21). Nova's topK:
docs.aws.amazon.com/nova/latest/userguide/using-converse-api.html (read 2026-11-22).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from trunkline.core.types import ChatInput, Json, Request
from trunkline.wire.asked import Asked, schema_of
from trunkline.wire.bedrock.families import Family, family_of
from trunkline.wire.bedrock.thinking import place_thinking
from trunkline.wire.bedrock.turns import cache_point, order_lifetimes, place_turns

_NO_PARAMETERS: Json = {"type": "object", "properties": {}}
_GONE = "It was called before; it may not be called now."
# Claude tells which of the sequences it has come upon.
STOP_PATH = "/stop_sequence"
# As clients say it -> AWS's word; "" = as it is without a word.
_TIERS = {
    "auto": "",
    "standard_only": "default",
    **{tier: tier for tier in ("default", "flex", "priority", "reserved")},
}
_KEY = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{1,256}")
_VALUE = re.compile(r"[a-zA-Z0-9\s:_@$#=/+,\-.]{0,256}")
_MOST_PAIRS = 16


def body_of(asked: Asked, source: ChatInput, request: Request) -> Json:
    """The body. Raises `InvalidRequest` for a conversation that there cannot be."""
    family = family_of(asked.terms.model)
    body: Json = {}
    place_turns(asked, body, source, family)
    config = _config(asked, request, family)
    if config:
        body["inferenceConfig"] = config
    _place_tools(asked, body, source, request, family)
    if source.cache_points:
        order_lifetimes(asked, body)
    _place_format(asked, body)
    more: Json = {}
    _place_top_k(asked, more, request, family)
    place_thinking(asked, body, more, source, family)
    if more:
        body["additionalModelRequestFields"] = more
    if family.claude is not None and "stopSequences" in config:
        body["additionalModelResponseFieldPaths"] = [STOP_PATH]
        # What matched is told, so the reader can put it back.
        asked.take("include_stop")
    if not body.get("inferenceConfig", True):
        del body["inferenceConfig"]
    _place_notes(asked, body)
    # Where an assistant's turn is the last, the answer goes on from it.
    asked.take("continue_final_message", "continue_final_message")
    return body


def _config(asked: Asked, request: Request, family: Family) -> Json:
    """`inferenceConfig`; temperature and topP end at 1 there, and maxTokens begins with it."""
    config: Json = {}
    sampling = request.sampling
    if sampling.max_tokens != 0:
        asked.place(config, "max_tokens", "maxTokens")
    if family.claude is not None:
        # 1 is what it has anyway, and some refuse to be told so.
        for name in ("temperature", "top_p"):
            if name in request.explicit:
                asked.take(name)
    if family.samples:
        if sampling.temperature <= 1:
            asked.place(config, "temperature", "temperature")
        if family.samples_by_both or "temperature" not in config:
            asked.place(config, "top_p", "topP")
    stops: list[str] | None = asked.take("stop")
    if stops is not None:
        # Those of white space alone are refused by Claude.
        sent = stops if family.claude is None else [one for one in stops if one.strip()]
        if sent:
            config["stopSequences"] = sent
        if len(sent) < len(stops):
            asked.leave("stop", stops)
    return config


def _place_top_k(asked: Asked, more: Json, request: Request, family: Family) -> None:
    """Converse has no field for it, but Claude and Nova have."""
    if request.sampling.top_k <= 0:
        asked.take("top_k")
    elif family.claude is not None and family.samples:
        asked.put(more, "top_k", "top_k")
    elif family.nova:
        config: Json = {}
        asked.put(config, "top_k", "topK")
        if config:
            more["inferenceConfig"] = config


def _place_tools(
    asked: Asked, body: Json, source: ChatInput, request: Request, family: Family
) -> None:
    if asked.peek("tool_choice") == "none":
        # There is no such choice there.
        for name in ("tools", "tool_choice", "parallel_tool_calls"):
            asked.take(name)
    tools = asked.take("tools", "tools")
    if tools:
        listed = [{"toolSpec": _tool(asked, tool["function"], family)} for tool in tools]
    else:
        # Turns with calls in them are refused without tools.
        listed = [{"toolSpec": _gone(name)} for name in _called(body["messages"])]
    if not listed:
        return
    _place_tools_mark(asked, listed, source, family)
    config: Json = {"tools": listed}
    # What cannot be demanded is left to be refused.
    match asked.peek("tool_choice") if family.forces else None:
        case "required":
            asked.take("tool_choice")
            config["toolChoice"] = {"any": {}}
        case "named":
            asked.take("tool_choice")
            config["toolChoice"] = {"tool": {"name": request.tool_name}}
    body["toolConfig"] = config


def _place_tools_mark(asked: Asked, listed: list[Any], source: ChatInput, family: Family) -> None:
    """Nova takes no cache point there; of models that take none at all the turns have told."""
    mark = next((point for point in source.cache_points if point.place == "tools"), None)
    if mark is None or not family.caches:
        return
    if not family.nova:
        listed.append(cache_point(asked, mark.ttl, family))
    else:
        asked.tell("cache_control")


def _called(messages: list[Json]) -> list[str]:
    """Names of the tools that were called, each once."""
    blocks = (block for message in messages for block in message["content"])
    return list(dict.fromkeys(block["toolUse"]["name"] for block in blocks if "toolUse" in block))


def _gone(name: str) -> Json:
    return {"name": name, "description": _GONE, "inputSchema": {"json": _NO_PARAMETERS}}


def _tool(asked: Asked, function: Json, family: Family) -> Json:
    sent: Json = {"name": function["name"]}
    if function.get("description"):
        sent["description"] = function["description"]
    sent["inputSchema"] = {"json": function.get("parameters") or _NO_PARAMETERS}
    if function.get("strict") is True:
        if family.strict:
            sent["strict"] = True
        else:
            asked.tell("tools.strict")
    return sent


def _place_format(asked: Asked, body: Json) -> None:
    grammar = asked.peek("grammar")
    if grammar is None or grammar.kind != "json_schema" or not asked.has("json_schema"):
        return
    schema = msgspec.json.encode(schema_of(asked.take("grammar"))).decode()
    told = {"schema": schema, "name": grammar.name or "answer"}
    if grammar.description:
        told["description"] = grammar.description
    structure = {"jsonSchema": told}
    body["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": structure}}


def _place_notes(asked: Asked, body: Json) -> None:
    """`serviceTier` and `requestMetadata`; what else is said is told by itself."""
    tier = asked.note("service_tier")
    if tier is not None:
        word = _TIERS.get(tier) if isinstance(tier, str) else None
        if word is None:
            asked.tell("service_tier")
        elif word:
            body["serviceTier"] = {"type": word}
    given = asked.note("metadata")
    if given is None:
        return
    pairs = {
        key: value
        for key, value in (given.items() if isinstance(given, dict) else ())
        if isinstance(value, str) and _KEY.fullmatch(key) and _VALUE.fullmatch(value)
    }
    kept = dict(list(pairs.items())[:_MOST_PAIRS])
    if not isinstance(given, dict) or len(kept) < len(given):
        asked.tell("metadata")
    if kept:
        body["requestMetadata"] = kept
