"""Keys: where they come from, and that they stay hidden."""

from __future__ import annotations

import pickle

import pytest

from trunkline.backends.auth.schemes import FixedAuth, Scheme
from trunkline.backends.auth.secrets import Secret, find_key, resolve


def test_secrets_hide() -> None:
    secret = Secret("hunter2")
    assert "hunter2" not in f"{secret} {secret!r} {[secret]} {secret!s}"
    assert secret.reveal() == "hunter2"
    assert secret.redact("no hunter2 here") == "no *** here"
    with pytest.raises(TypeError):
        pickle.dumps(secret)


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        # Stand-ins for keys, as local servers have them, are words of every text.
        ("e", "the key e was rejected, keyed or not"),
        ("key", "the *** e was rejected, keyed or not"),
        ("rejected", "the key e was ***, keyed or not"),
    ],
)
def test_short_keys_leave_words_whole(key: str, shown: str) -> None:
    assert Secret(key).redact("the key e was rejected, keyed or not") == shown


def test_references() -> None:
    environ = {"A": "1"}
    assert resolve("env:A", environ) == "1"
    assert resolve("os.environ/A", environ) == "1"
    assert resolve("A", environ) == "A"
    with pytest.raises(ValueError, match="B is not set"):
        resolve("os.environ/B", environ)


def test_the_key_given_wins_over_variables() -> None:
    environ = {"FIRST": "", "SECOND": "two", "THIRD": "three\n"}
    assert find_key("", (), environ) is None
    found = [
        find_key("given", ("SECOND",), environ),
        find_key("", ("FIRST", "SECOND"), environ),
        find_key("", ("THIRD",), environ),
    ]
    assert [key.reveal() if key else None for key in found] == ["given", "two", "three"]


def test_keys_that_would_break_a_header_are_refused() -> None:
    with pytest.raises(ValueError) as info:
        find_key("good\r\nx: evil", (), {})
    assert "evil" not in str(info.value)


@pytest.mark.parametrize(
    ("scheme", "fields", "query"),
    [
        ("bearer", (("authorization", "Bearer k&1"),), ""),
        ("x-api-key", (("x-api-key", "k&1"),), ""),
        ("api-key", (("api-key", "k&1"),), ""),
        ("x-goog-api-key", (("x-goog-api-key", "k&1"),), ""),
        ("query", (), "key=k%261"),
        ("none", (), ""),
    ],
)
def test_schemes(scheme: Scheme, fields: tuple[tuple[str, str], ...], query: str) -> None:
    auth = FixedAuth(scheme, Secret("k&1"))
    assert (auth.fields(), auth.query()) == (fields, query)
    assert auth.ready
    assert auth.sign("GET", "h", "/", (), b"") == ()
    assert auth.redact("<k&1>") == "<***>"
    assert FixedAuth(scheme, None).fields() == ()
