"""Gemini's generateContent, streamGenerateContent, countTokens and models; Vertex AI's too.

Shapes: ai.google.dev/api/generate-content, .../api/models, .../gemini-api/docs/thinking and
.../troubleshooting, cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference (read
2026-11-21). Lines of its streams end with CRLF.
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_STATUSES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_PATH = re.compile(
    r"/v1(?:beta1?)?(?:/projects/[^/]+/locations/[^/]+/publishers/google)?"
    r"/models/([^/:]+):(\w+)(\?.*)?"
)


def answer(seen: Seen, script: Script) -> Reply | None:
    """Gemini, with a key, or Vertex AI, with a token."""
    if not {"x-goog-api-key", "authorization"} & seen.headers.keys() and "key=" not in seen.path:
        return _failed(Script(error=403, message="Method doesn't allow unregistered callers."))
    if script.error:
        return _failed(script)
    if seen.path.startswith("/v1beta/models?") or seen.path == "/v1beta/models":
        model = {"name": "models/stand-in", "supportedGenerationMethods": ["generateContent"]}
        return Reply(dumps({"models": [model]}))
    found = _PATH.fullmatch(seen.path)
    if found is None:
        return None
    if problem := _wrong(found[1], seen.body or {}):
        return _failed(Script(error=400, message=problem))
    if found[2] == "countTokens":
        return Reply(dumps({"totalTokens": script.prompt_tokens}))
    if found[2] == "generateContent":
        parts = [part for chunk in _parts(script) for part in chunk]
        whole = _answer(found[1], script, parts, finished=True)
        return Reply(dumps(whole), "application/json; charset=UTF-8")
    if found[2] != "streamGenerateContent" or "alt=sse" not in (found[3] or ""):
        return None
    chunks = [_answer(found[1], script, parts, finished=False) for parts in _parts(script)]
    chunks.append(_answer(found[1], script, [{"text": ""}], finished=True))
    return Reply(tuple(b"data: %b\r\n\r\n" % dumps(one) for one in chunks), "text/event-stream")


def _wrong(model: str, body: dict[str, Any]) -> str:
    """What is wrong with the turns, or with `thinkingConfig`, as .../docs/thinking has it."""
    contents = body.get("contents") or []
    if not contents:
        return "* GenerateContentRequest.contents: contents is not specified"
    if not all(turn.get("parts") for turn in contents):
        return "* GenerateContentRequest.contents[0].parts: contents.parts must not be empty."
    config = body.get("generationConfig", {}).get("thinkingConfig", {})
    budget, level = config.get("thinkingBudget"), config.get("thinkingLevel")
    if budget is not None and level is not None:
        return "You can only set only one of thinking budget and thinking level."
    if model.startswith("gemini-2.0") and config:
        return f"Thinking is not enabled for models/{model}"
    if model.startswith("gemini-2.5"):
        if level is not None:
            return "Thinking level is not supported for this model."
        lite = model.startswith("gemini-2.5-flash-lite")
        if config.get("includeThoughts") and (budget == 0 or (lite and budget is None)):
            return "Thinking_config.include_thoughts is only enabled when thinking is enabled."
        if model.startswith("gemini-2.5-pro") and budget == 0:
            return "Budget 0 is invalid. This model only works in thinking mode."
    if model.startswith("gemini-3") and "pro" in model and level == "MINIMAL":
        return "Thinking level MINIMAL is not supported for this model."
    return ""


def _parts(script: Script) -> list[list[dict[str, Any]]]:
    """The parts of each piece of a stream; calls come whole."""
    chunks: list[list[dict[str, Any]]] = []
    if script.reasoning:
        chunks.append([{"text": script.reasoning, "thought": True}])
    chunks += [[{"text": piece}] for piece in script.pieces]
    calls: list[dict[str, Any]] = []
    for number, call in enumerate(script.calls):
        part: dict[str, Any] = {"functionCall": {"name": call.name, "args": call.arguments}}
        if number == 0:
            # Of several at once the first has it.
            part["thoughtSignature"] = "c2lnbmF0dXJl"
        calls.append(part)
    if calls:
        chunks.append(calls)
    return chunks


def _answer(
    model: str, script: Script, parts: list[dict[str, Any]], *, finished: bool
) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    usage: dict[str, int] = {"promptTokenCount": script.prompt_tokens}
    if finished:
        candidate["finishReason"] = "MAX_TOKENS" if script.finish == "length" else "STOP"
        usage["candidatesTokenCount"] = script.completion_tokens
        usage["totalTokenCount"] = script.prompt_tokens + script.completion_tokens
    told = {"modelVersion": model, "responseId": "SVV8aY6uBqe6qtsP"}
    return {"candidates": [candidate], "usageMetadata": usage} | told


def _failed(script: Script) -> Reply:
    status = _STATUSES.get(script.error, "UNKNOWN")
    error: dict[str, Any] = {"code": script.error, "message": script.message, "status": status}
    if script.retry_after is not None:
        kind = "type.googleapis.com/google.rpc.RetryInfo"
        error["details"] = [{"@type": kind, "retryDelay": f"{script.retry_after}s"}]
    return failed(script, {"error": error})
