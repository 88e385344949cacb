"""Anthropic's messages, count_tokens and models.

Shapes: platform.claude.com/docs/en/api/messages, .../build-with-claude/streaming and
.../api/errors (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

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
    return _stream(seen, script) if seen.body.get("stream") else _whole(seen, script)


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
            {"type": "signature_delta", "signature": "c2lnbmF0dXJl"},
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
