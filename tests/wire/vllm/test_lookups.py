from __future__ import annotations

import json
from typing import Any

import pytest

from trunkline.core.errors import InvalidRequest, ModelNotFound, Unsupported
from trunkline.core.types import BackendStats, ChatInput, Request, TextInput, Tokenization
from trunkline.wire.codec import Incoming
from trunkline.wire.vllm.lookups import (
    DETOKENIZE,
    TOKENIZE,
    DetokenizeLookup,
    TokenizeLookup,
)
from trunkline.wire.vllm.server_info import render_load, render_version

ANSWER = Tokenization("Hi", (1, 72, 105), (b"<s>", b"H", b"\xc3"), 4096)


def lookup(**body: Any) -> TokenizeLookup:
    decoded = TOKENIZE.decode(Incoming(json.dumps(body).encode()))
    assert isinstance(decoded, TokenizeLookup)
    return decoded


def asked(**body: Any) -> Request:
    question = lookup(**body).question("r", "m", "t")
    assert isinstance(question, Request)
    return question


def test_prompts() -> None:
    assert asked(prompt="Hi").input == TextInput("Hi")
    bare = asked(model="m", prompt="Hi", add_special_tokens=False)
    assert bare.input == TextInput("Hi", add_special_tokens=False)


def test_the_answer() -> None:
    # TokenizeResponse in vllm/entrypoints/serve/tokenize/protocol.py (030ea52, 2026).
    told = {"count": 3, "max_model_len": 4096, "tokens": [1, 72, 105], "token_strs": None}
    assert json.loads(lookup(prompt="Hi").render(ANSWER)) == told
    told["token_strs"] = ["<s>", "H", "\ufffd"]
    assert json.loads(lookup(prompt="Hi", return_token_strs=True).render(ANSWER)) == told


def test_conversations() -> None:
    messages = [{"role": "user", "content": "Hi"}]
    question = asked(messages=messages, add_generation_prompt=False)
    assert isinstance(question.input, ChatInput)
    assert not question.input.add_generation_prompt
    assert asked(messages=messages, add_special_tokens=False).input is not None
    with pytest.raises(Unsupported, match="add_special_tokens"):
        asked(messages=messages, add_special_tokens=True)


def test_what_is_wrong_is_told_with_the_status_as_code() -> None:
    with pytest.raises(InvalidRequest) as caught:
        lookup()
    error = json.loads(TOKENIZE.error(caught.value))["error"]
    assert (error["type"], error["code"]) == ("BadRequestError", 400)
    assert "messages" in error["message"]
    missing = json.loads(TOKENIZE.error(ModelNotFound("no")))["error"]
    assert (missing["type"], missing["code"]) == ("NotFoundError", 404)


def test_detokenize_answers_all_who_ask() -> None:
    decoded = DETOKENIZE.decode(Incoming(b'{"model": "m", "tokens": [72, 105]}'))
    assert isinstance(decoded, DetokenizeLookup)
    assert (decoded.model, decoded.question("r", "m", "t")) == ("m", (72, 105))
    told = json.loads(decoded.render(ANSWER))
    assert told == {"prompt": "Hi", "content": "Hi", "text": "Hi"}
    with pytest.raises(InvalidRequest, match="tokens"):
        DETOKENIZE.decode(Incoming(b'{"tokens": [-1]}'))


def test_load_and_version() -> None:
    assert json.loads(render_load(BackendStats(running=3, waiting=2))) == {"server_load": 5}
    assert json.loads(render_version("1.2")) == {"version": "1.2"}
