"""The task that keeps a backend up to date, and the probe."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from tests.backends.engine import Answer, Engine, answer
from tests.backends.fakes import speakers
from tests.backends.http.peer import Peer, Taker, serve, until
from tests.backends.test_scrape import VLLM
from trunkline.backends.config import BackendConfig, Probe
from trunkline.backends.connect import Remote, connect
from trunkline.backends.http.client import HttpClient

SAY = speakers("openai.chat", "openai.completions", "anthropic.messages", "openai.responses")
MODELS = answer({"data": [{"id": "m", "max_model_len": 4096}]})
SSE = "text/event-stream"


@contextlib.asynccontextmanager
async def watched(engine: Engine, kind: str = "vllm", **config: Any) -> AsyncIterator[Remote]:
    async with engine.serving() as port:
        client = HttpClient()
        url = f"http://127.0.0.1:{port}"
        settings = {"name": "one", "kind": kind, "url": url, "probe": False, **config}
        remote = connect(BackendConfig(**settings), client, SAY, {})
        try:
            yield remote
        finally:
            await remote.watcher.close()
            await client.close()


def vllm() -> Engine:
    return Engine(
        {
            "/health": (200, "text/plain", b""),
            "/metrics": (200, "text/plain", VLLM),
            "/v1/models": MODELS,
        }
    )


@pytest.mark.parametrize("provider", [{}, {"metrics_port": "9"}])
async def test_nothing_stays_open(provider: dict[str, str]) -> None:
    """A server that is reloaded for months makes backends again and again."""
    async with vllm().serving() as port:
        client = HttpClient()
        settings: dict[str, Any] = {"name": "one", "kind": "vllm", "probe": False}
        config = BackendConfig(url=f"http://127.0.0.1:{port}", provider=provider, **settings)
        remote = connect(config, client, SAY, {})
        await remote.watcher.look()
        pools = set(client._pools)
        assert pools == set(remote.pools)
        assert any(pool.open for pool in pools)
        await remote.close(client)
        assert not any(pool.open for pool in pools)
        assert not client._pools
        await client.close()


async def test_one_round() -> None:
    engine = vllm()
    async with watched(engine) as remote:
        backend = remote.backend
        assert backend.health().state == "starting"
        assert backend.models() == ()
        await remote.watcher.look()
        assert backend.health().state == "ready"
        assert [(card.name, card.context_length) for card in backend.models()] == [("m", 4096)]
        assert backend.stats().running == 12
        assert backend.stats().kv_usage == 0.5
        await remote.watcher.look()
        assert engine.asked.count("/v1/models") == 1
        assert engine.asked.count("/metrics") == 2


async def test_states_follow_the_server() -> None:
    engine = vllm()
    async with watched(engine) as remote:
        engine.replies["/health"] = answer({"error": "Loading model"}, 503)
        await remote.watcher.look()
        assert remote.backend.health().state == "starting"
        engine.replies["/health"] = answer({})
        await remote.watcher.look()
        engine.replies["/health"] = answer({}, 500)
        await remote.watcher.look()
        health = remote.backend.health()
        assert (health.state, health.detail) == ("failed", "/health answers 500")
        # Back again, maybe with other models.
        engine.replies["/health"] = answer({})
        engine.replies["/v1/models"] = answer({"data": [{"id": "other"}]})
        await remote.watcher.look()
        assert [card.name for card in remote.backend.models()] == ["other"]


@pytest.mark.parametrize("status", [401, 403, 404, 405, 501])
async def test_health_that_is_hidden(status: int) -> None:
    """As behind a proxy that lets /v1 through alone."""
    engine = vllm()
    engine.replies["/health"] = answer({}, status)
    async with watched(engine) as remote:
        await remote.watcher.look()
        health = remote.backend.health()
        assert health.state == "ready"
        assert health.detail.startswith(f"/health answers {status}, /v1/models 200")
        assert [card.name for card in remote.backend.models()] == ["m"]
        engine.replies["/v1/models"] = answer({}, 503)
        await remote.watcher.look()
        assert remote.backend.health().state == "starting"
        engine.replies["/v1/models"] = answer({}, 502)
        await remote.watcher.look()
        assert remote.backend.health().state == "failed"
        # A key that is wrong.
        engine.replies["/v1/models"] = answer({}, 401)
        await remote.watcher.look()
        assert remote.backend.health().state == "failed"
        engine.replies["/v1/models"] = answer({}, 404)
        await remote.watcher.look()
        health = remote.backend.health()
        assert (health.state, "it is there" in health.detail) == ("ready", True)
        engine.replies["/health"] = answer({})
        await remote.watcher.look()
        assert (remote.backend.health().state, remote.backend.health().detail) == ("ready", "")


@pytest.mark.parametrize(
    ("kind", "page"),
    [
        ("openai-compatible", "/v1/models"),
        ("mlc", "/v1/models"),
        ("kserve", "/v2/health/ready"),
        ("triton", "/v2/health/ready"),
        ("tgi", "/health"),
        ("ollama", "/api/version"),
    ],
)
async def test_servers_that_show_nothing_are_there(kind: str, page: str) -> None:
    engine = Engine({})
    async with watched(engine, kind) as remote:
        await remote.watcher.look()
        health = remote.backend.health()
        assert health.state == "ready"
        assert health.detail.startswith(f"{page} answers 404")
        assert "no more is known" in health.detail


async def test_server_that_is_not_there() -> None:
    client = HttpClient()
    remote = connect(
        BackendConfig(name="one", kind="vllm", url="http://127.0.0.1:1"), client, SAY, {}
    )
    await remote.watcher.look()
    assert remote.backend.health().state == "failed"
    assert "refuses connections" in remote.backend.health().detail
    await client.close()


async def test_metrics_may_be_missing(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    engine = vllm()
    engine.replies["/metrics"] = answer({"error": "disabled"}, 501)
    async with watched(engine) as remote:
        for _ in range(3):
            await remote.watcher.look()
        assert remote.backend.health().state == "ready"
        assert remote.backend.stats().running == 0
    assert caplog.text.count("no load is known") == 1


async def test_the_task_runs_until_it_is_closed() -> None:
    engine = vllm()
    async with watched(engine, health=Probe(interval=0.05, timeout=1.0)) as remote:
        remote.watcher.start()
        remote.watcher.start()
        await until(lambda: engine.asked.count("/health") >= 3)
        await remote.watcher.close()
        count = len(engine.asked)
        await asyncio.sleep(0.2)
        assert len(engine.asked) == count


async def test_checks_do_not_wait_behind_requests() -> None:
    """All connections for requests are in use, and the check still gets through."""
    engine = vllm()
    async with watched(engine, max_connections=1) as remote:
        pool = remote.backend.site.pool

        pool.send(Taker(head=b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n"))
        await until(lambda: (pool.open, pool.idle) == (1, 0))
        await remote.watcher.look()
        assert remote.backend.health().state == "ready"


async def test_hosted_apis_are_left_alone() -> None:
    engine = Engine({"/v1/models": MODELS})
    async with watched(engine, "openai", api_key="k", probe=None) as remote:
        assert remote.backend.health().state == "ready"
        await remote.watcher.look()
        await remote.watcher.look()
        assert engine.asked == ["/v1/models"]


async def test_what_is_resident_is_not_known_of_those_that_do_not_tell() -> None:
    async with watched(vllm()) as remote:
        await remote.watcher.look()
        assert remote.backend.holds("whatever")


async def test_resident_models_of_ollama() -> None:
    engine = Engine(
        {
            "/api/version": answer({"version": "0.9"}),
            "/api/ps": answer({"models": [{"name": "a:latest", "size": 5}]}),
            "/api/tags": answer({"models": [{"name": "a:latest"}, {"name": "b:latest"}]}),
        }
    )
    async with watched(engine, "ollama", probe=None) as remote:
        await remote.watcher.look()
        assert remote.backend.stats().resident_models == ("a:latest",)
        held = [name for name in ("a", "a:latest", "b", "a:7b") if remote.backend.holds(name)]
        assert held == ["a", "a:latest"]
        assert [card.name for card in remote.backend.models()] == ["a:latest", "b:latest"]
        # A probe would load a model.
        assert not [path for path in engine.asked if "chat" in path]


def chat_answer(body: Any) -> Answer:
    """A server that can do all but tools, and that ignores schemas."""
    if "tools" in body:
        return answer({"error": "start me with --enable-auto-tool-choice"}, 400)
    if body.get("stream"):
        usage = b'data: {"choices":[],"usage":{"prompt_tokens":1}}\n\n'
        return 200, SSE, b'data: {"choices":[{}]}\n\n' + usage
    choice = {"message": {"content": "Sure! {}"}, "finish_reason": "stop"}
    return answer({"choices": [choice]})


async def test_probe_finds_out() -> None:
    engine = vllm()
    engine.replies["/v1/chat/completions"] = chat_answer
    engine.replies["/v1/messages"] = answer({"type": "message", "content": []})
    async with watched(engine, "openai-compatible", probe=None) as remote:
        backend = remote.backend
        assert "tools" in backend.features
        assert not backend.relays("anthropic.messages")
        await remote.watcher.look()
        assert {"stream", "stream_usage"} <= backend.features
        assert not {"tools", "json_schema"} & backend.features
        assert backend.relays("anthropic.messages")
        assert not backend.relays("openai.responses")
        assert backend.conformance is not None
        assert "tools: no" in backend.conformance.notes
        # Once is enough.
        count = engine.asked.count("/v1/chat/completions")
        remote.watcher._relist_at = 0.0
        await remote.watcher.look()
        assert engine.asked.count("/v1/chat/completions") == count


@pytest.mark.parametrize(
    ("kind", "host", "probe", "tried"),
    [
        ("openai-compatible", "api.vendor.example", None, False),
        ("anthropic-compatible", "api.vendor.example", None, False),
        ("openai-compatible", "api.vendor.example", True, True),
        ("openai-compatible", "gpu-box", None, True),
        ("openai-compatible", "gpu-box", False, False),
        ("vllm", "gpu.public.example", None, True),
        ("openai", "gpu-box", None, False),
    ],
)
async def test_whoever_may_bill_is_not_probed(
    kind: str, host: str, probe: bool | None, tried: bool
) -> None:
    """Each name leads to the same server."""
    engine = vllm()
    engine.replies["/v1/chat/completions"] = chat_answer
    async with watched(engine, kind, probe=probe, api_key="k", models=("m",)) as remote:
        pool = remote.watcher._site.pool
        elsewhere = msgspec.structs.replace(pool.origin, host=host)
        remote.watcher._near = elsewhere.near
        await remote.watcher.look()
        assert ("POST" in engine.methods) is tried


async def test_a_probe_asks_where_the_kind_does() -> None:
    engine = Engine({})
    claude = "claude-sonnet-4-5@20250929"
    more: dict[str, Any] = {"api_key": "k", "probe": True, "models": (claude,)}
    async with watched(engine, "vertex", provider={"project": "p"}, **more) as remote:
        await remote.watcher.look()
        # It has a way of its own to speak to Claude, which no probe tries.
        assert remote.backend.relays("anthropic.messages")
        assert not engine.asked
    more["models"] = ("gpt",)
    provider = {"api_version": "1"}
    async with watched(engine, "azure", provider=provider, **more) as remote:
        await remote.watcher.look()
    assert not [path for path in engine.asked if "{" in path or "%7B" in path]
    assert [path for path in engine.asked if path.startswith("/openai/deployments/gpt/chat/")]


async def test_new_version_is_probed_again() -> None:
    engine = vllm()
    engine.replies["/v1/chat/completions"] = chat_answer
    engine.replies["/version"] = answer({"version": "1"})
    async with watched(engine, probe=True) as remote:
        await remote.watcher.look()
        assert "tools" not in remote.backend.features

        def better(body: Any) -> Answer:
            if body.get("stream"):
                return 200, SSE, b"data: {}\n\n"
            choice = {"message": {"content": '{"ok": true}'}, "finish_reason": "stop"}
            return answer({"choices": [choice]})

        engine.replies["/v1/chat/completions"] = better
        engine.replies["/version"] = answer({"version": "2"})
        remote.watcher._relist_at = 0.0
        await remote.watcher.look()
        assert {"tools", "tool_choice", "json_schema"} <= remote.backend.features
        assert "stream_usage" not in remote.backend.features


async def test_probe_of_a_server_in_trouble_changes_nothing() -> None:
    engine = vllm()
    for path in ("/v1/chat/completions", "/v1/messages", "/v1/responses"):
        engine.replies[path] = answer({"error": "busy"}, 503)
    async with watched(engine, probe=True) as remote:
        before = remote.backend.features
        await remote.watcher.look()
        assert remote.backend.features == before
        assert remote.backend.relays("anthropic.messages")


async def test_what_arrives_between_two_checks_is_heard() -> None:
    """Checks of a busy engine time out; its answers come at any time."""

    async def hang(peer: Peer) -> None:
        await peer.request()
        await asyncio.sleep(60)

    async with serve(hang) as port:
        client = HttpClient()
        url, health = f"http://127.0.0.1:{port}", Probe(timeout=0.05)
        config = BackendConfig(name="one", kind="vllm", url=url, probe=False, health=health)
        remote = connect(config, client, SAY, {})
        remote.backend.calls.add(Busy())
        for _ in range(3):
            await remote.watcher.look()
        assert remote.backend.health().state == "stalled"
        remote.backend.heard = True
        await remote.watcher.look()
        assert remote.backend.health().state == "starting"
        await remote.close(client)
        await client.close()


class Busy:
    """A call under way."""

    def check(self, now: float) -> None:
        pass

    def cancel(self) -> None:
        pass
