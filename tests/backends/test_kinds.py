"""The rows, and what is made of them."""

from __future__ import annotations

import re
from typing import get_args

import pytest

from tests.backends.fakes import PlainSpeaker, Sink, chat
from trunkline.backends.auth.schemes import FixedAuth
from trunkline.backends.auth.sigv4 import SigV4Auth
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import check, connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.origin import Base, is_target, join_path, parse_url
from trunkline.backends.http.pool import PoolLimits
from trunkline.backends.kinds import ALIASES, KINDS, Kind, find_kind
from trunkline.backends.site import Site, fill
from trunkline.core.errors import InvalidRequest
from trunkline.wire.client import Feature

BRACES = re.compile(r"\{(\w+)\}")


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_rows_are_consistent(kind: Kind) -> None:
    assert KINDS[kind.name] is kind
    assert kind.preferred
    assert set(kind.preferred) <= set(kind.paths)
    assert kind.features <= set(get_args(Feature))
    assert set(kind.without) <= set(kind.paths)
    known = {value.name for value in kind.values} | {"model", "tail"}
    for path in kind.paths.values():
        assert set(BRACES.findall(path)) <= known
        assert not path or is_target(BRACES.sub("x", path))
    assert set(BRACES.findall(kind.url)) <= known
    if kind.url:
        origin, _ = parse_url(BRACES.sub("x", kind.url))
        assert origin.tls or origin.host == "127.0.0.1"
    for given in (kind.health, kind.metrics, kind.models):
        assert given is None or is_target(given.path)
    if kind.hosted:
        # Nothing is asked of a hosted API unless somebody wants an answer.
        assert kind.health is None
        assert kind.metrics is None
        assert kind.key_variables or kind.auth == "gcp"


def test_every_kind_of_the_plan_is_there() -> None:
    engines = "vllm sglang tgi tensorrt-llm lmdeploy triton ollama llamacpp mlc lmstudio ray-serve"
    hosted = "openai azure anthropic bedrock gemini vertex cohere mistral groq together fireworks"
    hosted += " deepseek openrouter xai perplexity cerebras nvidia huggingface"
    assert set(f"{engines} trunkline {hosted}".split()) <= set(KINDS)
    assert set(ALIASES.values()) <= set(KINDS)
    assert not set(ALIASES) & set(KINDS)
    assert find_kind("hosted_vllm") is KINDS["vllm"]
    with pytest.raises(ValueError, match="vllm, sglang"):
        find_kind("vlm")


@pytest.mark.parametrize("url", ["http://h:8000", "http://h:8000/", "http://h:8000/v1"])
def test_base_urls_with_and_without_version(url: str) -> None:
    base = parse_url(url)[1]
    for path in ("/v1/chat/completions", "/health", "/metrics"):
        assert join_path(base, path) == path


async def request_line(config: BackendConfig, environ: dict[str, str], path: str) -> str:
    """What would be sent for `path` of the preferred dialect, host included."""
    client = HttpClient()
    operation = find_kind(config.kind).preferred[0]
    speaker = PlainSpeaker(operation, path)
    remote = connect(config, client, {operation: speaker}, environ).backend
    assert not remote.health().detail.startswith("there is no key"), remote.health().detail
    outgoing = speaker.encode(chat("some/model:1"), remote.terms("some/model:1"))
    path = remote.reach(operation, "some/model:1", outgoing.path)
    head = remote.site.head(outgoing.method, path, outgoing.headers, outgoing.body).decode()
    await client.close()
    line, host = head.split("\r\n")[:2]
    return line.split(" ")[1] + " @ " + host.removeprefix("host: ")


@pytest.mark.parametrize(
    ("kind", "environ", "provider", "line"),
    [
        ("openai", {"OPENAI_API_KEY": "k"}, {}, "/v1/chat/completions @ api.openai.com"),
        (
            "openai",
            {"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://proxy:1/openai/v1"},
            {},
            "/openai/v1/chat/completions @ proxy:1",
        ),
        (
            "azure",
            {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://x.openai.azure.com/"},
            {},
            (
                "/openai/deployments/some%2Fmodel%3A1/chat/completions?api-version=2024-10-21"
                " @ x.openai.azure.com"
            ),
        ),
        (
            "azure",
            {"AZURE_API_KEY": "k", "AZURE_API_BASE": "https://x.openai.azure.com"},
            {"deployment": "gpt", "api_version": "v"},
            "/openai/deployments/gpt/chat/completions?api-version=v @ x.openai.azure.com",
        ),
        ("groq", {"GROQ_API_KEY": "k"}, {}, "/openai/v1/chat/completions @ api.groq.com"),
        ("zai", {"ZAI_API_KEY": "k"}, {}, "/api/paas/v4/chat/completions @ api.z.ai"),
        (
            "deepinfra",
            {"DEEPINFRA_API_KEY": "k"},
            {},
            "/v1/openai/chat/completions @ api.deepinfra.com",
        ),
        (
            "cloudflare",
            {"CLOUDFLARE_API_KEY": "k", "CLOUDFLARE_ACCOUNT_ID": "acc"},
            {},
            "/client/v4/accounts/acc/ai/v1/chat/completions @ api.cloudflare.com",
        ),
        (
            "gemini",
            {"GEMINI_API_KEY": "k"},
            {},
            "/own/models/x:go @ generativelanguage.googleapis.com",
        ),
        (
            "vertex",
            {"VERTEXAI_PROJECT": "p"},
            {"location": "global"},
            (
                "/v1/projects/p/locations/global/publishers/google/models/x:go"
                " @ aiplatform.googleapis.com"
            ),
        ),
        (
            "vertex",
            {"VERTEXAI_PROJECT": "p"},
            {"location": "eu"},
            (
                "/v1/projects/p/locations/eu/publishers/google/models/x:go"
                " @ aiplatform.eu.rep.googleapis.com"
            ),
        ),
        (
            "bedrock",
            {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s", "AWS_REGION": "eu-west-1"},
            {},
            "/own/models/x:go @ bedrock-runtime.eu-west-1.amazonaws.com",
        ),
        ("ollama", {"OLLAMA_HOST": "0.0.0.0"}, {}, "/own/models/x:go @ 127.0.0.1:11434"),
    ],
)
async def test_where_requests_go(
    kind: str, environ: dict[str, str], provider: dict[str, str], line: str
) -> None:
    config = BackendConfig(name="b", kind=kind, provider=provider)
    assert await request_line(config, environ, "/own/models/x:go") == line


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (BackendConfig(name="b", kind="vllm"), "b', url: it must be given for vLLM"),
        (BackendConfig(name="b", kind="vllm", url="vllm:8000"), "b', url: a URL begins with"),
        (BackendConfig(name="b", kind="openai", api_key="env:NOPE"), "NOPE is not set"),
        (
            BackendConfig(name="b", kind="cloudflare", api_key="k"),
            "b', provider.account: it must be given, or CLOUDFLARE_ACCOUNT_ID be set",
        ),
        (BackendConfig(name="b", kind="nonsense"), "no kind of backend 'nonsense'"),
        (
            BackendConfig(name="b", kind="vllm", url="http://h", headers={"x y": "z"}),
            "b', headers: the header field 'x y' cannot be sent",
        ),
        (
            BackendConfig(
                name="b", kind="vertex", provider={"project": "p", "credentials": "/nowhere.json"}
            ),
            "/nowhere.json cannot be read",
        ),
        (
            BackendConfig(name="b", kind="vllm", url="http://h", provider={"metrics_port": "many"}),
            "b', provider.metrics_port: it must be a number",
        ),
    ],
)
async def test_bad_configurations_are_refused(config: BackendConfig, message: str) -> None:
    client = HttpClient()
    with pytest.raises(ValueError, match=re.escape(message)):
        connect(config, client, {}, {})
    await client.close()
    # Whoever reads files learns it without a client.
    with pytest.raises(ValueError, match=re.escape(message)):
        check(config, {})


async def test_bedrock_signs_or_bears() -> None:
    client = HttpClient()
    config = BackendConfig(name="b", kind="bedrock")
    signed = connect(config, client, {}, {"AWS_ACCESS_KEY_ID": "i", "AWS_SECRET_ACCESS_KEY": "s"})
    assert isinstance(signed.backend.site.auth, SigV4Auth)
    head = signed.backend.site.head("POST", "/model/m/converse", (), b"{}")
    assert b"authorization: AWS4-HMAC-SHA256 Credential=i/" in head
    assert head.endswith(b"\r\n\r\n")
    borne = connect(config, client, {}, {"AWS_BEARER_TOKEN_BEDROCK": "k"})
    assert borne.backend.site.auth.fields() == (("authorization", "Bearer k"),)
    nobody = connect(config, client, {}, {})
    assert "AWS_ACCESS_KEY_ID" in nobody.backend.health().detail
    await client.close()


def test_paths_are_filled_in() -> None:
    assert fill("", {}, "m", "/own") == "/own"
    assert fill("/a/{model}", {}, "x/y", "/own") == "/a/x%2Fy"
    assert fill("/a/{d}{tail}", {"d": "1 2"}, "m", "/v1beta/models/x:go?a=b") == (
        "/a/1%202/models/x:go?a=b"
    )


async def test_fields_of_a_head() -> None:
    client = HttpClient()
    origin, base = parse_url("http://h:1/v1")
    pool = client.pool(origin, "b", PoolLimits())
    auth = FixedAuth("query", None)
    site = Site(pool, Base(base), auth, {"X-Version": "1", "X-First": "1"}, {"x-last": "yes"})
    head = site.head("POST", "/v1/x", (("X-Version", "2"), ("Host", "evil")), b"abc").decode()
    lines = head.split("\r\n")
    assert lines[0] == "POST /v1/x HTTP/1.1"
    assert lines[-2:] == ["", ""]
    assert "host: h:1" in lines
    assert "evil" not in head
    assert {"x-version: 2", "x-first: 1", "x-last: yes", "content-length: 3"} <= set(lines)
    for path, headers in [
        ("/a b", ()),
        ("/a\r\nx: y", ()),
        ("/", (("x", "a\r\ny: z"),)),
        ("/", (("x y", "a"),)),
    ]:
        with pytest.raises(InvalidRequest):
            site.head("GET", path, headers, b"")
    await client.close()


async def test_model_name_that_cannot_be_a_path_fails_the_call() -> None:
    client = HttpClient()
    config = BackendConfig(name="b", kind="gemini", api_key="k")
    speaker = {"gemini.generate": PlainSpeaker("gemini.generate", "/models/a b")}
    backend = connect(config, client, speaker, {}).backend
    sink = Sink()
    backend.submit(chat(), sink)
    await sink.done()
    assert isinstance(sink.error, InvalidRequest)
    assert backend.in_flight == 0
    await client.close()


def test_rows_say_what_the_vendors_document() -> None:
    """Converse: `outputConfig.textFormat`, `additionalModelRequestFields` (AWS' API reference);
    Gemini 3: "Multiple candidates is not enabled for this model" (googleapis/js-genai 1609);
    llama.cpp's and LM Studio's servers: `repeat_penalty`, in every dialect of theirs."""
    assert {"json_schema", "top_k"} <= KINDS["bedrock"].features
    assert "n" not in KINDS["gemini"].features | KINDS["vertex"].features
    named = {kind.name for kind in KINDS.values() if "repeat_penalty" in kind.features}
    assert named == {"llamacpp", "lmstudio"}
