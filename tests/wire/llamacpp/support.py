"""Golden transcripts, and how an answer of ours is compared with one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

GOLDEN = Path(__file__).parent.parent / "golden" / "llamacpp"


def golden(name: str) -> Any:
    """What llama.cpp's server answered; of a stream, the data of each event."""
    text = (GOLDEN / name).read_text()
    return events(text.encode()) if name.endswith(".txt") else json.loads(text)


def events(sse: bytes) -> list[Any]:
    """The data of each server-sent event. There is no [DONE] in this dialect."""
    assert sse.endswith(b"\n\n")
    parts = sse.decode().removesuffix("\n\n").split("\n\n")
    assert all(part.startswith("data: ") and "\n" not in part for part in parts)
    return [json.loads(part.removeprefix("data: ")) for part in parts]


def same_shape(ours: Any, theirs: Any, gone: frozenset[str] = frozenset(), at: str = "$") -> None:
    """Assert that `ours` has the fields of `theirs` except `gone`, each of the same type."""
    if isinstance(theirs, dict):
        assert isinstance(ours, dict), at
        assert set(ours) == set(theirs) - gone, at
        for key, value in ours.items():
            same_shape(value, theirs[key], gone, f"{at}.{key}")
    elif isinstance(theirs, list):
        assert isinstance(ours, list), at
        for one in ours if theirs else ():
            same_shape(one, theirs[0], gone, f"{at}[]")
    elif isinstance(theirs, float):
        assert isinstance(ours, int | float), at
    else:
        assert type(ours) is type(theirs), at
