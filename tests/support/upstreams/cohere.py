"""Cohere's chat, version 2, and its models.

Shapes: docs.cohere.com/v2/reference/chat, .../chat-stream, .../list-models and
.../reference/errors (read 2026-11-21).
"""

from __future__ import annotations

from typing import Any

from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed


def answer(seen: Seen, script: Script) -> Reply | None:
    """Cohere."""
    if not seen.headers.get("authorization", "").lower().startswith("bearer "):
        return _failed(Script(error=401, message="no api key supplied"))
    if script.error:
        return _failed(script)
    path = seen.path.partition("?")[0]
    if path == "/v1/models":
        model = {"name": "stand-in", "endpoints": ["chat"], "context_length": 128000}
        return Reply(dumps({"models": [model]}))
    if path != "/v2/chat":
        return None
    if not 0.01 <= seen.body.get("p", 0.75) <= 0.99:
        return _failed(
            Script(error=400, message="invalid request: p must be between 0.01 and 0.99")
        )
    if not seen.body.get("stream"):
        return Reply(dumps(_whole(script)))
    events = [b"event: %b\ndata: %b\n\n" % (e["type"].encode(), dumps(e)) for e in _events(script)]
    return Reply((*events, b"data: [DONE]\n\n"), "text/event-stream")


def _whole(script: Script) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant"}
    if script.calls:
        message["tool_plan"] = script.reasoning or "I will call it."
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": dumps(call.arguments).decode()},
            }
            for call in script.calls
        ]
    else:
        thoughts = [{"type": "thinking", "thinking": script.reasoning}] if script.reasoning else []
        message["content"] = [*thoughts, {"type": "text", "text": script.text}]
    end = {"finish_reason": _reason(script), "usage": _usage(script)}
    return {"id": "c14c80c3", "message": message} | end


def _events(script: Script) -> list[dict[str, Any]]:
    start = {"role": "assistant", "content": [], "tool_plan": "", "tool_calls": []}
    events = [{"id": "29f14a5a"} | _event("message-start", None, start | {"citations": []})]
    if script.calls:
        plan = script.reasoning or "I will call it."
        events.append(_event("tool-plan-delta", None, {"tool_plan": plan}))
        for index, call in enumerate(script.calls):
            arguments = dumps(call.arguments).decode()
            function = {"name": call.name, "arguments": ""}
            begun = {"id": call.id, "type": "function", "function": function}
            events.append(_event("tool-call-start", index, {"tool_calls": begun}))
            half = len(arguments) // 2
            events += [
                _event("tool-call-delta", index, {"tool_calls": {"function": {"arguments": one}}})
                for one in (arguments[:half], arguments[half:])
            ]
            events.append({"type": "tool-call-end", "index": index})
    else:
        if script.reasoning:
            events += _block(0, "thinking", (script.reasoning,))
        events += _block(1 if script.reasoning else 0, "text", script.pieces)
    end = {"finish_reason": _reason(script), "usage": _usage(script)}
    return [*events, {"type": "message-end", "delta": end}]


def _block(index: int, kind: str, pieces: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        _event("content-start", index, {"content": {"type": kind, kind: ""}}),
        *(_event("content-delta", index, {"content": {kind: piece}}) for piece in pieces),
        {"type": "content-end", "index": index},
    ]


def _event(kind: str, index: int | None, message: dict[str, Any]) -> dict[str, Any]:
    where = {} if index is None else {"index": index}
    return {"type": kind} | where | {"delta": {"message": message}}


def _reason(script: Script) -> str:
    if script.calls:
        return "TOOL_CALL"
    return "MAX_TOKENS" if script.finish == "length" else "COMPLETE"


def _usage(script: Script) -> dict[str, Any]:
    counted = {"input_tokens": script.prompt_tokens, "output_tokens": script.completion_tokens}
    return {"billed_units": counted, "tokens": counted}


def _failed(script: Script) -> Reply:
    return failed(script, {"id": "8b3c", "message": script.message})
