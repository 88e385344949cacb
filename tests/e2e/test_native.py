"""The server with the native engine: the bundled model says what it says on ggml."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.server import Server, serve
from tests.support.tiny_gguf import write_tiny_gguf
from trunkline.libnative.build import LIBRARY

QUESTIONS = ("Hello!", "What is Trunkline?", "What is 2 + 3?")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("native")
    with serve(folder, "caboose", "--executor", "native", "--threads", "1") as server:
        yield server


@pytest.fixture(scope="module")
def ggml(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("ggml")
    with serve(folder, "caboose", "--executor", "ggml", "--threads", "1") as server:
        yield server


def answer(server: Server, question: str, **fields: object) -> str:
    body = {
        "model": "caboose",
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 24,
        **fields,
    }
    reply = httpx.post(f"{server.url}/v1/chat/completions", json=body, timeout=60)
    assert reply.status_code == 200, reply.text
    text: str = reply.json()["choices"][0]["message"]["content"]
    return text


def test_greedy_text_is_ggmls(native: Server, ggml: Server) -> None:
    for question in QUESTIONS:
        assert answer(native, question) == answer(ggml, question)


def test_auto_is_native_and_says_nothing(caboose: Server) -> None:
    maps = Path(f"/proc/{caboose.descendants()['core']}/maps").read_text()
    assert LIBRARY.name in maps
    assert "native" not in caboose.log.read_text()


def test_the_log_says_why_it_is_not_native(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mamba.gguf", "mamba")
    with serve(tmp_path, str(path)) as server:
        (line,) = [one for one in server.log.read_text().splitlines() if "ggml" in one]
        assert "mamba runs on ggml, not on the native engine" in line


def test_seeds_reproduce_whoever_else_asks(native: Server) -> None:
    fields = {"temperature": 1.0, "top_p": 0.95, "seed": 5, "n": 1}
    alone = answer(native, "Tell me about trains.", **fields)
    body = {"model": "caboose", "prompt": "one two three", "max_tokens": 40, "n": 8}
    with httpx.stream("POST", f"{native.url}/v1/completions", json={**body, "stream": True}) as r:
        lines = r.iter_lines()
        next(lines)
        assert answer(native, "Tell me about trains.", **fields) == alone


@pytest.mark.parametrize("server", ["native", "ggml"])
def test_json_schema(server: str, request: pytest.FixtureRequest) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    running: Server = request.getfixturevalue(server)
    text = answer(running, "Give me a number.", response_format=form, max_tokens=60)
    assert text.replace(" ", "").replace("\n", "").startswith('{"a":')


@pytest.mark.parametrize("server", ["native", "ggml"])
def test_what_clients_ask_for(server: str, request: pytest.FixtureRequest) -> None:
    """Rows of one prompt, log probabilities, and those of the prompt: on either engine."""
    running: Server = request.getfixturevalue(server)
    body = {"model": "caboose", "prompt": "one two three four", "n": 3, "temperature": 0}
    body |= {"max_tokens": 5, "logprobs": 2, "echo": True, "ignore_eos": True}
    reply = running.post("/v1/completions", body)
    assert reply.status_code == 200, reply.text
    choices = reply.json()["choices"]
    assert len({choice["text"] for choice in choices}) == 1
    told = choices[0]["logprobs"]["token_logprobs"]
    assert told[0] is None
    assert all(value < 0 for value in told[1:])
    assert len(told) == reply.json()["usage"]["prompt_tokens"] + 5
    running.wait_metric("trunkline_kv_in_use_tokens", 0)
