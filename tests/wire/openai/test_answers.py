"""What the streams of chat completions and completions share."""

from __future__ import annotations

import json

import pytest

from trunkline.core.types import Usage
from trunkline.wire.codec import Answer
from trunkline.wire.openai.answers import chunk_head, encoder, usage_body
from trunkline.wire.openai.responses_body import response_usage

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


def test_what_was_written_to_a_cache_is_told_where_it_is_billed() -> None:
    usage = usage_body(Usage(10, 2, 3, 1, 4))
    assert json.loads(encoder.encode(usage))["prompt_tokens_details"] == {
        "cached_tokens": 3,
        "cache_write_tokens": 4,
    }
    assert json.loads(encoder.encode(usage_body(Usage(10, 2))))["prompt_tokens_details"] == {
        "cached_tokens": 0
    }
    details = response_usage(Usage(10, 2, 3, 1, 4)).input_tokens_details
    assert (details.cached_tokens, details.cache_write_tokens) == (3, 4)
