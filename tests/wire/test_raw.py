"""Bodies taken apart at their top level."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw

from trunkline.wire.codec import Incoming
from trunkline.wire.raw import lacking, naming, peek, with_fields


def body(**fields: Any) -> Incoming:
    return Incoming(json.dumps(fields).encode())


def test_model_stream_and_fields() -> None:
    found = peek(body(model="m", stream=True, messages=[{"role": "user", "content": "x"}]))
    assert found is not None
    assert (found.model, found.stream, found.affinity) == ("m", True, "")
    assert json.loads(bytes(found.fields["messages"])) == [{"role": "user", "content": "x"}]


def test_what_a_dialect_does_unasked() -> None:
    for said, default, stream in (
        ({}, True, True),
        ({"stream": False}, True, False),
        ({}, False, False),
    ):
        found = peek(body(**said), streams=default)
        assert found is not None
        assert found.stream is stream


def test_model_in_the_path() -> None:
    found = peek(Incoming(b'{"text_input":"x"}', {"model": "in-path"}))
    assert found is not None
    assert found.model == "in-path"


@pytest.mark.parametrize(
    ("data", "named"),
    [
        (b'{"a": 1.50, "model": "m"}', b'{"a": 1.50, "model": "m"}'),
        (b'{"model": "x", "a": 1.50}', b'{"model":"m","a":1.50}'),
        (b'{"model": null}', b'{"model":"m"}'),
        (b"{}", b'{"model":"m"}'),
        (b"[1]", b"[1]"),
        (b"{", b"{"),
    ],
)
def test_model_that_is_put_in(data: bytes, named: bytes) -> None:
    assert naming(data, "m") == named


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[1]",
        b"null",
        b'{"model":',
        b'{"model":1}',
        b'{"stream":"yes"}',
        b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"prompt":["a","b"]}',
        b'{"prompt": [ [1], [2] ]}',
        b'{"prompt":[]x}',
        b"{" + b",".join(b'"":1' for _ in range(1_000_001)) + b"}",
    ],
    ids=lambda data: data[:20].decode(),
)
def test_left_to_the_full_decoder(data: bytes) -> None:
    assert peek(Incoming(data)) is None


@pytest.mark.parametrize("prompt", ['"a"', "[1,2]", '["a"]', "[[1,2]]", "[]"])
def test_one_prompt(prompt: str) -> None:
    assert peek(Incoming(b'{"prompt":%b}' % prompt.encode())) is not None


def test_affinity_by_header_then_key_then_user() -> None:
    both = Incoming(
        b'{"user":"u","prompt_cache_key":"k","metadata":{"user_id":"a"}}',
        {},
        {b"x-session-id": b"s"},
    )
    for came, expected in (
        (both, "s"),
        (body(user="u", prompt_cache_key="k"), "k"),
        (body(user="u", metadata={"user_id": "a"}), "u"),
        (body(metadata={"user_id": "a", "session_id": "b"}), "b"),
        (body(metadata={"user_id": "a"}), "a"),
        (body(user=7, metadata=[1]), ""),
        (body(user="x" * 9000), "x" * 512),
    ):
        found = peek(came)
        assert found is not None
        assert found.affinity == expected


def test_fields_that_stay_are_the_same_bytes() -> None:
    came = b'{"a": [1,  2.50], "model":"m","\\u0062":{"x":1e5},"c":"\\u00e9"}'
    found = peek(Incoming(came))
    assert found is not None
    changed = with_fields(found.fields, {"model": "n", "stream_options": {"include_usage": True}})
    assert changed == (
        b'{"a":[1,  2.50],"model":"n","b":{"x":1e5},"c":"\\u00e9",'
        b'"stream_options":{"include_usage":true}}'
    )
    assert with_fields(found.fields, {"a": UNSET, "b": UNSET, "c": Raw(b"1")}) == (
        b'{"model":"m","c":1}'
    )


VALUES = st.none() | st.booleans() | st.text() | st.integers() | st.lists(st.text(), max_size=3)


@given(st.dictionaries(st.text(), VALUES, max_size=6))
def test_any_object_survives(fields: dict[str, Any]) -> None:
    fields = {k: v for k, v in fields.items() if k not in ("model", "stream", "prompt")}
    found = peek(Incoming(json.dumps(fields).encode()))
    assert found is not None
    assert json.loads(with_fields(found.fields, {"model": "n"})) == {**fields, "model": "n"}


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b"{}", {"options": {"a": 1, "b": 2}, "max_tokens": 5, "thinking": {"type": "x", "n": 1}}),
        (b'{"options": {"b": 3, "c": [1]}}', {"options": {"a": 1, "b": 3, "c": [1]}}),
        # Left for the server to refuse.
        (b'{"options": 3}', {"options": 3}),
        (b'{"options": null}', {"options": None}),
        # Other objects mean what they say as a whole.
        (b'{"thinking": {"type": "y"}}', {"thinking": {"type": "y"}}),
        (b'{"max_completion_tokens": 7}', {"max_completion_tokens": 7}),
    ],
)
def test_what_is_lacking(sent: bytes, expected: dict[str, Any]) -> None:
    defaults = {"options": {"a": 1, "b": 2}, "max_tokens": 5, "thinking": {"type": "x", "n": 1}}
    for kind in (dict[str, Raw], dict[str, Any]):
        fields: dict[str, Any] = msgspec.json.decode(sent, type=kind)
        merged = msgspec.json.decode(msgspec.json.encode({**fields, **lacking(fields, defaults)}))
        assert merged == merged | expected
        assert merged.keys() == {*defaults, *expected} - (
            {"max_tokens"} if "max_completion_tokens" in expected else set()
        )
    assert lacking({}, {}) == {}
