"""`provider/model` names, and what the environment says of providers."""

from __future__ import annotations

import pytest

from trunkline.backends.config import BackendConfig, LaunchConfig
from trunkline.backends.kinds import KINDS
from trunkline.server.file.names import (
    ProviderModel,
    UnknownProvider,
    complete,
    kind_of,
    model_name,
    ollama_url,
    parse_name,
    provider_names,
    unique,
)

FIREWORKS = "accounts/fireworks"


@pytest.mark.parametrize(
    ("name", "kind", "model"),
    [
        ("openai/gpt-4o", "openai", "gpt-4o"),
        ("anthropic/claude-sonnet-4", "anthropic", "claude-sonnet-4"),
        ("ollama/llama3", "ollama", "llama3"),
        ("ollama_chat/llama3:8b", "ollama", "llama3:8b"),
        ("huggingface/meta-llama/Llama-3.1-8B", "huggingface", "meta-llama/Llama-3.1-8B"),
        ("huggingface/together/deepseek-ai/R1", "huggingface", "deepseek-ai/R1:together"),
        ("vllm/meta-llama/Llama-3.1-8B", "vllm", "meta-llama/Llama-3.1-8B"),
        ("hosted_vllm/m", "vllm", "m"),
        ("azure/my-deployment", "azure", "my-deployment"),
        ("bedrock/anthropic.claude-v2:1", "bedrock", "anthropic.claude-v2:1"),
        ("bedrock/converse/us.amazon.nova-pro-v1:0", "bedrock", "us.amazon.nova-pro-v1:0"),
        ("gemini/gemini-2.5-pro", "gemini", "gemini-2.5-pro"),
        ("vertex_ai/gemini-2.5-pro", "vertex", "gemini-2.5-pro"),
        ("groq/llama-3.1-8b", "groq", "llama-3.1-8b"),
        ("together_ai/meta-llama/x", "together", "meta-llama/x"),
        ("fireworks_ai/accounts/fireworks/models/x", "fireworks", "accounts/fireworks/models/x"),
        (
            "fireworks_ai/llama-v3p1-8b-instruct",
            "fireworks",
            f"{FIREWORKS}/models/llama-v3p1-8b-instruct",
        ),
        ("fireworks_ai/kimi-fast", "fireworks", f"{FIREWORKS}/routers/kimi-fast"),
        ("fireworks_ai/routers/x", "fireworks", f"{FIREWORKS}/routers/x"),
        ("fireworks_ai/*", "fireworks", "*"),
        ("azure/o_series/dep", "azure", "dep"),
        ("azure/gpt5_series/dep", "azure", "dep"),
        ("meta_llama/Llama-4", "meta_llama", "Llama-4"),
        ("nvidia_nim/meta/llama3", "nvidia", "meta/llama3"),
        ("openai/*", "openai", "*"),
        ("tensorrt_llm/m", "tensorrt-llm", "m"),
        ("gpt-4o", "openai", "gpt-4o"),
        ("o3-mini", "openai", "o3-mini"),
        ("claude-3-opus", "anthropic", "claude-3-opus"),
        ("gemini-2.5-flash", "gemini", "gemini-2.5-flash"),
    ],
)
def test_names(name: str, kind: str, model: str) -> None:
    assert parse_name(name) == ProviderModel(kind, model)


def test_a_region_may_stand_in_the_name() -> None:
    found = parse_name("bedrock/eu-central-1/anthropic.claude-v2")
    assert found == ProviderModel("bedrock", "anthropic.claude-v2", {"region": "eu-central-1"})


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("openai/responses/gpt-5", ProviderModel("openai", "gpt-5", dialect="openai.responses")),
        ("responses/gpt-5", ProviderModel("openai", "gpt-5", dialect="openai.responses")),
        ("azure/responses/dep", ProviderModel("azure", "dep", dialect="openai.responses")),
        ("responses/claude-3", ProviderModel("anthropic", "claude-3")),
    ],
)
def test_the_operation_may_stand_in_the_name(name: str, found: ProviderModel) -> None:
    assert parse_name(name) == found


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("opnai/gpt-4o", "no provider is called 'opnai'; did you mean 'openai'?"),
        ("llama3", "expected provider/model, such as openai/gpt-4o or ollama/llama3, not 'llama3'"),
        ("meta-llama/Llama-3", "no provider is called 'meta-llama'"),
        ("responses/responses/gpt-5", "no provider is called 'responses'"),
        ("watsonx/x", "watsonx has a protocol or login of its own"),
    ],
)
def test_unknown_names_say_what_is_right(name: str, message: str) -> None:
    with pytest.raises(UnknownProvider) as caught:
        parse_name(name)
    assert str(caught.value).startswith(message)


def test_every_prefix_means_a_kind() -> None:
    assert {kind_of(name) for name in provider_names()} == set(KINDS)


def test_keys_come_from_the_environment_in_order() -> None:
    def key(kind: str, **environ: str) -> str:
        return complete(BackendConfig(name="x", kind=kind), environ).api_key

    assert key("openai", OPENAI_API_KEY="a") == "a"
    assert key("anthropic", ANTHROPIC_API_KEY="a", OPENAI_API_KEY="b") == "a"
    assert key("huggingface", HF_TOKEN="a", HUGGING_FACE_HUB_TOKEN="b") == "a"
    assert key("huggingface", HF_TOKEN="", HUGGING_FACE_HUB_TOKEN="b") == "b"
    assert key("vllm", OPENAI_API_KEY="a") == ""
    given = BackendConfig(name="x", kind="openai", api_key="mine")
    assert complete(given, {"OPENAI_API_KEY": "a"}).api_key == "mine"


def test_urls_come_from_the_environment() -> None:
    def url(kind: str, **environ: str) -> str:
        return complete(BackendConfig(name="x", kind=kind), environ).url

    assert url("openai", OPENAI_API_BASE="http://b", OPENAI_BASE_URL="http://a") == "http://a"
    assert url("openai", OPENAI_API_BASE="http://b") == "http://b"
    assert url("vllm", HOSTED_VLLM_API_BASE="http://v/v1") == "http://v/v1"
    assert url("groq", GROQ_API_BASE="http://g") == "http://g"
    assert url("ollama", OLLAMA_HOST="0.0.0.0") == "http://127.0.0.1:11434"
    assert url("ollama", OLLAMA_API_BASE="http://o", OLLAMA_HOST="x") == "http://o"
    assert url("openai") == ""
    launched = BackendConfig(name="x", kind="ollama", launch=LaunchConfig())
    assert complete(launched, {"OLLAMA_HOST": "x"}).url == ""


def test_what_providers_need_besides_comes_from_the_environment() -> None:
    def provider(kind: str, given: dict[str, str], **environ: str) -> dict[str, str]:
        return complete(BackendConfig(name="x", kind=kind, provider=given), environ).provider

    assert provider("bedrock", {}, AWS_REGION="eu-west-1") == {"region": "eu-west-1"}
    assert provider("bedrock", {"region": "us-east-1"}, AWS_REGION="x") == {"region": "us-east-1"}
    assert provider("vertex", {}, VERTEXAI_PROJECT="p", VERTEXAI_LOCATION="l") == {
        "project": "p",
        "location": "l",
    }
    assert provider("vertex", {}, GOOGLE_APPLICATION_CREDENTIALS="/a.json") == {
        "credentials": "/a.json"
    }
    assert provider("gemini", {}, GOOGLE_APPLICATION_CREDENTIALS="/a.json") == {}
    keys = {"access_key_id": "a", "secret_access_key": "s"}
    assert provider("bedrock", {}, AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="s") == keys
    assert provider("azure", {}, AZURE_API_VERSION="2024-10-21") == {"api_version": "2024-10-21"}


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        (":8080", "http://127.0.0.1:8080"),
        ("box", "http://box:11434"),
        ("box:1", "http://box:1"),
        ("http://box", "http://box:80"),
        ("https://box", "https://box:443"),
        ("https://box:9/ollama", "https://box:9/ollama"),
        ("[::1]:9", "http://[::1]:9"),
    ],
)
def test_ollama_hosts(host: str, url: str) -> None:
    """As Ollama's own envconfig.Host reads them."""
    assert ollama_url(host) == url


def test_names_of_models_and_of_backends() -> None:
    assert model_name("/m/Qwen3-0.6B-Q8_0.gguf") == "Qwen3-0.6B-Q8_0"
    assert model_name("caboose") == "caboose"
    assert unique("a", {"a", "a-2"}) == "a-3"
    assert unique("b", {"a"}) == "b"
