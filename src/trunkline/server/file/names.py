"""`provider/model` names, and what the environment says of providers.

The prefixes are LiteLLM's (docs.litellm.ai/docs/providers) and our own kinds; the variables are
those that LiteLLM and the vendors' own clients read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import PurePath
from urllib.parse import urlsplit

import msgspec

from trunkline.backends.config import BackendConfig
from trunkline.backends.kinds import ALIASES, KINDS
from trunkline.server.file.problems import nearest

# LiteLLM's prefixes that are no spelling of a kind (`backends.kinds.ALIASES`) otherwise.
_PREFIXES: Mapping[str, str] = {
    "anthropic_text": "anthropic",
    "azure_text": "azure",
    "hf": "huggingface",
    "vertex_ai_beta": "vertex",
}

# Names without a prefix whose provider is known all the same.
_BARE = (
    (re.compile(r"(gpt-|chatgpt-|o[134](-|$)|text-embedding-|davinci|babbage)"), "openai"),
    (re.compile(r"claude-"), "anthropic"),
    (re.compile(r"gemini-"), "gemini"),
    (re.compile(r"command-"), "cohere"),
)

# Ways to a model that LiteLLM writes between the provider and the model; we choose them ourselves.
_ROUTES = frozenset(
    {"converse", "converse_like", "invoke", "chat", "responses", "text", "mantle", "conversational"}
)
_AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# https://huggingface.co/docs/inference-providers: what LiteLLM writes before the model's owner.
_HF_PROVIDERS = re.compile(
    "cerebras|cohere|fal-ai|featherless-ai|fireworks-ai|groq|hf-inference|hyperbolic|nebius|"
    "novita|nscale|replicate|sambanova|together"
)

# What signs a request, where no key of Bedrock's own is there.
_AWS_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")
_OLLAMA_PORTS = {"http": 80, "https": 443}
_OLLAMA_PORT = 11434


class UnknownProvider(ValueError):
    """A name whose provider nobody knows."""


class ProviderModel(msgspec.Struct, frozen=True):
    """What a `provider/model` name means."""

    kind: str
    # The model's name there; "" when the name was the provider alone.
    model: str
    # What the name says besides: a region.
    provider: dict[str, str] = {}


def kind_of(prefix: str) -> str | None:
    """The kind that a provider's name means, or None."""
    for name in (prefix, prefix.replace("_", "-")):
        name = _PREFIXES.get(name, ALIASES.get(name, name))
        if name in KINDS:
            return name
    return None


def provider_names() -> tuple[str, ...]:
    """Every prefix that is understood."""
    return tuple(sorted({*KINDS, *ALIASES, *_PREFIXES}))


def parse_name(name: str) -> ProviderModel:
    """Which kind and model a name means: "openai/gpt-4o", "bedrock/us-east-1/...", "claude-...".

    Raises `UnknownProvider`.
    """
    prefix, slash, model = name.partition("/")
    kind = kind_of(prefix) if slash else None
    if kind is not None:
        return _of_kind(kind, model)
    if not slash:
        for pattern, bare in _BARE:
            if pattern.match(name) and bare in KINDS:
                return ProviderModel(bare, name)
        message = "expected provider/model, such as openai/gpt-4o or ollama/llama3"
        raise UnknownProvider(f"{message}, not {name!r}")
    raise UnknownProvider(f"no provider is called {prefix!r}; {nearest(prefix, provider_names())}")


def _of_kind(kind: str, model: str) -> ProviderModel:
    provider: dict[str, str] = {}
    first, slash, rest = model.partition("/")
    if slash and first in _ROUTES and kind in ("bedrock", "openai", "azure", "sagemaker"):
        model = rest
        first, slash, rest = model.partition("/")
    if slash and kind == "bedrock" and _AWS_REGION.fullmatch(first):
        return ProviderModel(kind, rest, {"region": first})
    if kind == "huggingface" and _HF_PROVIDERS.fullmatch(first) and rest.count("/") == 1:
        # The Hugging Face router names the provider behind the model.
        model = rest if first == "hf-inference" else f"{rest}:{first}"
    return ProviderModel(kind, model, provider)


def ollama_url(host: str) -> str:
    """The URL that Ollama's OLLAMA_HOST means: "", ":11434", "0.0.0.0", "http://box:11434"."""
    scheme, given, rest = host.strip().rpartition("://")
    parts = urlsplit(f"//{rest}")
    port = parts.port or (_OLLAMA_PORTS.get(scheme, _OLLAMA_PORT) if given else _OLLAMA_PORT)
    name = parts.hostname or "127.0.0.1"
    # Where a server listens on every interface, its client asks this machine.
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104
    return f"{scheme or 'http'}://{f'[{name}]' if ':' in name else name}:{port}{parts.path}"


def complete(config: BackendConfig, environ: Mapping[str, str]) -> BackendConfig:
    """The same with what it leaves open taken from the environment: URL, key, region, project."""
    kind = KINDS[config.kind]
    changes: dict[str, object] = {}
    if not config.url and config.launch is None:
        changes["url"] = _url(config.kind, environ)
    if not config.api_key:
        changes["api_key"] = _first(kind.key_variables, environ)
    found = {value.name: _first(value.variables, environ) for value in kind.values}
    own = config.api_key or changes.get("api_key") or "access_key_id" in config.provider
    if kind.auth == "sigv4" and not own:
        found |= {name: environ.get(f"AWS_{name.upper()}", "") for name in _AWS_CREDENTIALS}
    if kind.auth == "gcp":
        found["credentials"] = environ.get("GOOGLE_APPLICATION_CREDENTIALS", "")
    changes["provider"] = {
        **{name: value for name, value in found.items() if value},
        **config.provider,
    }
    return msgspec.structs.replace(config, **changes)


def _url(kind: str, environ: Mapping[str, str]) -> str:
    for name in (*KINDS[kind].url_variables, *_usual_variables(kind)):
        value = environ.get(name, "").strip()
        if value:
            return ollama_url(value) if name == "OLLAMA_HOST" else value
    return ""


def _usual_variables(kind: str) -> tuple[str, ...]:
    """What LiteLLM and the vendors' clients call a base URL: GROQ_API_BASE, GROQ_BASE_URL."""
    stem = kind.upper().replace("-", "_")
    return (f"{stem}_API_BASE", f"{stem}_BASE_URL", f"HOSTED_{stem}_API_BASE")


def _first(names: tuple[str, ...], environ: Mapping[str, str]) -> str:
    return next((environ[name] for name in names if environ.get(name)), "")


def unique(wanted: str, taken: Mapping[str, object] | set[str]) -> str:
    """`wanted`, or with a number behind it when that name is taken."""
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}-{number}", number + 1
    return name


def model_name(path: str) -> str:
    """The name under which a model is offered when none is given: its file's, without ending."""
    return PurePath(path).stem if path.endswith((".gguf", ".json")) else path
