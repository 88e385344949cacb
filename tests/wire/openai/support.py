"""Golden transcripts, and how an answer of ours is compared with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden" / "openai"

# Fields of OpenAI's that say nothing about a model that we run.
NOT_OURS = frozenset(
    (
        "annotations",
        "service_tier",
        "audio_tokens",
        "accepted_prediction_tokens",
        "rejected_prediction_tokens",
    )
)
# What we add: vLLM's `stop_reason`, fields newer than some of the examples, our fingerprint.
OURS = frozenset(
    (
        "stop_reason",
        "refusal",
        "system_fingerprint",
        "prompt_tokens_details",
        "completion_tokens_details",
    )
)


def golden(name: str) -> Any:
    """A published example."""
    return json.loads((GOLDEN / name).read_text())


def same_shape(ours: Any, theirs: Any, where: str = "$") -> None:
    """Assert that `ours` says all that `theirs` does, and nothing that nobody expects."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert set(theirs) - set(ours) <= NOT_OURS, (where, set(theirs) - set(ours))
        assert set(ours) - set(theirs) <= OURS, (where, set(ours) - set(theirs))
        for key in set(ours) & set(theirs):
            same_shape(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        assert len(ours) == len(theirs), where
        for index, (one, other) in enumerate(zip(ours, theirs, strict=True)):
            same_shape(one, other, f"{where}[{index}]")
    else:
        assert ours == theirs, where


def events(sse: bytes) -> list[Any]:
    """The data of each server-sent event; the last may be "[DONE]"."""
    assert sse.endswith(b"\n\n")
    parts = sse.decode().removesuffix("\n\n").split("\n\n")
    found: list[Any] = []
    for part in parts:
        assert part.startswith("data: ")
        assert "\n" not in part
        data = part.removeprefix("data: ")
        found.append(data if data == "[DONE]" else json.loads(data))
    return found


def sse(*chunks: Any, done: bool = True) -> bytes:
    """A stream of `chunks`."""
    parts = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"] * done
    return "".join(f"data: {part}\n\n" for part in parts).encode()


def chunk(
    delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any
) -> dict[str, Any]:
    """A chunk of chat completions with one choice."""
    choice = {"index": 0, "delta": delta or {}, "finish_reason": finish, **more}
    return {"id": "c", "object": "chat.completion.chunk", "model": "upstream", "choices": [choice]}
