from __future__ import annotations

import pytest

from trunkline.server.http.address import Address, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Address("", "127.0.0.1", 80)),
        ("localhost:0", Address("", "localhost", 0)),
        (":8000", Address("", "", 8000)),
        ("[::1]:80", Address("", "::1", 80)),
        ("unix:/run/t.sock", Address("/run/t.sock", "", 0)),
        ("unix:///run/t.sock", Address("/run/t.sock", "", 0)),
    ],
)
def test_addresses(text: str, address: Address) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["", "8000", "host", "::1:80", "h:x", "h:70000", "unix:", "h:-1"])
def test_other_addresses_are_refused_with_what_is_right(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_address(text)
