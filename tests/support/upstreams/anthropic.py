"""Anthropic's messages, count_tokens and models.

It refuses what the documents say is refused of thinking (.../build-with-claude/thinking),
and what issues tell of: blank text (claude-code 23440), calls without tools (litellm 27620),
system messages alone (helicone 5257).
Shapes: platform.claude.com/docs/en/api/messages, .../build-with-claude/streaming and
.../api/errors (read 2026-11-21). On Vertex AI: .../api/claude-on-vertex-ai (read 2026-11-22).
"""

from __future__ import annotations

import re
from typing import Any

import msgspec

from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    529: "overloaded_error",
}
# What thoughts are signed with.
SIGNATURE = "c2lnbmF0dXJl"
_EVENTS = "text/event-stream; charset=utf-8"


def answer(seen: Seen, script: Script) -> Reply | None:
    """Anthropic."""
    # Newer clients send a key as a bearer token.
    if not {"x-api-key", "authorization"} & seen.headers.keys():
        return _failed(Script(error=401, message="x-api-key header is required"))
    if "anthropic-version" not in seen.headers:
        return _failed(Script(error=400, message="anthropic-version: header is required"))
    if script.error:
        return _failed(script)
    path = seen.path.partition("?")[0]
    if path == "/v1/models":
        model = {"type": "model", "id": "stand-in", "display_name": "Stand-in"}
        model["created_at"] = "2026-11-21T00:00:00Z"
        listed = {"data": [model], "has_more": False, "first_id": "stand-in", "last_id": "stand-in"}
        return Reply(dumps(listed))
    if path == "/v1/messages/count_tokens":
        return Reply(dumps({"input_tokens": script.prompt_tokens}))
    if path != "/v1/messages":
        return None
    if "max_tokens" not in seen.body:
        return _failed(Script(error=400, message="max_tokens: Field required"))
    if problem := _problem(seen.body):
        return _failed(Script(error=400, message=problem))
    return _stream(seen, script) if seen.body.get("stream") else _whole(seen, script)


_ON_VERTEX = re.compile(
    r"/v1/projects/[\w-]+/locations/[\w-]+/publishers/anthropic/models/([\w@.-]+)"
    r":(rawPredict|streamRawPredict)"
)


def on_vertex(seen: Seen, script: Script) -> Reply | None:
    """The same models on Vertex AI."""
    found = _ON_VERTEX.fullmatch(seen.path)
    if found is None:
        return None
    body = seen.body
    if "authorization" not in seen.headers:
        return _failed(Script(error=401, message="Request had no authentication credentials"))
    if body.pop("anthropic_version", "") not in ("vertex-2023-10-16", "2026-10-21"):
        return _failed(Script(error=400, message="anthropic_version: Field required"))
    if "model" in body:
        return _failed(Script(error=400, message="model: Extra inputs are not permitted"))
    if bool(body.get("stream")) is not (found[2] == "streamRawPredict"):
        return _failed(Script(error=400, message="stream: does not go with the path"))
    headers = {**seen.headers, "anthropic-version": "2023-06-01"}
    data = dumps(body | {"model": found[1].partition("@")[0]})
    own = msgspec.structs.replace(seen, path="/v1/messages", headers=headers, data=data)
    return answer(own, script)


def _problem(body: dict[str, Any]) -> str:
    """What a body is refused for; "" = nothing."""
    if not body["messages"]:
        return "messages must have at least one element"
    placed = [
        (f"messages.{number}.content.{index}", block)
        for number, turn in enumerate(body["messages"])
        for index, block in enumerate(_content(turn))
    ]
    for where, block in placed:
        if block["type"] == "text" and not block["text"].strip():
            return "messages: text content blocks must contain non-whitespace text"
        if block["type"] == "thinking" and block["signature"] != SIGNATURE:
            return f"{where}: Invalid `signature` in `thinking` block"
    kinds = {block["type"] for _, block in placed}
    if kinds & {"tool_use", "tool_result"} and not body.get("tools"):
        return "tools: must be defined where there are `tool_use` blocks"
    if sum("cache_control" in block for _, block in placed) > 4:
        return "A maximum of 4 blocks with cache_control may be provided."
    return _thinking_problem(body)


def _thinking_problem(body: dict[str, Any]) -> str:
    thinking = body.get("thinking") or {}
    if thinking.get("type") != "enabled":
        return ""
    if not 1024 <= thinking["budget_tokens"] < body["max_tokens"]:
        return "`max_tokens` must be greater than `thinking.budget_tokens`"
    if body.get("tool_choice", {}).get("type") in ("any", "tool"):
        return "Thinking may not be enabled when tool_choice forces tool use."
    place, first = _unfinished(body["messages"])
    if first not in ("", "thinking", "redacted_thinking"):
        return f"messages.{place}: Expected `thinking`, but found `{first}`"
    return ""


def _unfinished(turns: list[dict[str, Any]]) -> tuple[int, str]:
    """Where a turn began that goes on with results of tools, and the type of its first block.

    All calls and results up to the answer are one turn of the model's
    (.../build-with-claude/thinking, "Thinking with tool use").
    """
    place, first, returns = len(turns), "", False
    for number in range(len(turns) - 1, -1, -1):
        blocks = _content(turns[number])
        if turns[number]["role"] == "user":
            returns = returns or any(block["type"] == "tool_result" for block in blocks)
        elif returns or place == number + 1 < len(turns):
            place, first, returns = number, blocks[0]["type"], False
        else:
            break
    return place, first


def _content(turn: dict[str, Any]) -> list[dict[str, Any]]:
    content = turn["content"]
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


def _whole(seen: Seen, script: Script) -> Reply:
    blocks = [start | _filled(deltas) for start, deltas in _blocks(script)]
    message = _message(seen, script) | {"content": blocks, "stop_reason": _reason(script)}
    message["usage"]["output_tokens"] = script.completion_tokens
    return Reply(dumps(message))


def _stream(seen: Seen, script: Script) -> Reply:
    events = [
        _event("message_start", {"message": _message(seen, script)}),
        _event("ping", {}),
    ]
    for index, (start, deltas) in enumerate(_blocks(script)):
        events.append(_event("content_block_start", {"index": index, "content_block": start}))
        events += [
            _event("content_block_delta", {"index": index, "delta": delta}) for delta in deltas
        ]
        events.append(_event("content_block_stop", {"index": index}))
    delta = {"stop_reason": _reason(script), "stop_sequence": None}
    usage = {"output_tokens": script.completion_tokens}
    events.append(_event("message_delta", {"delta": delta, "usage": usage}))
    events.append(_event("message_stop", {}))
    return Reply(tuple(events), _EVENTS)


def _blocks(script: Script) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each block as it begins, and its deltas."""
    blocks: list[tuple[dict[str, Any], list[dict[str, Any]]]] = []
    if script.reasoning:
        deltas = [
            {"type": "thinking_delta", "thinking": script.reasoning},
            {"type": "signature_delta", "signature": SIGNATURE},
        ]
        blocks.append(({"type": "thinking", "thinking": "", "signature": ""}, deltas))
    if script.pieces:
        deltas = [{"type": "text_delta", "text": piece} for piece in script.pieces]
        blocks.append(({"type": "text", "text": ""}, deltas))
    for call in script.calls:
        arguments = dumps(call.arguments).decode()
        half = len(arguments) // 2
        deltas = [
            {"type": "input_json_delta", "partial_json": piece}
            for piece in ("", arguments[:half], arguments[half:])
        ]
        start = {"type": "tool_use", "id": call.id, "name": call.name, "input": call.arguments}
        blocks.append((start, deltas))
    return blocks


def _filled(deltas: list[dict[str, Any]]) -> dict[str, Any]:
    """What `deltas` make of a block that is told whole."""
    fields: dict[str, Any] = {}
    for delta in deltas:
        for name in ("text", "thinking", "signature"):
            if name in delta:
                fields[name] = fields.get(name, "") + delta[name]
    return fields


def _message(seen: Seen, script: Script) -> dict[str, Any]:
    return {
        "id": "msg_01",
        "type": "message",
        "role": "assistant",
        "model": seen.body["model"],
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {
            "input_tokens": script.prompt_tokens,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 0,
            "output_tokens": 1,
        },
    }


def _reason(script: Script) -> str:
    if script.calls:
        return "tool_use"
    return "max_tokens" if script.finish == "length" else "end_turn"


def _event(kind: str, fields: dict[str, Any]) -> bytes:
    data = {"type": kind} | fields
    block = data.get("content_block")
    if block is not None and block["type"] == "tool_use":
        # Streamed arguments come in deltas alone.
        data["content_block"] = block | {"input": {}}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), dumps(data))


def _failed(script: Script) -> Reply:
    error = {"type": _TYPES.get(script.error, "api_error"), "message": script.message}
    body = {"type": "error", "error": error, "request_id": "req_011"}
    return failed(script, body, request_id="req_011")
