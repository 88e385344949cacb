"""Lists of models."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from trunkline.backends.kind import ListShape
from trunkline.backends.listing import read_models
from trunkline.core.errors import UpstreamFailed


@pytest.mark.parametrize(
    ("shape", "told", "name", "length"),
    [
        # vLLM.
        (
            "openai",
            {"object": "list", "data": [{"id": "m", "created": 1, "max_model_len": 8192}]},
            "m",
            8192,
        ),
        # llama.cpp.
        ("openai", {"data": [{"id": "m", "meta": {"n_ctx_train": 4096}}]}, "m", 4096),
        # Together tells a bare list.
        ("openai", [{"id": "m", "context_length": 32768, "created": None}], "m", 32768),
        (
            "ollama",
            {"models": [{"name": "qwen3:8b", "size": 5, "details": {"family": "qwen3"}}]},
            "qwen3:8b",
            0,
        ),
        ("tgi", {"model_id": "org/m", "max_total_tokens": 2048}, "org/m", 2048),
        (
            "gemini",
            {
                "models": [
                    {
                        "name": "models/embedding-001",
                        "supportedGenerationMethods": ["embedContent"],
                    },
                    {
                        "name": "models/gemini-x",
                        "inputTokenLimit": 1048576,
                        "supportedGenerationMethods": ["generateContent"],
                    },
                ]
            },
            "gemini-x",
            1048576,
        ),
        (
            "cohere",
            {"models": [{"name": "command-a", "context_length": 256000}]},
            "command-a",
            256000,
        ),
        (
            "kserve",
            [{"name": "off", "state": "UNAVAILABLE"}, {"name": "on", "state": "READY"}],
            "on",
            0,
        ),
    ],
)
def test_shapes(shape: ListShape, told: Any, name: str, length: int) -> None:
    (card,) = read_models(shape, msgspec.json.encode(told), "them")
    assert (card.name, card.context_length) == (name, length)
    assert card.owned_by == "them"


@pytest.mark.parametrize("shape", ["openai", "ollama", "tgi", "gemini", "cohere", "kserve"])
@pytest.mark.parametrize("body", [b"<html>", b"1", b'{"data": [1]}', b'{"models": [{}]}', b"[{}]"])
def test_what_is_no_list_is_refused(shape: ListShape, body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read_models(shape, body, "them")
