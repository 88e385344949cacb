"""Parameters of calls in LiteLLM's file: where they go, and which are noted."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.server.file.support import read
from trunkline.backends.config import BackendConfig

URL = "api_base: 'http://h', api_key: k"


def backend(tmp_path: Path, params: str) -> tuple[BackendConfig, list[str]]:
    """The backend of an entry with these parameters, and which of them are noted."""
    text = f"model_list: [{{model_name: m, litellm_params: {{{params}}}}}]"
    loaded = read(tmp_path, text)
    (found,) = loaded.config.backends
    names = [note.place.path.rpartition(".")[2] for note in loaded.notes]
    return found, names


@pytest.mark.parametrize(
    ("params", "body"),
    [
        ("temperature: 0, stop: [a], n: 2", {"temperature": 0, "stop": ["a"], "n": 2}),
        (
            "response_format: {type: json_object}, user: bob, reasoning_effort: low",
            {"response_format": {"type": "json_object"}, "user": "bob", "reasoning_effort": "low"},
        ),
        (
            "chat_template_kwargs: {enable_thinking: false}, num_ctx: 5",
            {"chat_template_kwargs": {"enable_thinking": False}, "num_ctx": 5},
        ),
        ("thinking: {type: enabled}, top_k: 3", {"thinking": {"type": "enabled"}, "top_k": 3}),
    ],
)
def test_openais_dialect_takes_them_by_their_names(
    tmp_path: Path, params: str, body: dict[str, object]
) -> None:
    found, noted = backend(tmp_path, f"model: openai/x, {URL}, {params}")
    assert (found.default_body, noted) == (body, [])


def test_what_litellm_does_not_know_is_sent_and_told(tmp_path: Path) -> None:
    params = "unheard_of: {a: [1]}, safe_prompt: true, input_cost_per_token_batches: 1, tags: [a]"
    found, noted = backend(tmp_path, f"model: openai/x, {URL}, {params}")
    assert found.default_body == {"unheard_of": {"a": [1]}, "safe_prompt": True}
    assert sorted(noted) == ["input_cost_per_token_batches", "safe_prompt", "tags", "unheard_of"]


def test_anthropic_takes_what_it_has_by_its_names(tmp_path: Path) -> None:
    params = "max_completion_tokens: 9, stop: X, user: bob, thinking: {type: adaptive}, top_p: 1"
    found, noted = backend(tmp_path, f"model: anthropic/x, {params}, reasoning_effort: low, n: 2")
    assert found.default_body == {
        "max_tokens": 9,
        "stop_sequences": ["X"],
        "metadata": {"user_id": "bob"},
        "thinking": {"type": "adaptive"},
        "top_p": 1,
    }
    assert sorted(noted) == ["n", "reasoning_effort"]


AZURE_AI = "api_base: 'https://h.services.ai.azure.com', api_key: k, stop: [a], temperature: 0"


@pytest.mark.parametrize(
    ("model", "body", "noted"),
    [
        ("Claude-opus", {"stop_sequences": ["a"], "temperature": 0}, []),
        ("grok-4", {"stop": ["a"], "temperature": 0}, []),
        ("*", {"temperature": 0}, ["stop"]),
    ],
)
def test_a_model_may_decide_which_dialect_it_is(
    tmp_path: Path, model: str, body: dict[str, object], noted: list[str]
) -> None:
    found, told = backend(tmp_path, f"model: azure_ai/{model}, {AZURE_AI}")
    assert (found.default_body, found.dialect, told) == (body, "", noted)


def test_cohere_takes_what_it_has_by_its_names(tmp_path: Path) -> None:
    found, noted = backend(tmp_path, "model: cohere/x, top_p: 0.5, top_k: 3, stop: [a], n: 1")
    assert found.default_body == {"p": 0.5, "k": 3, "stop_sequences": ["a"]}
    assert noted == ["n"]


@pytest.mark.parametrize(
    ("model", "body", "noted"),
    [
        ("gemini/x", {"generationConfig": {"temperature": 0, "maxOutputTokens": 5}}, ["n"]),
        (
            "vertex_ai/x, vertex_project: p",
            {"generationConfig": {"temperature": 0, "maxOutputTokens": 5}},
            ["n"],
        ),
        ("bedrock/x", {"inferenceConfig": {"temperature": 0, "maxTokens": 5}}, ["n"]),
        (f"triton/x, {URL}", {}, ["max_tokens", "n", "temperature"]),
    ],
)
def test_other_dialects_have_objects_for_them(
    tmp_path: Path, model: str, body: dict[str, object], noted: list[str]
) -> None:
    found, told = backend(tmp_path, f"model: {model}, temperature: 0, max_tokens: 5, n: 2")
    assert found.default_body == body
    assert sorted(told) == noted


@pytest.mark.parametrize(
    ("params", "dialect", "noted"),
    [
        # As in OpenAI's dialect, so in Anthropic's, which such a server speaks, too.
        (f"model: hosted_vllm/x, {URL}, temperature: 0", "", []),
        (f"model: hosted_vllm/x, {URL}, stop: [a]", "openai", []),
        ("model: deepseek/x, max_tokens: 5", "", []),
        ("model: deepseek/x, reasoning_effort: low", "openai", []),
        (f"model: llamafile/x, {URL}, max_tokens: 5", "openai", []),
        ("model: ollama_chat/x, temperature: 0", "ollama", []),
        ("model: ollama_chat/x, temperature: 0, logprobs: true", "openai", []),
        ("model: ollama/x, keep_alive: 5m", "ollama", []),
        ("model: ollama/x, keep_alive: 5m, temperature: 0", "ollama", []),
        ("model: ollama/x, num_ctx: 5, temperature: 0", "ollama", []),
        ("model: ollama/x, num_ctx: 5, logprobs: true", "openai", ["num_ctx"]),
        # A probe may find that it speaks Anthropic's dialect.
        (f"model: openai/x, {URL}, stop: [a]", "openai", []),
        (f"model: openai/x, {URL}, temperature: 0", "", []),
        ("model: openai/x, stop: [a]", "", []),
        ("model: openai/responses/x, reasoning_effort: low", "openai.responses", []),
    ],
)
def test_a_dialect_is_chosen_in_which_they_arrive(
    tmp_path: Path, params: str, dialect: str, noted: list[str]
) -> None:
    found, told = backend(tmp_path, params)
    assert (found.dialect, told) == (dialect, noted)
    assert found.default_body
