"""Golden transcripts, and how an answer of ours is compared with one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trunkline.core.types import Completed, Delta, Event, RowFinished, Timing, Usage
from trunkline.wire.codec import Answer, Ask

GOLDEN = Path(__file__).parent.parent / "golden" / "ollama"
CREATED = 1_702_392_823
# What the examples are too old for.
NEWER = frozenset(("done_reason", "id", "index", "context_length", "embedding_length"))
NEWER |= {"capabilities"}
# What newer servers do not send any more.
GONE = frozenset(("images",))


def golden(name: str) -> Any:
    """A published example; of lines, all of them."""
    text = (GOLDEN / name).read_text()
    return (
        [json.loads(line) for line in text.splitlines()] if name.endswith("l") else json.loads(text)
    )


def same_shape(ours: Any, theirs: Any, where: str = "$") -> None:
    """Assert that `ours` has the fields of `theirs` and no others, each of the same type."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), where
        assert set(theirs) - GONE == set(ours) - (NEWER - set(theirs)), where
        for key in set(ours) & set(theirs):
            same_shape(ours[key], theirs[key], f"{where}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), where
        for one in ours:
            same_shape(one, theirs[0], f"{where}[]")
    else:
        assert type(ours) is type(theirs), where


def answer(model: str = "llama3.2") -> Answer:
    return Answer("chat-1", model, CREATED, "fp")


def end(reason: Any = "stop", prompt_ids: tuple[int, ...] = ()) -> tuple[Event, ...]:
    return (
        RowFinished("id", 0, reason),
        Completed("id", Usage(26, 298), Timing(0.25, 0.5, 4.0), prompt_ids),
    )


def text(content: str, *token_ids: int) -> Delta:
    return Delta("id", 0, content, token_ids or (1,))


def rendered(ask: Ask, events: Sequence[Event], named: Answer | None = None) -> bytes:
    """The response to `ask`, one event at a time."""
    renderer = ask.renderer(named or answer())
    out = b"".join(renderer.take(0, (event,)) for event in events)
    done = [event for event in events if isinstance(event, Completed)]
    if done:
        return out + renderer.finish(done[0].usage, done[0].timing)
    return out + renderer.finish(Usage(0, 0), Timing())


def lines(data: bytes) -> list[Any]:
    """NDJSON, each line ended."""
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data[:-1].split(b"\n")]
