"""OpenAI's chat completions, completions and models; Mistral's are nearly the same.

Shapes: developers.openai.com/api/reference (chat, completions), .../docs/guides/error-codes,
docs.mistral.ai/api (chat) and its errors; read 2026-11-21. Mistral refuses fields that it does not
know with status 422, tells usage in the last chunk unasked, and has nine characters in a call's id.
"""

from __future__ import annotations

from typing import Any

from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
}
# docs.mistral.ai/api, `ChatCompletionRequest`.
_MISTRAL = frozenset(
    (
        "model",
        "temperature",
        "top_p",
        "max_tokens",
        "stream",
        "stop",
        "random_seed",
        "metadata",
        "messages",
        "response_format",
        "tools",
        "tool_choice",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "prediction",
        "parallel_tool_calls",
        "prompt_mode",
        "reasoning_effort",
        "guardrails",
        "safe_prompt",
        "prompt_cache_key",
    )
)
_EVENTS = "text/event-stream; charset=utf-8"


def answer(seen: Seen, script: Script) -> Reply | None:
    """OpenAI."""
    if not seen.headers.get("authorization", "").startswith("Bearer "):
        return _failed(Script(error=401, message="You didn't provide an API key."))
    if script.error:
        return _failed(script)
    path = seen.path.partition("?")[0]
    if path == "/v1/models":
        return Reply(dumps(_models()))
    if path == "/v1/chat/completions":
        usage = bool((seen.body.get("stream_options") or {}).get("include_usage"))
        return _chat(seen, script, usage=usage)
    if path == "/v1/completions":
        return _completion(seen, script)
    return None


def mistral(seen: Seen, script: Script) -> Reply | None:
    """Mistral."""
    if not seen.headers.get("authorization", "").startswith("Bearer "):
        return failed(Script(error=401), {"detail": "Unauthorized"})
    if script.error:
        # docs.mistral.ai: {"object": "error", "message", "type", "param", "code"}.
        kind = "rate_limited" if script.error == 429 else "invalid_request_error"
        body = {"object": "error", "message": script.message, "type": kind, "param": None}
        return failed(script, body | {"code": "1300"})
    if seen.path == "/v1/models":
        return Reply(dumps(_models()))
    if seen.path != "/v1/chat/completions":
        return None
    unknown = [name for name in seen.body if name not in _MISTRAL]
    if unknown:
        detail = [
            {
                "type": "extra_forbidden",
                "loc": ["body", name],
                "msg": "Extra inputs are not permitted",
            }
            for name in unknown
        ]
        kind = "invalid_request_error"
        refused = {"object": "error", "message": {"detail": detail}, "type": kind}
        return failed(Script(error=422), refused | {"param": None, "code": None})
    return _chat(seen, script, usage=None)


def _chat(seen: Seen, script: Script, *, usage: bool | None) -> Reply:
    """`usage` None: in the last chunk, as Mistral has it."""
    model = seen.body["model"]
    calls = [
        {
            "id": call.id[-9:] if usage is None else call.id,
            "type": "function",
            "function": {"name": call.name, "arguments": dumps(call.arguments).decode()},
        }
        for call in script.calls
    ]
    finish = "tool_calls" if calls else script.finish
    base = {"id": "chatcmpl-1", "created": 1_763_700_000, "model": model}
    if not seen.body.get("stream"):
        message: dict[str, Any] = {"role": "assistant", "content": script.text or None}
        if script.reasoning:
            message["reasoning_content"] = script.reasoning
        if calls:
            message["tool_calls"] = calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        whole = {"object": "chat.completion", "choices": [choice], "usage": _usage(script)}
        return Reply(dumps(base | whole))
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    if script.reasoning:
        deltas.append({"reasoning_content": script.reasoning})
    deltas += [{"content": piece} for piece in script.pieces]
    for index, call in enumerate(calls):
        deltas += _call_deltas(index, call, whole=usage is None)
    chunks = [_chunk(base, delta, None) for delta in deltas]
    last = _chunk(base, {}, finish)
    if usage is None:
        last["usage"] = _usage(script)
    chunks.append(last)
    if usage:
        chunks = [chunk | {"usage": None} for chunk in chunks]
        chunks.append(_chunk(base, {}, None) | {"choices": [], "usage": _usage(script)})
    return Reply((*map(_event, chunks), b"data: [DONE]\n\n"), _EVENTS)


def _call_deltas(index: int, call: dict[str, Any], *, whole: bool) -> list[dict[str, Any]]:
    """A call and its arguments in two pieces; in one for Mistral, whose client wants it so."""
    if whole:
        return [{"tool_calls": [call | {"index": index}]}]
    name, arguments = call["function"]["name"], call["function"]["arguments"]
    half = len(arguments) // 2
    first: dict[str, Any] = call | {"index": index, "function": {"name": name, "arguments": ""}}
    more = [
        {"index": index, "function": {"arguments": piece}}
        for piece in (arguments[:half], arguments[half:])
    ]
    return [{"tool_calls": [one]} for one in (first, *more)]


def _completion(seen: Seen, script: Script) -> Reply:
    base = {
        "id": "cmpl-1",
        "object": "text_completion",
        "created": 1_763_700_000,
        "model": seen.body["model"],
    }

    def choice(text: str, finish: str | None) -> dict[str, Any]:
        return {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}

    if not seen.body.get("stream"):
        whole = {"choices": [choice(script.text, script.finish)], "usage": _usage(script)}
        return Reply(dumps(base | whole))
    chunks = [base | {"choices": [choice(piece, None)]} for piece in script.pieces]
    chunks.append(base | {"choices": [choice("", script.finish)]})
    if (seen.body.get("stream_options") or {}).get("include_usage"):
        chunks.append(base | {"choices": [], "usage": _usage(script)})
    return Reply((*map(_event, chunks), b"data: [DONE]\n\n"), _EVENTS)


def _chunk(base: dict[str, Any], delta: dict[str, Any], finish: str | None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    return base | {"object": "chat.completion.chunk", "choices": [choice]}


def _usage(script: Script) -> dict[str, int]:
    total = script.prompt_tokens + script.completion_tokens
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": script.completion_tokens,
        "total_tokens": total,
    }


def _models() -> dict[str, Any]:
    model = {"id": "stand-in", "object": "model", "created": 1_763_700_000, "owned_by": "tests"}
    return {"object": "list", "data": [model]}


def _failed(script: Script) -> Reply:
    kind, code = _TYPES.get(script.error, ("server_error", None))
    error = {"message": script.message, "type": kind, "param": None, "code": code}
    return failed(script, {"error": error})


def _event(chunk: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % dumps(chunk)
