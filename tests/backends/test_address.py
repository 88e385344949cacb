"""What base URLs mean, by kind. What LiteLLM makes of them was seen in its proxy, 1.106.2."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from tests.backends.engine import Engine
from tests.backends.fakes import PlainSpeaker, Sink, chat, raw
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import check, connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.origin import Base
from trunkline.backends.remote import RemoteBackend

PATHS = {
    "openai.chat": "/v1/chat/completions",
    "openai.completions": "/v1/completions",
    "openai.responses": "/v1/responses",
    "anthropic.messages": "/v1/messages",
}
SAY = {operation: PlainSpeaker(operation, path) for operation, path in PATHS.items()}


def backend(kind: str, url: str, **provider: str) -> RemoteBackend:
    config = BackendConfig(name="b", kind=kind, url=url, api_key="key", provider=provider)
    return connect(config, HttpClient(), SAY, {}).backend


def asked(one: RemoteBackend, operation: str, model: str = "m") -> str:
    """The target of a request."""
    path = one.reach(operation, model, PATHS[operation])
    return one.site.head("POST", path, (), b"").decode().split(" ")[1]


def beside(one: RemoteBackend, path: str) -> str:
    return one.site.head("GET", path, (), b"").decode().split(" ")[1]


def shown(one: RemoteBackend) -> set[str]:
    """Names of the fields that hold the key."""
    lines = one.site.head("POST", "/", (), b"").decode().split("\r\n")
    return {line.split(":")[0] for line in lines if "key" in line.partition(": ")[2]}


LIKE = "openai-compatible"


@pytest.mark.parametrize(
    ("kind", "url", "target"),
    [
        # As OpenAI's clients, to which LiteLLM gives its api_base.
        (LIKE, "http://h:1/v1beta/openai/", "/v1beta/openai/chat/completions"),
        (LIKE, "http://h:1/models", "/models/chat/completions"),
        (
            "openai-compatible",
            "http://h:1/serving-endpoints",
            "/serving-endpoints/chat/completions",
        ),
        (LIKE, "http://h:1/api/paas/v4", "/api/paas/v4/chat/completions"),
        (LIKE, "http://h:1/v1/", "/v1/chat/completions"),
        (LIKE, "http://h:1", "/v1/chat/completions"),
        (LIKE, "http://h:1/v1/chat/completions", "/v1/chat/completions"),
        (LIKE, "http://h:1/chat/completions", "/chat/completions"),
        (LIKE, "http://h:1/v1/embeddings", "/v1/chat/completions"),
        ("openai", "http://h:1/proxy/openai", "/proxy/openai/chat/completions"),
        ("openai", "https://api.openai.com", "/v1/chat/completions"),
        ("openai", "https://api.openai.com/v1", "/v1/chat/completions"),
        ("groq", "http://h:1/proxy", "/proxy/chat/completions"),
        ("groq", "https://api.groq.com/openai", "/openai/v1/chat/completions"),
        ("groq", "https://api.groq.com/openai/v1/", "/openai/v1/chat/completions"),
        ("perplexity", "http://h:1/v1", "/v1/chat/completions"),
        ("deepinfra", "https://api.deepinfra.com/v1/openai/", "/v1/openai/chat/completions"),
        # Where an engine stands.
        ("vllm", "http://h:1/gpu/a", "/gpu/a/v1/chat/completions"),
        ("vllm", "http://h:1/gpu/a/v1", "/gpu/a/v1/chat/completions"),
        ("vllm", "http://h:1/gpu/a/v1/chat/completions", "/gpu/a/v1/chat/completions"),
        ("ollama", "http://h:1/v1", "/v1/chat/completions"),
    ],
)
async def test_openai(kind: str, url: str, target: str) -> None:
    assert asked(backend(kind, url), "openai.chat") == target


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:1", "/v1/messages"),
        ("http://h:1/v1", "/v1/messages"),
        ("http://h:1/v1/messages", "/v1/messages"),
        ("http://h:1/anthropic", "/anthropic/v1/messages"),
        ("http://h:1/anthropic/v1/messages/", "/anthropic/v1/messages"),
        ("http://h:1/odd/messages", "/odd/messages"),
    ],
)
@pytest.mark.parametrize("kind", ["anthropic", "anthropic-compatible"])
async def test_anthropic(kind: str, url: str, target: str) -> None:
    assert asked(backend(kind, url), "anthropic.messages") == target


async def test_what_is_beside_the_operations_follows() -> None:
    own = backend(LIKE, "http://h:1/v1beta/openai")
    assert beside(own, "/v1/models") == "/v1beta/openai/models"
    assert asked(own, "openai.responses") == "/v1beta/openai/responses"
    engine = backend("vllm", "http://h:1/gpu/v1/chat/completions")
    assert [beside(engine, path) for path in ("/health", "/metrics", "/v1/models")] == [
        "/gpu/health",
        "/gpu/metrics",
        "/gpu/v1/models",
    ]
    deepseek = backend("deepseek", "http://h:1/v1")
    assert asked(deepseek, "anthropic.messages") == "/anthropic/v1/messages"


V9 = {"api_version": "v9"}
AZURE = "https://x.openai.azure.com"
DEPLOYED = "/openai/deployments/m/chat/completions?api-version="


@pytest.mark.parametrize(
    ("url", "provider", "target"),
    [
        (AZURE, {}, DEPLOYED + "2024-10-21"),
        (AZURE + "/openai", V9, DEPLOYED + "v9"),
        (AZURE + "?api-version=v8", V9, DEPLOYED + "v8"),
        (AZURE + "/openai/deployments/dep", {}, DEPLOYED.replace("/m/", "/dep/") + "2024-10-21"),
        (
            "http://h:1/gw/openai/deployments/dep/chat/completions?api-version=2025-01-01-preview",
            {"api_version": "2024-02-01"},
            "/gw/openai/deployments/dep/chat/completions?api-version=2025-01-01-preview",
        ),
        (AZURE, {"api_version": "preview"}, "/openai/v1/chat/completions"),
        (AZURE, {"api_version": "latest"}, "/openai/v1/chat/completions"),
        (AZURE, {"api_version": "v1"}, "/openai/v1/chat/completions"),
        (AZURE + "/openai/v1/", {}, "/openai/v1/chat/completions"),
        (AZURE + "/openai/v1/", {"api_version": "preview"}, "/openai/v1/chat/completions"),
        (AZURE + "/openai/v1/chat/completions", {}, "/openai/v1/chat/completions"),
        # A gateway may call itself so, and have Azure's paths below.
        ("http://h:1/openai", V9, "/openai" + DEPLOYED + "v9"),
    ],
)
async def test_azure(url: str, provider: dict[str, str], target: str) -> None:
    one = backend("azure", url, **provider)
    assert asked(one, "openai.chat") == target
    assert asked(one, "openai.responses").endswith("/openai/v1/responses")
    assert shown(one) == {"api-key"}


FOUNDRY = "https://x.services.ai.azure.com"
INFERENCE = "/models/chat/completions?api-version=2024-05-01-preview"
PLAIN = {"authorization"}
BOTH = {"api-key", "x-api-key"}


@pytest.mark.parametrize(
    ("url", "provider", "target", "fields"),
    [
        ("http://h:1", {}, "/chat/completions", PLAIN),
        ("http://h:1/v1", {}, "/v1/chat/completions", PLAIN),
        (
            "http://h:1/models",
            V9,
            "/models/chat/completions?api-version=v9",
            PLAIN,
        ),
        ("http://h:1" + INFERENCE, V9, INFERENCE, PLAIN),
        (FOUNDRY, {}, INFERENCE, BOTH),
        (FOUNDRY + "/models", {}, INFERENCE, BOTH),
        (FOUNDRY + INFERENCE, V9, INFERENCE, BOTH),
        (FOUNDRY + "/openai/v1", {}, "/openai/v1/chat/completions", BOTH),
        (AZURE, {}, DEPLOYED + "2024-10-21", BOTH),
    ],
)
async def test_foundry(url: str, provider: dict[str, str], target: str, fields: set[str]) -> None:
    one = backend("azure_ai", url, **provider)
    assert asked(one, "openai.chat") == target
    assert shown(one) == fields


@pytest.mark.parametrize(
    ("url", "target"),
    [
        ("http://h:1/anthropic", "/anthropic/v1/messages"),
        ("http://h:1/gw/anthropic/v1/messages", "/gw/anthropic/v1/messages"),
        ("http://h:1/v1/messages", "/v1/messages"),
        (FOUNDRY + "/anthropic/", "/anthropic/v1/messages"),
        (FOUNDRY, "/anthropic/v1/messages"),
        (FOUNDRY + "/models", "/anthropic/v1/messages"),
    ],
)
async def test_claude_of_foundry(url: str, target: str) -> None:
    one = backend("azure-ai", url)
    assert asked(one, "anthropic.messages", "claude-sonnet-4-5") == target
    assert shown(one) == BOTH
    assert b"anthropic-version: 2023-06-01" in one.site.head("POST", "/", (), b"")
    speaker, _, _ = one._encode(chat("Claude-Sonnet-4-5"))
    assert speaker.operation == "anthropic.messages"


async def test_models_of_foundry_speak_their_own_dialect_alone() -> None:
    one = backend("azure-ai", FOUNDRY)
    assert [one._encode(chat(name))[0].operation for name in ("claude-x", "DeepSeek-R1")] == [
        "anthropic.messages",
        "openai.chat",
    ]
    assert "top_k" in one.terms("claude-x", "anthropic.messages").features
    assert not {"n", "top_k"} & one.terms("DeepSeek-R1", "openai.chat").features
    # A body of the other dialect is translated.
    assert one.relays("openai.chat")
    assert one.relays("anthropic.messages")
    assert one.lane("claude-x", "openai.chat") is None


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        ("azure", AZURE + "?key=hunter2"),
        ("azure-ai", FOUNDRY + "/models?api-version=1&x=hunter2"),
        ("openai-compatible", "http://h/v1?api-version=hunter2"),
    ],
)
def test_other_queries_are_refused(kind: str, url: str) -> None:
    with pytest.raises(ValueError, match="query") as info:
        check(BackendConfig(name="b", kind=kind, url=url, api_key="k"), {})
    assert "hunter2" not in str(info.value)


def test_bases() -> None:
    assert Base("/a", whole=True).join("/v1/models?limit=5") == "/a/models?limit=5"
    assert Base("/a", whole=True).join("/v1/messages/count_tokens") == "/a/messages/count_tokens"
    assert Base("/a", whole=True).join("/health") == "/a/health"
    assert Base("/a", whole=True).join("/completionsx") == "/a/completionsx"
    assert Base("/v1").join("/health") == "/health"


async def test_a_body_in_the_other_dialect_is_translated_for_claude() -> None:
    engine = Engine({"/anthropic/v1/messages": (200, "text/plain", b"hi")})
    async with engine.serving() as port:
        one = backend("azure-ai", f"http://127.0.0.1:{port}")
        sink = Sink()
        passed = raw("openai.chat", {"model": "claude-x"})
        call = replace(passed, model="claude-x", translate=lambda: chat("claude-x"))
        one.relay(call, sink)
        await sink.done()
    assert engine.asked == ["/anthropic/v1/messages"]
    assert engine.bodies[0]["op"] == "anthropic.messages"
