"""One description per architecture, under GGUF's name for it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trunkline.engine.executors.native.architectures import (
    gemma2,
    gemma3,
    granite,
    llama,
    phi3,
    qwen2,
    qwen3,
    qwen3moe,
)
from trunkline.engine.executors.native.description import Description, Metadata

# (metadata, size of the vocabulary) -> description
Describe = Callable[[Metadata, int], Description]

ARCHITECTURES: Mapping[str, Describe] = MappingProxyType(
    {
        # Mistral and Mixtral are "llama" in GGUF files.
        "llama": llama.describe,
        "gemma2": gemma2.describe,
        "gemma3": gemma3.describe,
        "granite": granite.describe,
        "phi3": phi3.describe,
        "qwen2": qwen2.describe,
        "qwen3": qwen3.describe,
        "qwen3moe": qwen3moe.describe,
    }
)
