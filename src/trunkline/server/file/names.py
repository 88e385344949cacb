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
_OPENAI_WAYS = frozenset({"chat", "responses", "text"})
_ROUTES: Mapping[str, frozenset[str]] = {
    "openai": _OPENAI_WAYS,
    # What a deployment's model is, which its name need not tell.
    "azure": _OPENAI_WAYS | {"o_series", "gpt5_series"},
    "bedrock": frozenset(
        {"converse", "converse_like", "invoke", "chat", "text", "mantle", "conversational"}
    ),
}
# The one way that is not ours to choose: the model is asked by that operation alone.
_RESPONSES = "responses"
RESPONSES = "openai.responses"
_AWS_REGION = re.compile(r"[a-z]{2}(-[a-z]+)+-\d")
# https://huggingface.co/docs/inference-providers: what LiteLLM writes before the model's owner.
_HF_PROVIDERS = re.compile(
    "cerebras|cohere|fal-ai|featherless-ai|fireworks-ai|groq|hf-inference|hyperbolic|nebius|"
    "novita|nscale|replicate|sambanova|together"
)

# Providers of LiteLLM's for which a URL is not enough.
_OWN_PROTOCOL = """
    aleph_alpha auto_router bytez chatgpt clarifai datarobot dotprompt fal_ai gigachat
    github_copilot gradient_ai humanloop langfuse langgraph manus maritalk nlp_cloud oci petals
    predibase ragflow replicate sagemaker sagemaker_chat sagemaker_nova sap snowflake watsonx
    watsonx_text
"""
_OTHER_MODELS = """
    aws_polly black_forest_labs deepgram elevenlabs infinity jina_ai milvus nvidia_riva recraft
    runwayml soniox stability topaz voyage
"""
_UNSUPPORTED = {
    name: reason
    for names, reason in (
        (_OWN_PROTOCOL, "has a protocol or login of its own, which is not supported"),
        (_OTHER_MODELS, "has no models for chat or completions"),
    )
    for name in names.split()
}

_FIREWORKS_ROUTERS = frozenset({"firerouter", "auto", "auto-instant"})

# What signs a request, where no key of Bedrock's own is there.
_AWS_CREDENTIALS = ("access_key_id", "secret_access_key", "session_token")
_OLLAMA_PORTS = {"http": 80, "https": 443}
_OLLAMA_PORT = 11434


class UnknownProvider(ValueError):
    """A name whose provider nobody knows."""


class UnsupportedProvider(UnknownProvider):
    """One that LiteLLM knows, and for which a URL would not be enough."""


class ProviderModel(msgspec.Struct, frozen=True):
    """What a `provider/model` name means."""

    kind: str
    # The model's name there; "" when the name was the provider alone.
    model: str
    # What the name says besides: a region.
    provider: dict[str, str] = {}
    # As in `BackendConfig`.
    dialect: str = ""


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
    if prefix == _RESPONSES and not model.startswith(f"{_RESPONSES}/"):
        # LiteLLM finds the provider by the rest of the name.
        found = parse_name(model)
        takes = _RESPONSES in _ROUTES.get(found.kind, ())
        return msgspec.structs.replace(found, dialect=RESPONSES) if takes else found
    kind = kind_of(prefix) if slash else None
    if kind is not None:
        return _of_kind(kind, model)
    if not slash:
        for pattern, bare in _BARE:
            if pattern.match(name) and bare in KINDS:
                return ProviderModel(bare, name)
        message = "expected provider/model, such as openai/gpt-4o or ollama/llama3"
        raise UnknownProvider(f"{message}, not {name!r}")
    if prefix in _UNSUPPORTED:
        raise UnsupportedProvider(f"{prefix} {_UNSUPPORTED[prefix]}")
    raise UnknownProvider(f"no provider is called {prefix!r}; {nearest(prefix, provider_names())}")


def _of_kind(kind: str, model: str) -> ProviderModel:
    first, slash, rest = model.partition("/")
    dialect = ""
    if slash and first in _ROUTES.get(kind, ()):
        dialect = RESPONSES if first == _RESPONSES else ""
        model = rest
        first, slash, rest = model.partition("/")
    if slash and kind == "bedrock" and _AWS_REGION.fullmatch(first):
        return ProviderModel(kind, rest, {"region": first})
    if kind == "huggingface" and _HF_PROVIDERS.fullmatch(first) and rest.count("/") == 1:
        # The Hugging Face router names the provider behind the model.
        model = rest if first == "hf-inference" else f"{rest}:{first}"
    if kind == "fireworks":
        model = _fireworks(model)
    return ProviderModel(kind, model, dialect=dialect)


def _fireworks(model: str) -> str:
    """The whole name of a model, of which LiteLLM leaves the account out (fireworks_ai)."""
    if not model or "*" in model or "#" in model or model.startswith("accounts/"):
        return model
    if model.startswith(("models/", "routers/")):
        return f"accounts/fireworks/{model}"
    routed = model.endswith("-fast") or model in _FIREWORKS_ROUTERS
    return f"accounts/fireworks/{'routers' if routed else 'models'}/{model}"


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
