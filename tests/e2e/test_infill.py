"""Filling in, against a tiny random model with the tokens for it, beside llama.cpp's own server."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import ollama
import openai
import pytest

from tests.e2e.test_llamacpp import OWN
from tests.support.llama_server import llama_server
from tests.support.server import Server, serve
from tests.support.tiny_gguf import write_tiny_gguf
from tests.wire.llamacpp.support import events, same_shape

# Qwen2.5-Coder's names, by which libllama knows them.
FIM = (
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
    "<|fim_pad|>",
    "<|repo_name|>",
    "<|file_sep|>",
)
CONTEXT = 4096


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trained for nothing, but it knows where a gap is."""
    path = tmp_path_factory.mktemp("infill") / "coder.gguf"
    return write_tiny_gguf(path, specials=FIM, metadata={".context_length": CONTEXT})


@pytest.fixture(scope="module")
def coder(model: Path) -> Iterator[Server]:
    """Ours."""
    with serve(
        model.parent, str(model), "--served-model-name", "coder", "--threads", "1"
    ) as server:
        yield server


@pytest.fixture(scope="module")
def theirs(model: Path) -> Iterator[str]:
    """llama.cpp's."""
    with llama_server(model, model.parent, CONTEXT) as url:
        yield url


GAP = {"input_prefix": "def f(x):\n    ", "input_suffix": "\n    return y\n", "n_predict": 8}
GREEDY = {"temperature": 0, "top_k": 1, "seed": 1}


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"prompt": "y ="},
        {"input_extra": [{"text": "import os\n", "filename": "a.py"}, {"text": "x = 1\n"}]},
        {"input_prefix": ["def ", 70, "(x)"], "input_suffix": [1, 2]},
        {"input_prefix": "hello " * 3000, "input_suffix": "world " * 3000},
        {"input_prefix": "<|fim_suffix|> is text", "input_suffix": ""},
    ],
)
def test_as_its_server_does(coder: Server, theirs: str, more: dict[str, Any]) -> None:
    body = GAP | GREEDY | more
    ours = coder.post("/infill", body)
    other = httpx.post(f"{theirs}/infill", json=body, timeout=60)
    assert ours.status_code == other.status_code == 200, (ours.text, other.text)
    one, two = ours.json(), other.json()
    assert set(one) == set(two)
    # The prompt is told as text, its special tokens by name: that is their order.
    assert one["prompt"] == two["prompt"]
    # How much of theirs they had in their cache is not ours to know.
    same = set(one) - OWN - {"tokens_cached"}
    assert {key: one[key] for key in same} == {key: two[key] for key in same}
    same_shape(one["timings"], two["timings"])


# What the editor plugin llama.vim asks (autoload/llama.vim of ggml-org/llama.vim, read 2026-11-21).
EDITOR = GAP | {
    "id_slot": 0,
    "input_extra": [{"text": "import os\n", "filename": "a.py"}],
    "prompt": "    y = ",
    "n_predict": 16,
    "stop": [],
    "n_indent": 4,
    "top_k": 40,
    "top_p": 0.9,
    "stream": False,
    "samplers": ["top_k", "top_p", "infill"],
    "cache_prompt": True,
    "t_max_prompt_ms": 500,
    "t_max_predict_ms": 1000,
    "response_fields": ["content", "timings/prompt_n", "timings/predicted_ms", "truncated"],
}


@pytest.mark.parametrize(
    "more",
    # Chance decides nothing; a letter is likely; line ends are, and no line has an indent.
    [{"top_k": 1}, {"logit_bias": [[65, 30]]}, {"logit_bias": [[10, 30]]}],
)
def test_an_editors_request(coder: Server, theirs: str, more: dict[str, Any]) -> None:
    body = EDITOR | more
    ours = coder.post("/infill", body)
    other = httpx.post(f"{theirs}/infill", json=body, timeout=60)
    assert ours.status_code == other.status_code == 200, (ours.text, other.text)
    one, two = ours.json(), other.json()
    assert set(one) == set(two)
    assert one["content"] == two["content"]


def test_an_editor_warms_the_cache(coder: Server) -> None:
    warm = {"n_predict": 0, "samplers": [], "t_max_predict_ms": 1, "response_fields": [""]}
    assert coder.post("/infill", EDITOR | warm).json() == {}


def test_stream(coder: Server, theirs: str) -> None:
    body = GAP | GREEDY | {"stream": True}
    ours = events(coder.post("/infill", body).content)
    other = events(httpx.post(f"{theirs}/infill", json=body, timeout=60).content)
    assert "".join(one["content"] for one in ours) == "".join(one["content"] for one in other)
    same_shape(ours[-1], other[-1])


@pytest.mark.parametrize(
    "change",
    [{"prompt": 5}, {"input_extra": "x"}, {"input_extra": [{"filename": "a"}]}],
)
def test_errors(coder: Server, change: dict[str, Any]) -> None:
    refused = coder.post("/infill", GAP | change)
    assert refused.status_code == 400
    assert refused.json()["error"]["type"] == "invalid_request_error"
    assert next(iter(change)) in refused.text or "extra_context" in refused.text


def test_more_files_than_fit(coder: Server) -> None:
    extra = [{"text": "word " * 2000, "filename": f"{number}.py"} for number in range(8)]
    answer = coder.post("/infill", GAP | {"input_extra": extra}).json()
    assert answer["tokens_evaluated"] < CONTEXT
    assert answer["prompt"].endswith(
        "<|file_sep|>filename\n<|fim_prefix|>def f(x):\n    "
        "<|fim_suffix|>\n    return y\n<|fim_middle|>"
    )


def test_every_dialect_gives_the_same_text(coder: Server) -> None:
    infill = coder.post("/infill", GAP | GREEDY | {"prompt": ""}).json()
    with openai.OpenAI(base_url=f"{coder.url}/v1", api_key="x") as client:
        first = client.completions.create(
            model="coder",
            prompt=GAP["input_prefix"],
            suffix=GAP["input_suffix"],
            max_tokens=8,
            temperature=0,
            extra_body={"return_token_ids": True},
        )
    with ollama.Client(coder.url) as local:
        second = local.generate(
            "coder",
            GAP["input_prefix"],
            suffix=GAP["input_suffix"],
            options={"temperature": 0, "num_predict": 8},
        )
        assert "insert" in (local.show("coder").capabilities or [])
    assert first.choices[0].text == second.response
    assert first.choices[0].prompt_token_ids == second.context[: second.prompt_eval_count]
    said = coder.post("/detokenize", {"tokens": first.choices[0].prompt_token_ids}).json()
    # llama.cpp puts names of project and file before it.
    assert infill["prompt"].endswith(said["content"])


def test_a_model_that_cannot(caboose: Server) -> None:
    llama = caboose.post("/infill", GAP)
    assert llama.status_code == 501
    with (
        openai.OpenAI(base_url=f"{caboose.url}/v1", api_key="x") as client,
        pytest.raises(openai.BadRequestError, match="suffix"),
    ):
        client.completions.create(model="caboose", prompt="a", suffix="b")
    with (
        ollama.Client(caboose.url) as other,
        pytest.raises(ollama.ResponseError, match="does not support insert"),
    ):
        other.generate("caboose", "a", suffix="b")
