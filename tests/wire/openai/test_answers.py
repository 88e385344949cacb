"""What the streams of chat completions and completions share."""

from __future__ import annotations

import json

import pytest

from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import chunk_head

ANSWER = Answer("own-1", "model", 5, "fp_own")
# Azure's first event tells of content filters (learn.microsoft.com, "Content filter streaming").
AZURE = b'data: {"id":"","created":0,"model":"","object":"","choices":[]}\n\n'
CHUNK = b'data: {"id":"up-1","created":7,"model":"asked","system_fingerprint":null}\n\n'


@pytest.mark.parametrize(
    ("relayed", "expected"),
    [
        (b"", ("own-1", 5, "model", "fp_own")),
        (CHUNK, ("up-1", 7, "asked", None)),
        (AZURE + CHUNK, ("up-1", 7, "asked", None)),
        (AZURE, ("own-1", 5, "model", "fp_own")),
        (b": comment\n\ndata:[1]\n\ndata: {broken\n\ndata: [DONE]\n\n", None),
    ],
)
def test_chunks_begin_as_those_that_went_out(
    relayed: bytes, expected: tuple[str, int, str, str | None] | None
) -> None:
    head = chunk_head("text_completion", ANSWER, relayed)
    chunk = json.loads(head.removeprefix(b"data: ") + b"]}")
    found = (chunk["id"], chunk["created"], chunk["model"], chunk["system_fingerprint"])
    assert found == (expected or ("own-1", 5, "model", "fp_own"))
    assert chunk["object"] == "text_completion"
