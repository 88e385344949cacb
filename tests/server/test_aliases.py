"""Paths at which clients of LiteLLM's proxy and of Azure OpenAI look for OpenAI's API."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from tests.server.support import CHAT, HELLO, Running, running
from tests.support.fake_backend import FakeBackend
from trunkline.wire.table import ALIASES

TALK: Any = HELLO["messages"]
KEY: Any = {"api_key": ("secret",)}


def client(one: Running, path: str = "", key: str = "none") -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=one.url + path, api_key=key, max_retries=0, timeout=30)


def azure(one: Running, key: str, **more: Any) -> openai.AsyncAzureOpenAI:
    return openai.AsyncAzureOpenAI(
        azure_endpoint=one.url, api_key=key, api_version="2024-10-21", max_retries=0, **more
    )


@pytest.mark.parametrize("base", ["", "/openai/v1/"])
async def test_a_base_url_without_a_version(base: str) -> None:
    async with running() as one, client(one, base) as api:
        whole = await api.chat.completions.create(model="fake", messages=TALK)
        assert whole.choices[0].message.content == "Hello there!"
        assert "fake" in [model.id async for model in await api.models.list()]
        assert (await api.models.retrieve("fake")).id == "fake"
        made = await api.responses.create(model="fake", input="Hello")
        assert made.output_text == "Hello there!"
        assert (await api.responses.retrieve(made.id)).output_text == "Hello there!"
        stream = await api.chat.completions.create(model="fake", messages=TALK, stream=True)
        assert "".join([c.choices[0].delta.content or "" async for c in stream]) == "Hello there!"


async def test_the_client_of_azure() -> None:
    async with running(**KEY) as one:
        async with azure(one, "secret") as api:
            whole = await api.chat.completions.create(model="fake", messages=TALK)
            assert whole.choices[0].message.content == "Hello there!"
            text = await api.completions.create(model="fake", prompt="Hello")
            assert text.choices[0].text == "Hello there!"
            assert (await api.responses.create(model="fake", input="x")).output_text
            assert [model.id async for model in await api.models.list()] == ["fake"]
        async with azure(one, "secret", azure_deployment="fake") as api:
            whole = await api.chat.completions.create(model="another", messages=TALK)
            assert whole.model == "fake"
        async with azure(one, "wrong") as api:
            with pytest.raises(openai.AuthenticationError):
                await api.chat.completions.create(model="fake", messages=TALK)
            with pytest.raises(openai.AuthenticationError):
                await api.models.list()


@pytest.mark.parametrize("place", ["/openai/deployments", "/engines"])
@pytest.mark.parametrize("body", [{}, {"model": "other"}, {"model": "org/fake"}, {"model": None}])
async def test_the_model_of_the_path_counts(place: str, body: dict[str, Any]) -> None:
    backend = FakeBackend()
    async with running(backend, served_model_name=("org/fake",)) as one:
        for name in ("org/fake", "org%2Ffake"):
            path = f"{place}/{name}/chat/completions"
            seen = await one.ask("POST", path, {"messages": TALK, **body})
            assert (seen.status, seen.json().get("model")) == (200, "org/fake")
        seen = await one.ask("POST", f"{place}/nobody/completions", {"prompt": "x", **body})
        assert (seen.status, seen.json()["error"]["code"]) == (404, "model_not_found")


async def test_what_is_no_object_is_told_as_ever() -> None:
    async with running() as one:
        path = "/engines/fake/chat/completions"
        assert (await one.ask("POST", path, [1])).status == 400


async def test_completions_without_a_version_are_those_of_llamacpp() -> None:
    async with running() as one:
        seen = await one.ask("POST", "/completions", {"prompt": "x"})
        assert seen.json()["content"] == "Hello there!"


@pytest.mark.parametrize("path", ["liveliness", "liveness", "readiness"])
async def test_probes_need_no_key(path: str) -> None:
    async with running(**KEY) as one:
        assert (await one.ask("GET", f"/health/{path}")).status == 200


async def test_every_alias_is_served_and_wants_a_key() -> None:
    async with running(**KEY) as one:
        for row in ALIASES:
            path = row.path.replace("{model:path}", "fake")
            assert (await one.ask(row.method, path)).status == (401 if row.keyed else 200), path
            seen = await one.ask(row.method, path, None, "api-key: secret")
            assert seen.status not in (401, 404, 405) or b"with id" in seen.body, path


async def test_the_plain_path_takes_the_key_of_azure() -> None:
    async with running(**KEY) as one:
        assert (await one.ask("POST", CHAT, HELLO, "api-key: secret")).status == 200
        assert "backends" in (await one.ask("GET", "/health", None, "api-key: secret")).json()
