from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.errors import InvalidRequest
from trunkline.text.byte_tokenizer import ByteTokenizer


@given(st.text())
def test_round_trip(text: str) -> None:
    tokenizer = ByteTokenizer()
    for parse in (True, False):
        ids = tokenizer.encode(text, add_special=True, parse_special=parse)
        assert tokenizer.decode(ids) == text


def test_specials_only_where_asked() -> None:
    tokenizer = ByteTokenizer()
    text = "<|im_start|><|im_end|><|endoftext|>"
    assert tokenizer.encode(text, add_special=False, parse_special=True) == [256, 257, 258]
    assert tokenizer.encode(text, add_special=False, parse_special=False) == list(text.encode())
    assert tokenizer.eog == {257, 258}


@pytest.mark.parametrize("token", [-1, 259])
def test_outside_the_vocabulary(token: int) -> None:
    with pytest.raises(IndexError):
        ByteTokenizer().piece(token)


def test_lone_surrogate() -> None:
    with pytest.raises(InvalidRequest, match="surrogate"):
        ByteTokenizer().encode("a\ud800", add_special=False, parse_special=True)
