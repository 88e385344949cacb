"""TGI's generate, generate_stream, its compatible route, info and health; and its chat completions.

Shapes: `router/src/lib.rs` and `router/src/server.rs` of huggingface/text-generation-inference
db931fc (2026-01-08), docs/openapi.json there.
"""

from __future__ import annotations

from typing import Any

from tests.support.upstreams import openai
from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_TYPES = {422: "validation", 424: "generation", 429: "overloaded"}


def answer(seen: Seen, script: Script) -> Reply | None:
    """TGI. A key is not asked for."""
    if seen.path.startswith("/v1/"):
        keyed = Seen(
            seen.method, seen.path, {"authorization": "Bearer -"} | seen.headers, seen.data
        )
        return openai.answer(keyed, script)
    if script.error:
        kind = _TYPES.get(script.error, "incomplete_generation")
        return failed(script, {"error": script.message, "error_type": kind})
    match seen.path:
        case "/generate":
            return Reply(dumps(_whole(seen, script)))
        case "/generate_stream":
            return _stream(seen, script)
        case "/" if seen.method == "POST":
            if seen.body.get("stream"):
                return _stream(seen, script)
            return Reply(dumps([_whole(seen, script)]))
        case "/info":
            info = {"model_id": "stand-in", "version": "3.3.7", "max_input_tokens": 4095}
            return Reply(dumps(info | {"max_total_tokens": 4096}))
        case "/health":
            return Reply(b"", "text/plain")
    return None


def _whole(seen: Seen, script: Script) -> dict[str, Any]:
    whole: dict[str, Any] = {"generated_text": script.text}
    if (seen.body.get("parameters") or {}).get("details"):
        tokens = [_token(index, piece) for index, piece in enumerate(script.pieces)]
        whole["details"] = {
            "finish_reason": _reason(script),
            "generated_tokens": script.completion_tokens,
            "seed": None,
            "prefill": [],
            "tokens": tokens,
        }
    return whole


def _stream(seen: Seen, script: Script) -> Reply:
    last = len(script.pieces)
    details = None
    if (seen.body.get("parameters") or {}).get("details"):
        details = {
            "finish_reason": _reason(script),
            "generated_tokens": script.completion_tokens,
            "seed": None,
            "input_length": script.prompt_tokens,
        }
    events = [
        {
            "index": index,
            "token": _token(index, piece),
            "generated_text": script.text if index == last else None,
            "details": details if index == last else None,
        }
        for index, piece in enumerate(script.pieces, 1)
    ]
    return Reply(tuple(b"data:%b\n\n" % dumps(one) for one in events), "text/event-stream")


def _token(index: int, piece: str) -> dict[str, Any]:
    return {"id": 100 + index, "text": piece, "logprob": -0.25, "special": False}


def _reason(script: Script) -> str:
    return "length" if script.finish == "length" else "eos_token"
