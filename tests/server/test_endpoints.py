from __future__ import annotations

from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

import trunkline
from tests.server.support import CHAT, HELLO, Running, running
from tests.support.fake_backend import FakeBackend
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.remote import Conformance
from trunkline.core.types import BackendStats, Health, Request
from trunkline.residency.switch import SwitchBackend
from trunkline.wire.speakers import SPEAKERS
from trunkline.wire.table import ROUTES

# What dashboards and autoscalers made for vLLM ask for (vLLM docs/usage/metrics.md).
VLLM = (
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
    "vllm:gpu_cache_usage_perc",
    "vllm:prefix_cache_queries_total",
    "vllm:prefix_cache_hits_total",
    "vllm:num_preemptions_total",
    "vllm:prompt_tokens_total",
    "vllm:generation_tokens_total",
    "vllm:request_success_total",
    "vllm:time_to_first_token_seconds_count",
    "vllm:inter_token_latency_seconds_count",
    "vllm:time_per_output_token_seconds_count",
    "vllm:e2e_request_latency_seconds_count",
)


async def samples(one: Running) -> dict[str, float]:
    """Samples of /metrics by name and labels; aliases under their own names."""
    seen = await one.ask("GET", "/metrics")
    assert seen.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(seen.body.decode()):
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}"] = sample.value
    return found


async def test_models() -> None:
    async with running(served_model_name=("alias", "org/alias")) as one:
        listed = (await one.ask("GET", "/v1/models")).json()
        assert [model["id"] for model in listed["data"]] == ["fake", "alias", "org/alias"]
        for name in ("fake", "alias", "default", "org/alias", "org%2Falias"):
            seen = await one.ask("GET", f"/v1/models/{name}")
            assert seen.status == 200
            assert seen.json()["root"] == "fake"
        seen = await one.ask("GET", "/v1/models/gpt-4")
        assert (seen.status, seen.json()["error"]["code"]) == (404, "model_not_found")
        assert (await one.ask("GET", "/v1/models/")).json() == listed


@pytest.mark.parametrize("name", ["fake", "org/alias", "org%2Falias"])
@pytest.mark.parametrize("version", ["", "/versions/1"])
async def test_kserves_paths_of_a_model(name: str, version: str) -> None:
    async with running(served_model_name=("org/alias",)) as one:
        plain = name.replace("%2F", "/")
        path = f"/v2/models/{name}{version}"
        assert (await one.ask("GET", path)).json()["name"] == plain
        assert (await one.ask("GET", f"{path}/ready")).json() == {"name": plain, "ready": True}
        seen = await one.ask("POST", f"{path}/generate", {"text_input": "Hi"})
        assert (seen.status, seen.json()["model_name"]) == (200, plain)
        seen = await one.ask("POST", f"{path}/generate_stream", {"text_input": "Hi"})
        assert seen.status == 200


async def test_answers_to_questions_name_who_gave_them() -> None:
    async with running() as one:
        body = {"model": "fake", "messages": [{"role": "user", "content": "Hi"}]}
        asked: list[tuple[str, dict[str, Any]]] = [
            ("/v1/messages/count_tokens", body),
            ("/tokenize", {"model": "fake", "prompt": "Hi"}),
            ("/detokenize", {"model": "fake", "tokens": [1, 2]}),
        ]
        for path, fields in asked:
            seen = await one.ask("POST", path, fields)
            assert seen.status == 200
            assert seen.headers["x-trunkline-backend"] == "fake"
            assert seen.headers["x-request-id"]


async def test_who_does_not_tell_what_tokens_say_cannot_show_it() -> None:
    async with running() as one:
        asked: list[tuple[dict[str, Any], int]] = [
            ({"inputs": "Hi"}, 422),
            ({"content": "Hi", "with_pieces": True}, 501),
            ({"prompt": "Hi", "return_token_strs": True}, 400),
        ]
        for fields, status in asked:
            seen = await one.ask("POST", "/tokenize", {"model": "fake", **fields})
            assert (seen.status, b"does not tell" in seen.body) == (status, True)


async def test_a_fault_of_ours_in_a_question_is_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeBackend):
        async def count_tokens(self, request: Request) -> int:
            raise ZeroDivisionError("1 / 0")

    async with running(Broken()) as one:
        seen = await one.ask("POST", "/tokenize", {"model": "fake", "prompt": "Hi"})
        assert (seen.status, "fault of this server" in seen.body.decode()) == (500, True)
    assert "1 / 0" in caplog.text


async def test_version_and_root() -> None:
    async with running() as one:
        assert (await one.ask("GET", "/version")).json() == {"version": trunkline.__version__}
        for accept in ("application/json", "text/html,application/xhtml+xml,*/*;q=0.8"):
            seen = await one.ask("GET", "/", None, f"accept: {accept}")
            assert seen.json()["name"] == "trunkline"
        for shown in ((), ("accept: */*",), ("accept: text/plain, */*",)):
            seen = await one.ask("GET", "/", None, *shown)
            assert (seen.status, seen.body) == (200, b"Ollama is running")
            assert seen.headers["content-type"].startswith("text/plain")
        assert (await one.ask("HEAD", "/")).status == 200


@pytest.mark.parametrize(
    ("state", "health", "ready"),
    [
        ("ready", 200, 200),
        ("starting", 503, 503),
        ("stalled", 503, 503),
        ("restarting", 503, 503),
        ("failed", 503, 503),
    ],
)
async def test_health(state: str, health: int, ready: int) -> None:
    backend = FakeBackend()
    backend.state = Health(state, "because")  # type: ignore[arg-type]
    backend.figures = BackendStats(running=2, waiting=3, restarts=1)
    async with running(backend) as one:
        seen = await one.ask("GET", "/health")
        assert seen.status == health
        assert seen.json()["status"] == ("ok" if health == 200 else "unavailable")
        # As llama.cpp's server says it.
        told = seen.json().get("error", {}).get("message")
        assert told == {"ready": None, "starting": "Loading model"}.get(
            state, "No model can answer"
        )
        # Ollama's clients are shown what is in memory.
        running_there = (await one.ask("GET", "/api/ps")).json()["models"]
        assert bool(running_there) == (state in ("ready", "stalled"))
        assert seen.json()["models"]["fake"] == {
            "state": state,
            "detail": "because",
            "load_seconds": 0.0,
            "running": 2,
            "waiting": 3,
            "restarts": 1,
        }
        for alias in ("/ping", "/v1/health"):
            assert (await one.ask("GET", alias)).status == health
        assert (await one.ask("GET", "/ready")).status == ready
        assert (await one.ask("GET", "/health/ready")).status == ready
        assert (await one.ask("GET", "/health/live")).status == 200


async def test_health_shows_backends_without_a_route_to_those_who_have_a_key() -> None:
    lonely, fake = FakeBackend(), FakeBackend()
    lonely.state = Health("starting", "loading weights")
    fake.state = Health("failed", "gone")
    async with running(fake, api_key=("secret",)) as one:
        one.server.gateway.backends = lambda: {"vllm": lonely}
        page = (await one.ask("GET", "/health")).json()
        assert page["error"]["message"] == "Loading model"
        assert "backends" not in page
        page = (await one.ask("GET", "/health", None, "authorization: Bearer secret")).json()
        assert page["backends"]["vllm"]["state"] == "starting"
        assert page["backends"]["vllm"]["detail"] == "loading weights"


async def test_health_tells_what_the_server_behind_a_backend_does_and_how_busy_it_is() -> None:
    config = BackendConfig(name="b", kind="vllm", url="http://127.0.0.1:9")
    client = HttpClient()
    box = connect(config, client, SPEAKERS, {}).backend
    box.learn(Conformance(lost=frozenset(("tools",)), notes=("tools: no (400)",)))
    box.set_stats(BackendStats(running=1, kv_usage=0.5, tokens_per_second=80.0, ttft=0.25))
    switch = SwitchBackend("backend 'launched'")
    async with running() as one:
        one.server.gateway.backends = lambda: {"box": box, "launched": switch}
        found = (await one.ask("GET", "/health")).json()["backends"]
        assert "abilities" not in found["launched"]
        switch.up(box)
        found = (await one.ask("GET", "/health")).json()["backends"]
    await client.close()
    for told in found.values():
        assert (told["kv_usage"], told["tokens_per_second"], told["ttft"]) == (0.5, 80.0, 0.25)
        assert told["abilities"]["probed"] == ["tools: no (400)"]
        assert "openai.chat" in told["abilities"]["passes"]
        assert "seed" in told["abilities"]["features"]
        assert "tools" not in told["abilities"]["features"]


async def test_probes_and_metrics_need_no_key() -> None:
    async with running(api_key=("secret",)) as one:
        for path in ("/", "/health", "/health/live", "/health/ready", "/ready", "/metrics"):
            assert (await one.ask("GET", path)).status == 200


@pytest.mark.parametrize(
    "path", ["/nope", "/v1/nope", "/v1/chat/completions/", "/v1", "/%00", "/.."]
)
async def test_unknown_paths(path: str) -> None:
    async with running() as one:
        seen = await one.ask("GET", path)
        assert seen.status == 404
        assert seen.json()["error"]["type"] == "invalid_request_error"


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", {"POST"}),
        ("PUT", "/v1/completions", {"POST"}),
        ("POST", "/v1/models", {"GET", "HEAD"}),
        ("DELETE", "/health", {"GET", "HEAD"}),
        ("OPTIONS", "/metrics", {"GET", "HEAD"}),
    ],
)
async def test_wrong_methods_are_told_the_right_ones(
    method: str, path: str, allow: set[str]
) -> None:
    async with running() as one:
        seen = await one.ask(method, path)
        assert seen.status == 405
        assert set(seen.headers["allow"].split(", ")) == allow
        assert seen.json()["error"]["code"] == "method_not_supported"


async def test_every_row_of_the_table_is_served() -> None:
    async with running() as one:
        for row in ROUTES:
            path = row.path.replace("{model:path}", "fake").replace("{model}", "fake")
            path = path.replace("{version}", "1")
            seen = await one.ask(row.method, path)
            # There is no response of that name, which is another 404.
            assert seen.status not in (404, 405) or b"with id" in seen.body


async def test_metrics_count_what_happened() -> None:
    backend = FakeBackend()
    backend.figures = BackendStats(
        running=2,
        waiting=5,
        kv_in_use=25,
        kv_total=100,
        prefix_queries=40,
        prefix_hits=30,
        preemptions=7,
        restarts=3,
    )
    async with running(backend) as one:
        for _ in range(2):
            await one.ask("POST", CHAT, {**HELLO, "stream": True})
        await one.ask("POST", CHAT, {**HELLO, "model": "nobody"})
        seen = await samples(one)
        ours = "{model=fake}"
        theirs = "{model_name=fake}"
        assert seen["trunkline_requests_total{model=fake,route=chat_completions,status=200}"] == 2
        assert seen["trunkline_requests_total{model=,route=chat_completions,status=404}"] == 1
        for prefix, labels in (("trunkline_", ours), ("vllm:", theirs)):
            assert seen[f"{prefix}prompt_tokens_total{labels}"] == 10
            assert seen[f"{prefix}generation_tokens_total{labels}"] == 6
            assert seen[f"{prefix}time_to_first_token_seconds_count{labels}"] == 2
            assert seen[f"{prefix}inter_token_latency_seconds_count{labels}"] == 4
            assert seen[f"{prefix}e2e_request_latency_seconds_count{labels}"] == 2
        assert seen["vllm:request_success_total{finished_reason=stop,model_name=fake}"] == 2
        assert seen["vllm:num_requests_running" + theirs] == 2
        assert seen["vllm:num_requests_waiting" + theirs] == 5
        assert seen["vllm:kv_cache_usage_perc" + theirs] == 0.25
        assert seen["vllm:prefix_cache_hits_total" + theirs] == 30
        assert seen["trunkline_preemptions_total" + ours] == 7
        assert seen["trunkline_engine_restarts_total" + ours] == 3
        assert seen["trunkline_model_ready" + ours] == 1
        assert seen["trunkline_open_connections{}"] >= 1
        assert seen["process_resident_memory_bytes{}"] > 1e6
        names = {key.partition("{")[0] for key in seen}
        assert set(VLLM) <= names


async def test_metrics_tell_the_share_of_kv_where_that_is_all_that_is_known() -> None:
    backend = FakeBackend()
    backend.figures = BackendStats(kv_usage=0.5)
    async with running(backend) as one:
        assert (await samples(one))["trunkline_kv_usage_ratio{model=fake}"] == 0.5


async def test_made_up_names_make_no_series() -> None:
    async with running() as one:
        await one.ask("POST", CHAT, HELLO)
        before = len(await samples(one))
        for index in range(5):
            await one.ask("GET", f"/nope/{index}")
            await one.ask("POST", CHAT, {**HELLO, "model": f"model-{index}"})
        assert len(await samples(one)) <= before + 3
