from __future__ import annotations

from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.core import speedups
from trunkline.server.form import PureForm

LINES = b"id: %b\r\nother-id: %b\r\nshare: 5 %%\r\ntook;dur=%.1f\r\nend: %%b\r\n"
kinds = pytest.mark.parametrize("kind", twins(PureForm))
native: Any = speedups.native


@kinds
def test_a_response(kind: type[PureForm]) -> None:
    top = b"HTTP/1.1 200 OK\r\ndate: now\r\n"
    assert kind(LINES).fill(top, "a1", 12.34, b"{}\r\n") == (
        b"HTTP/1.1 200 OK\r\ndate: now\r\nid: a1\r\nother-id: a1\r\nshare: 5 %\r\n"
        b"took;dur=12.3\r\nend: %b\r\ncontent-length: 4\r\n\r\n{}\r\n"
    )


@kinds
@pytest.mark.parametrize(
    "lines",
    [b"", b"%b %b", b"%b %.1f %b", b"%b %b %.1f %b", b"%b %b %.2f", b"%b %b %d", b"%b%b%.1f%"],
)
def test_what_is_no_form(kind: type[PureForm], lines: bytes) -> None:
    with pytest.raises(ValueError, match="in this order"):
        kind(lines)


@pytest.mark.skipif(native is None, reason="the speedups are not built")
@given(
    st.text(st.characters(codec="ascii"), max_size=40),
    st.one_of(st.floats(), st.integers(0, 100_000).map(lambda n: n / 20), st.integers()),
    st.binary(max_size=300),
)
@example("x", 0.25, b"")
@example("x", 0.35, b"")
@example("x", 999_999_999_999.95, b"")
@example("x", -0.0, b"")
@example("x", float("nan"), b"")
def test_both_fill_in_the_same(name: str, took: float, body: bytes) -> None:
    if isinstance(took, int) and abs(took) > 1 << 1000:
        took = 0.0
    filled = [kind.values[0](LINES).fill(b"top\r\n", name, took, body) for kind in twins(PureForm)]
    assert filled[0] == filled[1]


@pytest.mark.skipif(native is None, reason="the speedups are not built")
def test_it_is_filled_with_what_fits() -> None:
    form = native.Form(LINES)
    for wrong in (("", "x", 1.0, b""), (b"", b"x", 1.0, b""), (b"", "x", "1", b""), (b"",)):
        with pytest.raises(TypeError):
            form.fill(*wrong)
    with pytest.raises(TypeError):
        native.Form("%b %b %.1f")
