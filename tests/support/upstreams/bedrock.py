"""Bedrock's Converse and ConverseStream.

Shapes: docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html and
..._ConverseStream.html (read 2026-11-21). The signature must be there and name the service; it is
not computed again. What it refuses, and in which words: github.com/vxcontrol/pentagi pull request
196, github.com/NousResearch/hermes-agent issue 55092.
"""

from __future__ import annotations

import re
from typing import Any

from tests.support.upstreams.eventstream import frame
from tests.support.upstreams.script import Reply, Script, Seen, dumps, failed

_TYPES = {
    400: "ValidationException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "ModelTimeoutException",
    424: "ModelErrorException",
    429: "ThrottlingException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}
_SIGNED = re.compile(
    r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/[\w-]+/bedrock/aws4_request, "
    r"SignedHeaders=[\w;-]+, Signature=[0-9a-f]{64}"
)


def answer(seen: Seen, script: Script) -> Reply | None:
    """Bedrock."""
    credentials = seen.headers.get("authorization", "")
    if not (_SIGNED.fullmatch(credentials) or credentials.startswith("Bearer ")):
        return _failed(Script(error=403, message="Missing Authentication Token"))
    if script.error:
        return _failed(script)
    found = re.fullmatch(r"/model/[^/]+/converse(-stream)?", seen.path)
    if found is None:
        return None
    problem = _problem(seen.body)
    if problem:
        return _failed(Script(error=400, message=problem))
    if found[1] is None:
        return Reply(dumps(_whole(script)))
    return Reply(tuple(_frames(script)), "application/vnd.amazon.eventstream")


def _problem(body: Any) -> str:
    """What is wrong with a conversation, or ""."""
    messages = body["messages"]
    if not messages or messages[0]["role"] != "user":
        return "A conversation must start with a user message. Try again with a user message."
    for at, message in enumerate(messages):
        where = f"messages.{at}"
        if not message["content"]:
            return f"The content field in the Message object at {where} is empty."
        if any("text" in block and not block["text"].strip() for block in message["content"]):
            return f"The text field in the ContentBlock object at {where}.content.0 is blank."
        calls = any({"toolUse", "toolResult"} & set(block) for block in message["content"])
        if calls and "toolConfig" not in body:
            return (
                "The toolConfig field must be defined when using toolUse and toolResult content "
                "blocks."
            )
    return ""


def _whole(script: Script) -> dict[str, Any]:
    content: list[dict[str, Any]] = []
    if script.reasoning:
        thought = {"text": script.reasoning, "signature": "c2ln"}
        content.append({"reasoningContent": {"reasoningText": thought}})
    if script.text:
        content.append({"text": script.text})
    content += [
        {"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}}
        for call in script.calls
    ]
    return {
        "output": {"message": {"role": "assistant", "content": content}},
        "stopReason": _reason(script),
    } | _metadata(script)


def _frames(script: Script) -> list[bytes]:
    frames = [frame("messageStart", {"role": "assistant"})]
    index = 0
    if script.reasoning:
        deltas = [{"text": script.reasoning}, {"signature": "c2ln"}]
        frames += _block(index, [{"reasoningContent": delta} for delta in deltas])
        index += 1
    if script.pieces:
        frames += _block(index, [{"text": piece} for piece in script.pieces])
        index += 1
    for call in script.calls:
        start = {"toolUse": {"toolUseId": call.id, "name": call.name}}
        frames.append(frame("contentBlockStart", {"contentBlockIndex": index, "start": start}))
        arguments = dumps(call.arguments).decode()
        half = len(arguments) // 2
        pieces = (arguments[:half], arguments[half:])
        frames += _block(index, [{"toolUse": {"input": piece}} for piece in pieces])
        index += 1
    frames.append(frame("messageStop", {"stopReason": _reason(script)}))
    return [*frames, frame("metadata", _metadata(script))]


def _block(index: int, deltas: list[dict[str, Any]]) -> list[bytes]:
    frames = [
        # "p" is padding against those who watch lengths.
        frame("contentBlockDelta", {"contentBlockIndex": index, "delta": delta, "p": "abcdefg"})
        for delta in deltas
    ]
    return [*frames, frame("contentBlockStop", {"contentBlockIndex": index})]


def _metadata(script: Script) -> dict[str, Any]:
    usage = {
        "inputTokens": script.prompt_tokens,
        "outputTokens": script.completion_tokens,
        "totalTokens": script.prompt_tokens + script.completion_tokens,
        "cacheReadInputTokens": 0,
        "cacheWriteInputTokens": 0,
    }
    return {"usage": usage, "metrics": {"latencyMs": 42}}


def _reason(script: Script) -> str:
    if script.calls:
        return "tool_use"
    return "max_tokens" if script.finish == "length" else "end_turn"


def _failed(script: Script) -> Reply:
    kind = _TYPES.get(script.error, "InternalServerException")
    return failed(script, {"message": script.message}, x_amzn_errortype=f"{kind}:http://amazon/")
