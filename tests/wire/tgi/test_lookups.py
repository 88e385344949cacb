from __future__ import annotations

import json

import pytest

from trunkline.core.errors import InvalidRequest
from trunkline.core.types import ChatInput, ModelCard, Request, TextInput, Tokenization
from trunkline.wire.codec import Incoming
from trunkline.wire.tgi.info import render_info
from trunkline.wire.tgi.lookups import (
    CHAT_TOKENIZE,
    TOKENIZE,
    ChatTokenizeLookup,
    TokenizeLookup,
)


def test_tokens_have_their_places_in_bytes() -> None:
    body = b'{"inputs": "na\xc3\xafve way", "parameters": {"max_new_tokens": 1}}'
    lookup = TOKENIZE.decode(Incoming(body))
    assert isinstance(lookup, TokenizeLookup)
    question = lookup.question("r", "m", "t")
    assert isinstance(question, Request)
    assert question.input == TextInput("naïve way")
    pieces = (b"<s>", b" na", b"\xc3\xafve", b" way")
    answer = Tokenization("naïve way", (1, 2, 3, 4), pieces)
    assert json.loads(lookup.render(answer)) == [
        # Not in the text, as in TGI.
        {"id": 1, "text": "", "start": 0, "stop": 0},
        # SentencePiece writes a space before the first word.
        {"id": 2, "text": "na", "start": 0, "stop": 2},
        {"id": 3, "text": "ïve", "start": 2, "stop": 6},
        {"id": 4, "text": " way", "start": 6, "stop": 10},
    ]


def test_characters_cut_by_tokens() -> None:
    lookup = TOKENIZE.decode(Incoming(b'{"inputs": "x"}'))
    assert isinstance(lookup, TokenizeLookup)
    train = "🚂".encode()
    answer = Tokenization("🚂", (1, 2), (train[:1], train[1:]))
    assert [(t["start"], t["stop"]) for t in json.loads(lookup.render(answer))] == [(0, 1), (1, 4)]


def test_conversations() -> None:
    body = b'{"model": "tgi", "messages": [{"role": "user", "content": "Hi"}]}'
    lookup = CHAT_TOKENIZE.decode(Incoming(body))
    assert isinstance(lookup, ChatTokenizeLookup)
    assert lookup.model == "tgi"
    question = lookup.question("r", "m", "t")
    assert isinstance(question, Request)
    assert isinstance(question.input, ChatInput)
    rendered = lookup.render(Tokenization("<u>Hi", (5, 6), (b"<u>", b"Hi")))
    assert json.loads(rendered) == {
        "tokenize_response": [
            {"id": 5, "text": "<u>", "start": 0, "stop": 3},
            {"id": 6, "text": "Hi", "start": 3, "stop": 5},
        ],
        "templated_text": "<u>Hi",
    }


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidRequest, match="inputs") as caught:
        TOKENIZE.decode(Incoming(b"{}"))
    assert TOKENIZE.status(caught.value) == 422


def test_info() -> None:
    # Field names: `Info` in docs/openapi.json (TGI db931fc, 2026-01-08).
    card = ModelCard("caboose", 4096, max_rows=16)
    told = json.loads(render_info(card, version="1.2", max_concurrent_requests=128))
    assert told == {
        "model_id": "caboose",
        "model_sha": None,
        "model_pipeline_tag": "text-generation",
        "max_concurrent_requests": 128,
        "max_best_of": 16,
        "max_stop_sequences": 16,
        "max_input_tokens": 4095,
        "max_total_tokens": 4096,
        "validation_workers": 1,
        "max_client_batch_size": 1,
        "router": "trunkline",
        "version": "1.2",
        "sha": None,
        "docker_label": None,
    }
