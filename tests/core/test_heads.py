from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trunkline.core.heads import Heads

HEAD = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\nX-Key: k\r\n\r\n"
BODY = b"{}" * 20


def message(body: bytes, digits: bytes | None = None) -> bytes:
    return HEAD % (b"%d" % len(body) if digits is None else digits) + body


def learned(*, found: bool = False) -> Heads[str]:
    """Which know one head; `found`: and have found it last."""
    heads: Heads[str] = Heads()
    heads.learn(message(BODY), BODY, "it")
    if found:
        assert heads.find(message(BODY)) is not None
    return heads


@pytest.fixture(params=[False, True], ids=["learned", "found"])
def heads(request: pytest.FixtureRequest) -> Heads[str]:
    return learned(found=request.param)


def test_a_head_is_known_whatever_the_length(heads: Heads[str]) -> None:
    for body in (BODY, b"", b"x" * 12345, b"\r\n\r\nength: 3\r\n\r\n"):
        assert heads.find(message(body)) == ("it", b"%d" % len(body), body)


def test_only_exactly_one_message_is_known(heads: Heads[str]) -> None:
    whole = message(BODY)
    for data in (whole[:-1], whole + b"x", whole + whole, whole[: whole.index(b"{")], b"", b"\r\n"):
        assert heads.find(data) is None


def test_a_head_without_its_end_is_not_known(heads: Heads[str]) -> None:
    # With one byte in place of the empty line the rest of the head is the same.
    head = (HEAD % b"?").removesuffix(b"\r\n\r\n") + b"\r"
    for digits in range(200):
        assert heads.find(head.replace(b"?", b"%d" % digits)) is None


def test_every_other_byte_counts(heads: Heads[str]) -> None:
    whole = message(BODY)
    first = whole.index(b"40")
    for at in range(whole.index(b"{")):
        if at not in (first, first + 1):
            changed = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
            assert heads.find(changed) is None, at


def test_what_is_no_length_is_not_known(heads: Heads[str]) -> None:
    for digits in (b"", b" 40", b"40 ", b"+40", b"4_0", b"0x28", b"40, 40", b"40\n", b"\xb2\xb3"):
        assert heads.find(message(BODY, digits)) is None


def test_only_the_length_itself_is_learned() -> None:
    for line in (b"X-Length: 40", b"Content-Length : 40", b"Content-Length:40"):
        heads: Heads[str] = Heads()
        data = b"POST / HTTP/1.1\r\n%b\r\nContent-Length: 40\r\n\r\n%b" % (line, BODY)
        heads.learn(data, BODY, "it")
        found = heads.find(data)
        assert found is None or found[1:] == (b"40", BODY)
    # The other field comes first: its digits are not what may differ.
    heads = Heads()
    heads.learn(b"POST / HTTP/1.1\r\nX-Length: 7\r\nContent-Length: 40\r\n\r\n" + BODY, BODY, "it")
    other = b"POST / HTTP/1.1\r\nX-Length: 39\r\nContent-Length: 40\r\n\r\n" + BODY[:39]
    assert heads.find(other) is None


def test_heads_that_take_turns() -> None:
    """Some are alike but for what follows the length."""
    heads: Heads[int] = Heads()
    lines = (b"", b"X-Key: k\r\n", b"X-Key: kk\r\n", b"X-Key: k\r\nX: y\r\n")
    kinds = [b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" + line + b"\r\n" for line in lines]
    for number, kind in enumerate(kinds):
        heads.learn(kind % len(BODY) + BODY, BODY, number)
    for _ in range(2):
        for number, kind in enumerate(kinds):
            for body in (BODY, b"x"):
                assert heads.find(kind % len(body) + body) == (number, b"%d" % len(body), body)


@given(st.booleans(), st.binary(max_size=80), st.integers(0, 130), st.integers(0, 130))
def test_noise_is_never_more_than_one_message(
    found: bool, noise: bytes, begin: int, end: int
) -> None:
    whole = message(BODY)
    data = whole[: min(begin, end)] + noise + whole[max(begin, end) :]
    known = learned(found=found).find(data)
    if known is not None:
        head, _, body = data.partition(b"\r\n\r\n")
        assert known == ("it", b"%d" % len(body), body)
        assert head + b"\r\n\r\n" == HEAD % known[1] or known[1] in head
