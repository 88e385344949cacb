"""Every kind of backend by its name, and by the other names that people know it by."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from trunkline.backends.compatible_kinds import COMPATIBLE
from trunkline.backends.engine_kinds import ENGINES
from trunkline.backends.hosted_kinds import HOSTED
from trunkline.backends.kind import Kind

__all__ = ["ALIASES", "KINDS", "Kind", "find_kind"]

KINDS: Mapping[str, Kind] = MappingProxyType(
    {kind.name: kind for kind in (*ENGINES, *HOSTED, *COMPATIBLE)}
)

# Other spellings: LiteLLM's provider names among them.
ALIASES: Mapping[str, str] = MappingProxyType(
    {
        "hosted_vllm": "vllm",
        "sgl": "sglang",
        "text-generation-inference": "tgi",
        "tensorrt_llm": "tensorrt-llm",
        "trtllm": "tensorrt-llm",
        "ollama_chat": "ollama",
        "llama.cpp": "llamacpp",
        "llama-cpp": "llamacpp",
        "llamafile": "llamacpp",
        "mlc-llm": "mlc",
        "lm_studio": "lmstudio",
        "ray": "ray-serve",
        "text-completion-openai": "openai",
        "openai_like": "openai-compatible",
        "custom_openai": "openai-compatible",
        "aiohttp_openai": "openai-compatible",
        "docker_model_runner": "openai-compatible",
        "heroku": "openai-compatible",
        "lemonade": "openai-compatible",
        "litellm_proxy": "openai-compatible",
        "xinference": "openai-compatible",
        "ai21_chat": "ai21",
        "azure_ai": "azure-ai",
        "bedrock_converse": "bedrock",
        "vertex_ai": "vertex",
        "google": "gemini",
        "cohere_chat": "cohere",
        "together_ai": "together",
        "fireworks_ai": "fireworks",
        "nvidia_nim": "nvidia",
        "github_models": "github",
        "zhipuai": "zhipu",
        "grok": "xai",
    }
)


def find_kind(name: str) -> Kind:
    """The kind called `name`, or by another spelling of it. Raises ValueError that lists them."""
    kind = KINDS.get(ALIASES.get(name, name))
    if kind is None:
        raise ValueError(f"there is no kind of backend {name!r}; there are {', '.join(KINDS)}")
    return kind
