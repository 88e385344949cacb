from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.core.pieces import PureEvents, pure_unchunked
from trunkline.core.speedups import native

takes = pytest.mark.parametrize(
    "unchunked",
    [
        pytest.param(pure_unchunked, id="python"),
        *([] if native is None else [pytest.param(native.unchunked, id="native")]),
    ],
)


def chunk(body: bytes, form: str = "%x") -> bytes:
    return (form % len(body)).encode() + b"\r\n" + body + b"\r\n"


@takes
def test_what_is_in_whole_chunks(unchunked: Any) -> None:
    for bodies in ([b"x"], [b"a" * 16, b"\r\n"], [b"0\r\n\r\n"] * 3, [b"y" * 70_000]):
        for form in ("%x", "%X", "%04x", "%015x"):
            assert unchunked(b"".join(chunk(body, form) for body in bodies)) == b"".join(bodies)


@takes
@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\r\n", b"1", b"1\r\n", b"1\r\nx", b"1\r\nx\r", b"1\r\nx\n", b"1\nx\n"),
        *(b"1\r\nx\r\n1", b"1\r\nx\r\n1\r\n", b"1\r\nx\r\n\r\n", b"2\r\nx\r\n", b"1\r\nxy\r\n"),
        *(b"0\r\n\r\n", b"1\r\nx\r\n0\r\n\r\n", b"000\r\n\r\n", b"1;a=b\r\nx\r\n", b"1 \r\nx\r\n"),
        *(b" 1\r\nx\r\n", b"+1\r\nx\r\n", b"-1\r\nx\r\n", b"0x1\r\nx\r\n", b"1_0\r\n" + b"x" * 16),
        *(b"g\r\nx\r\n", b"\xff\r\nx\r\n", b"1" * 8 + b"\r\nx\r\n", b"f" * 17 + b"\r\nx\r\n"),
        *(b"0" * 15 + b"1\r\nx\r\n", b"1\rx\r\n", b"ffffffffffffffff\r\nx\r\n"),
    ],
)
def test_everything_else_is_left_alone(unchunked: Any, data: bytes) -> None:
    assert unchunked(data) is None


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=40).map(chunk),
            st.sampled_from([b"0\r\n\r\n", b"\r\n", b"1", b";", b"x", b"\n", b"a\r\n"]),
        ),
        max_size=6,
    ).map(b"".join)
)
def test_both_take_the_same_chunks(data: bytes) -> None:
    if native is not None:
        assert native.unchunked(data) == pure_unchunked(data)


@pytest.mark.parametrize("kind", twins(PureEvents))
def test_events_are_counted(kind: Any) -> None:
    events = kind(b"\n\n", b'"delta"', (b'"error"', b'"usage"'))
    one = b'data: {"delta":1}\n\n'
    assert events.count(one) == 1
    assert events.count(one * 3) == 3
    assert events.count(b": comment\n\n") == 0
    for data in (
        b"",
        b"\n",
        one[:-1],
        one + b"d",
        b'data: {"usage":null}\n\n' + one,
        b'"error"\n\n',
    ):
        assert events.count(data) == -1
    # What overlaps is there once.
    assert kind(b"\n\n", b"\n\n", ()).count(b"\n\n\n") == 1


@pytest.mark.parametrize("kind", twins(PureEvents))
def test_an_empty_mark_is_refused(kind: Any) -> None:
    for gap, token, marks in ((b"", b"t", ()), (b"g", b"", ()), (b"g", b"t", (b"m", b""))):
        with pytest.raises(ValueError, match="empty"):
            kind(gap, token, marks)


@given(
    st.lists(st.sampled_from([b"a", b"ab", b"\n", b"\n\n", b"x", b"b"]), max_size=20).map(b"".join)
)
def test_both_count_the_same(data: bytes) -> None:
    if native is not None:
        pure = PureEvents(b"\n\n", b"ab", (b"xx", b"bb"))
        assert native.Events(b"\n\n", b"ab", (b"xx", b"bb")).count(data) == pure.count(data)
