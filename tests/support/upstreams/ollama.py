"""Ollama's chat, generate, tags, ps, show and version.

Shapes: docs/api.md of ollama/ollama fb30760 (2026-08-21).
"""

from __future__ import annotations

from typing import Any

from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_CREATED = "2026-11-21T06:00:00.123456789Z"
_LINES = "application/x-ndjson"
_JSON = "application/json; charset=utf-8"
_DETAILS = {
    "parent_model": "",
    "format": "gguf",
    "family": "llama",
    "families": ["llama"],
    "parameter_size": "3.2B",
    "quantization_level": "Q4_K_M",
}


def answer(seen: Seen, script: Script) -> Reply | None:
    """Ollama."""
    if script.error:
        return failed(script, {"error": script.message})
    match seen.path:
        case "/api/chat" | "/api/generate":
            return _generate(seen, script)
        case "/api/tags":
            model = {"name": "stand-in:latest", "model": "stand-in:latest", "size": 2019393189}
            told = {"modified_at": _CREATED, "digest": "a" * 64, "details": _DETAILS}
            return Reply(dumps({"models": [model | told]}), _JSON)
        case "/api/ps":
            return Reply(dumps({"models": []}), _JSON)
        case "/api/show":
            shown = {"details": _DETAILS, "capabilities": ["completion", "tools", "thinking"]}
            context = {"general.architecture": "llama", "llama.context_length": 131072}
            return Reply(dumps(shown | {"model_info": context, "template": ""}), _JSON)
        case "/api/version":
            return Reply(dumps({"version": "0.12.11"}), _JSON)
        case "/":
            return Reply(b"Ollama is running", "text/plain; charset=utf-8")
    return None


def _generate(seen: Seen, script: Script) -> Reply:
    base = {"model": seen.body["model"], "created_at": _CREATED}
    chats = seen.path == "/api/chat"

    def said(text: str = "", thinking: str = "", calls: Any = None) -> dict[str, Any]:
        """The part of a line that says something; what is empty is left out."""
        more: dict[str, Any] = {"thinking": thinking} if thinking else {}
        if not chats:
            return {"response": text} | more
        if calls:
            more["tool_calls"] = calls
        return {"message": {"role": "assistant", "content": text} | more}

    calls = [
        {"id": call.id, "function": {"index": i, "name": call.name, "arguments": call.arguments}}
        for i, call in enumerate(script.calls)
    ]
    last = {"done": True, "done_reason": script.finish} | _metrics(script)
    if seen.body.get("stream") is False:
        whole = said(script.text, script.reasoning, calls)
        return Reply(dumps(base | whole | last), _JSON)
    parts = [said(thinking=script.reasoning)] if script.reasoning else []
    parts += [said(piece) for piece in script.pieces]
    parts += [said(calls=[call]) for call in calls]
    lines = [base | part | {"done": False} for part in parts]
    lines.append(base | said() | last)
    return Reply(tuple(dumps(line) + b"\n" for line in lines), _LINES)


def _metrics(script: Script) -> dict[str, int]:
    return {
        "total_duration": 4883583458,
        "load_duration": 1334875,
        "prompt_eval_count": script.prompt_tokens,
        "prompt_eval_duration": 342546000,
        "eval_count": script.completion_tokens,
        "eval_duration": 4535599000,
    }
