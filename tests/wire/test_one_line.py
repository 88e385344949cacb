"""What is escaped, and that nothing else is."""

from __future__ import annotations

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from trunkline.wire.one_line import Encoder


@given(st.recursive(st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_one_line_that_says_the_same(value: object) -> None:
    data = Encoder().encode(value)
    assert msgspec.json.decode(data) == value
    assert len(data.decode().splitlines()) == 1


def test_other_characters_stay_as_they_are() -> None:
    assert Encoder().encode("“é—\x84漢") == '"“é—\x84漢"'.encode()
    assert Encoder().encode("\x85\u2028\u2029") == b'"\\u0085\\u2028\\u2029"'
