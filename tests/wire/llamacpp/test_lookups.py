from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.llamacpp.support import golden
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import (
    ChatInput,
    Message,
    MixedInput,
    Request,
    TextInput,
    Tokenization,
    TokensInput,
)
from trunkline.wire.codec import Codec, Incoming, Lookup
from trunkline.wire.llamacpp.lookups import APPLY_TEMPLATE, DETOKENIZE, TOKENIZE


def lookup(codec: Codec, **fields: Any) -> Any:
    assert codec.looks_up
    return codec.decode(Incoming(json.dumps(fields).encode()))


def question(asked: Lookup) -> Any:
    found = asked.question("id", "m", "")
    return found.input if isinstance(found, Request) else found


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"content": "a"}, TextInput("a", False, True)),
        ({"content": "a", "add_special": True}, TextInput("a", True, True)),
        ({"content": "a", "parse_special": False}, TextInput("a", False, False)),
        ({"content": ["a", 5]}, MixedInput(("a", (5,)), False, True)),
        ({"content": [5, 6]}, TokensInput((5, 6))),
        ({}, TextInput("", False, True)),
    ],
)
def test_what_is_tokenized(fields: dict[str, Any], expected: Any) -> None:
    assert question(lookup(TOKENIZE, **fields)) == expected


def test_tokens() -> None:
    answer = Tokenization("ab", (5, 6), (b"a", b"b"))
    assert lookup(TOKENIZE, content="ab").render(answer) == b'{"tokens":[5,6]}'


def test_pieces() -> None:
    asked = lookup(TOKENIZE, content="Hello é", with_pieces=True)
    answer = Tokenization("Hello é", (634, 220, 2328), (b"Hello", b" ", "é".encode()))
    assert json.loads(asked.render(answer)) == golden("tokenize.json")
    halves = Tokenization("é", (1, 2), ("é".encode()[:1], "é".encode()[1:]))
    assert [one["piece"] for one in json.loads(asked.render(halves))["tokens"]] == [[195], [169]]


def test_detokenize() -> None:
    asked = lookup(DETOKENIZE, tokens=[634, 0])
    assert question(asked) == (634, 0)
    assert json.loads(asked.render(Tokenization("Hello!", (634, 0)))) == golden("detokenize.json")
    assert question(lookup(DETOKENIZE)) == ()


def test_template() -> None:
    asked = lookup(APPLY_TEMPLATE, messages=[{"role": "user", "content": "hi"}])
    assert question(asked) == ChatInput((Message("user", "hi"),))
    theirs = golden("apply_template.json")
    assert json.loads(asked.render(Tokenization(theirs["prompt"], (1,)))) == theirs


@pytest.mark.parametrize(
    ("codec", "fields"),
    [
        (TOKENIZE, {"content": {}}),
        (TOKENIZE, {"content": [None]}),
        (DETOKENIZE, {"tokens": ["a"]}),
        (DETOKENIZE, {"tokens": [-1]}),
        (APPLY_TEMPLATE, {}),
    ],
)
def test_what_is_refused(codec: Codec, fields: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        lookup(codec, **fields)
