from __future__ import annotations

import pytest

from trunkline.core.errors import Unauthenticated
from trunkline.gateway.keys import Keys


def test_without_keys_nobody_is_asked() -> None:
    assert Keys(()).tenant(None, None) == ""
    assert Keys(()).tenant(b"Bearer whatever", None) == ""


def test_each_key_has_its_own_stable_name() -> None:
    keys = Keys(("one", "two"))
    one = keys.tenant(b"Bearer one", None)
    assert one == Keys(("one",)).tenant(b"bearer   one ", None) == keys.tenant(None, b"one")
    assert one != keys.tenant(b"Bearer two", None)
    assert one
    assert "one" not in one


@pytest.mark.parametrize(
    ("authorization", "x_api_key"),
    [
        (None, None),
        (b"", b""),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearer on", None),
        (b"Bearer one1", None),
        (b"Basic one", None),
        (b"one", None),
        (None, b"nope"),
        (b"Bearer \xff\x00", None),
    ],
)
def test_others_are_refused(authorization: bytes | None, x_api_key: bytes | None) -> None:
    with pytest.raises(Unauthenticated) as caught:
        Keys(("one", "two")).tenant(authorization, x_api_key)
    assert "one" not in caught.value.message


def test_empty_keys_open_nothing() -> None:
    with pytest.raises(Unauthenticated):
        Keys(("", "one")).tenant(b"Bearer ", b"")
    assert Keys(("",)).tenant(None, None) == ""
