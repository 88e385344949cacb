"""References to environment variables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.server.file.document import Scalar
from trunkline.server.file.problems import Place
from trunkline.server.file.variables import MissingVariable, Variables, escape

PLACE = Place("f", 1, 1, "a")
ENVIRON = {"KEY": "sk-1", "HOST": "box", "EMPTY": ""}


def resolve(text: str, litellm: bool = False) -> str:
    return Variables(ENVIRON, litellm).resolve(Scalar(PLACE, text)).text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("env:KEY", "sk-1"),
        ("os.environ/KEY", "sk-1"),
        ("${KEY}", "sk-1"),
        ("http://${HOST}:${PORT:-8000}/v1", "http://box:8000/v1"),
        ("${HOST:-other}", "box"),
        ("${EMPTY:-filled}", "filled"),
        ("${NOTHING:-}", ""),
        ("$${KEY}", "${KEY}"),
        ("$KEY costs $5", "$KEY costs $5"),
        ("see env:KEY", "see env:KEY"),
        ("model:latest", "model:latest"),
    ],
)
def test_references(text: str, value: str) -> None:
    assert resolve(text) == value


@pytest.mark.parametrize("text", ["env:GONE", "os.environ/GONE", "a${GONE}b", "env:EMPTY"])
def test_a_missing_variable_is_named(text: str) -> None:
    with pytest.raises(MissingVariable, match=r"environment variable (GONE|EMPTY) is not set"):
        resolve(text)


def test_litellm_knows_one_kind_of_reference() -> None:
    assert resolve("os.environ/KEY", litellm=True) == "sk-1"
    assert resolve("${KEY} env:KEY", litellm=True) == "${KEY} env:KEY"
    assert resolve("env:KEY", litellm=True) == "env:KEY"


def test_a_value_is_never_shown() -> None:
    scalar = Variables(ENVIRON).resolve(Scalar(PLACE, "env:KEY"))
    assert scalar.shown() == "the value of KEY"
    assert not scalar.is_null


@given(st.text("a${}:-", max_size=12))
def test_an_escaped_text_means_itself(text: str) -> None:
    assert resolve(escape(text)) == text
