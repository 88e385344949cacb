"""litellm as a client, as each of its providers that can be pointed at a server of one's own.

It runs outside the environment of the tests; see `clients`.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.clients import run_python_client
from tests.support.server import Server, serve, write_rules

REPLY = "Hello from the rails."
UNICODE = "naïve 東京 🚂🚃 e\u0301"
CALL = '<tool_call>\n{"name": "%s", "arguments": %s}\n</tool_call>'
CHATS = ("openai", "hosted_vllm", "anthropic", "ollama_chat", "huggingface")
COMPLETIONS = ("ollama", "text-completion-openai")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, caboose: Server) -> dict[str, Any]:
    """Provider -> call -> what came back. One run: importing litellm takes seconds."""
    directory = tmp_path_factory.mktemp("litellm")
    sums = '{"left": 17, "right": 25}'
    rules = write_rules(
        directory / "rules.json",
        {"contains": "18 degrees", "text": "It is 18 degrees in Paris."},
        {"contains": "weather", "text": CALL % ("get_weather", '{"city": "Paris"}')},
        {"contains": "unicode", "text": UNICODE},
        {"contains": "think", "text": "<think>\nhm\n</think>\n\nSo."},
        {"contains": "by tool", "text": CALL % ("json_tool_call", sums)},
        {"contains": "a sum", "text": sums},
        default={"text": REPLY},
    )
    parsers = ("--tool-call-parser", "hermes", "--reasoning-parser", "qwen3")
    with serve(directory, str(rules), "--executor", "scripted", *parsers) as server:
        told: dict[str, Any] = run_python_client(
            "litellm_calls.py", server.url, "rules", caboose.url
        )
    return told


@pytest.mark.parametrize("provider", CHATS + COMPLETIONS)
def test_text(told: dict[str, Any], provider: str) -> None:
    calls = told[provider]
    assert calls["chat"] == {"text": REPLY, "reason": "stop", "sums": True}
    assert calls["stream"] == {"text": UNICODE, "reason": ["stop"]}
    assert calls["unknown_model"] == 404


@pytest.mark.parametrize("provider", ["openai", "hosted_vllm", "anthropic"])
def test_a_prompt_that_is_too_long(told: dict[str, Any], provider: str) -> None:
    # By this its router falls back to a model with a longer context.
    assert told[provider]["too_long"] == "ContextWindowExceededError"


@pytest.mark.parametrize("provider", CHATS)
def test_tools(told: dict[str, Any], provider: str) -> None:
    calls = told[provider]
    call = {"name": "get_weather", "arguments": {"city": "Paris"}}
    last = {"reason": "tool_calls", "last": "It is 18 degrees in Paris."}
    assert calls["tool_run"] == {**call, **last}
    chunks = calls["streamed_tool"].pop("chunks")
    assert calls["streamed_tool"] == call
    # Arguments come as they are made, but for Ollama's, which come whole.
    assert chunks > (1 if provider == "ollama_chat" else 5)


@pytest.mark.parametrize("provider", CHATS)
def test_reasoning_and_schemas(told: dict[str, Any], provider: str) -> None:
    calls = told[provider]
    assert calls["thinking"] == {"text": "So.", "reasoning": "hm"}
    schema = "structured_by_tool" if provider == "anthropic" else "structured"
    assert calls[schema] == {"left": 17, "right": 25}


def test_responses(told: dict[str, Any]) -> None:
    assert told["openai"]["responses"] == {"text": REPLY, "last": "response.completed"}


def test_triton(told: dict[str, Any]) -> None:
    # As Triton answers: the prompt first, and no count of tokens.
    assert told["triton"]["chat"] == {"text": f"Hi{REPLY}", "reason": "stop", "sums": False}


def test_the_bundled_model(told: dict[str, Any]) -> None:
    calls = told["bundled"]
    assert calls["chat"]["text"]
    assert calls["chat"]["sums"] is True
    assert calls["responses"]["last"] == "response.completed"
