from __future__ import annotations

import itertools
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.twins import twins
from trunkline.core.heads import Gathered, Heads, PureHeads, head_of

HEAD = b"POST /v1 HTTP/1.1\r\nHost: a\r\nContent-Length: %s\r\nX-Key: k\r\n\r\n"
BODY = b"{}" * 20


def message(body: bytes, digits: bytes | None = None) -> bytes:
    return HEAD % (b"%d" % len(body) if digits is None else digits) + body


def learned(kind: type[Heads[str]], *, found: bool = False) -> Heads[str]:
    """Which know one head; `found`: and have found it last."""
    heads = kind()
    heads.learn(message(BODY), BODY, "it")
    if found:
        assert heads.find(message(BODY)) is not None
    return heads


@pytest.fixture(params=twins(PureHeads))
def kind(request: pytest.FixtureRequest) -> type[Heads[str]]:
    found: type[Heads[str]] = request.param
    return found


@pytest.fixture(params=[False, True], ids=["learned", "found"])
def heads(request: pytest.FixtureRequest, kind: type[Heads[str]]) -> Heads[str]:
    return learned(kind, found=request.param)


def test_a_head_is_known_whatever_the_length(heads: Heads[str]) -> None:
    for body in (BODY, b"", b"x" * 12345, b"\r\n\r\nength: 3\r\n\r\n"):
        assert heads.find(message(body)) == ("it", body, 0)


def test_only_one_message_is_known(heads: Heads[str]) -> None:
    whole = message(BODY)
    for data in (whole + b"x", whole + whole, whole[: whole.index(b"{") - 1], b"", b"\r\n"):
        assert heads.find(data) is None


def test_the_rest_of_a_body_may_follow(heads: Heads[str]) -> None:
    for come in range(len(BODY) + 1):
        found = heads.find(message(BODY[:come], b"40"))
        assert found == ("it", BODY[:come], len(BODY) - come)


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


def test_only_the_length_itself_is_learned(kind: type[Heads[str]]) -> None:
    for line in (b"X-Length: 40", b"Content-Length : 40", b"Content-Length:40"):
        heads = kind()
        data = b"POST / HTTP/1.1\r\n%b\r\nContent-Length: 40\r\n\r\n%b" % (line, BODY)
        heads.learn(data, BODY, "it")
        found = heads.find(data)
        assert found is None or found[1:] == (BODY, 0)
    # The other field comes first: its digits are not what may differ.
    heads = kind()
    heads.learn(b"POST / HTTP/1.1\r\nX-Length: 7\r\nContent-Length: 40\r\n\r\n" + BODY, BODY, "it")
    other = b"POST / HTTP/1.1\r\nX-Length: 39\r\nContent-Length: 40\r\n\r\n" + BODY[:39]
    assert heads.find(other) is None


def test_heads_that_take_turns(kind: type[Heads[int]]) -> None:
    """Some are alike but for what follows the length."""
    heads = kind()
    lines = (b"", b"X-Key: k\r\n", b"X-Key: kk\r\n", b"X-Key: k\r\nX: y\r\n")
    forms = [b"POST / HTTP/1.1\r\nContent-Length: %d\r\n" + line + b"\r\n" for line in lines]
    for number, form in enumerate(forms):
        heads.learn(form % len(BODY) + BODY, BODY, number)
    for _ in range(2):
        for number, form in enumerate(forms):
            for body in (BODY, b"x"):
                found = heads.find(form % len(body) + body)
                assert found == (number, body, 0)


def test_a_head_is_learned_without_its_body(kind: type[Heads[str]]) -> None:
    heads = kind()
    head = head_of(message(BODY))
    assert head == HEAD % b"40"
    for wrong in (b"", head[:-1], head_of(b"\r\n\r\n" + head), head.replace(b"40", b"4x")):
        heads.learn_head(wrong, 40, "wrong")
    heads.learn_head(head, 39, "wrong")
    assert heads.find(message(BODY)) is None
    heads.learn_head(head, 40, "it")
    assert heads.find(message(b"x")) == ("it", b"x", 0)


def test_a_head_that_is_long_is_none() -> None:
    assert head_of(b"x" * 4096 + b"\r\n\r\n") == b"x" * 4096 + b"\r\n\r\n"
    assert head_of(b"x" * 4097 + b"\r\n\r\n") == b""
    assert head_of(b"no end\r\n") == b""


@given(st.binary(max_size=20_000), st.lists(st.integers(0, 20_000), max_size=30), st.binary())
def test_pieces_are_put_together(body: bytes, cuts: list[int], after: bytes) -> None:
    edges = [0, *sorted(cut for cut in cuts if cut < len(body)), len(body)]
    pieces = [body[begin:end] for begin, end in itertools.pairwise(edges)]
    gathered = Gathered(pieces[0], len(body) - len(pieces[0]))
    pieces[-1] += after
    for piece in pieces[1:-1]:
        assert gathered.add(piece) == b""
        assert gathered.missing > 0
    if len(pieces) > 1:
        assert gathered.add(pieces[-1]) == after
    assert gathered.missing == 0
    assert gathered.body() == body


def test_single_bytes_are_not_kept_one_by_one() -> None:
    body = b"abcdefgh" * 2000
    gathered = Gathered(b"", len(body))
    for byte in body:
        gathered.add(bytes((byte,)))
    assert gathered.body() == body
    assert sys.getsizeof(gathered._pieces) < 200


@pytest.mark.parametrize("kind", twins(PureHeads))
@given(st.booleans(), st.binary(max_size=80), st.integers(0, 130), st.integers(0, 130))
def test_noise_is_never_more_than_one_message(
    kind: type[Heads[str]], found: bool, noise: bytes, begin: int, end: int
) -> None:
    whole = message(BODY)
    data = whole[: min(begin, end)] + noise + whole[max(begin, end) :]
    known = learned(kind, found=found).find(data)
    if known is not None:
        head, _, body = data.partition(b"\r\n\r\n")
        made, rest, missing = known
        assert (made, rest) == ("it", body)
        assert missing >= 0
        before, _, after = HEAD.removesuffix(b"\r\n\r\n").partition(b"%s")
        digits = head.removeprefix(before).removesuffix(after)
        assert before + digits + after == head
        assert int(digits) == len(body) + missing


starts = [b"POST / HTTP/1.1", b"\r\n", b"\r", b"\n", b"X: y", b"\r\n\r\n", b"\r\n\r\nabcdefg"]
lengths = [b"Content-Length: ", b"content-LENGTH: ", b"ength: ", b"0", b"7", b"1234567890", b"\xb2"]
pieces = st.sampled_from([*starts, *lengths, b" "])
messages = st.lists(pieces, max_size=9).map(b"".join) | st.just(HEAD % b"7" + b"abcdefg")


@pytest.mark.parametrize("kind", twins(PureHeads)[1:])
@given(st.lists(st.tuples(messages, st.integers(0, 3), st.integers(0, 12)), max_size=12))
def test_both_remember_the_same(
    kind: type[Heads[int]], steps: list[tuple[bytes, int, int]]
) -> None:
    pure, other = PureHeads[int](), kind()
    for number, (data, what, size) in enumerate(steps):
        for heads in (pure, other):
            if what == 1:
                heads.learn(data, data.partition(b"\r\n\r\n")[2], number)
            elif what == 2:
                heads.learn_head(data, size, number)
        assert pure.find(data) == other.find(data)
        assert pure.find(data + b"x") == other.find(data + b"x")


def test_a_few_hundred_are_remembered(kind: type[Heads[int]]) -> None:
    heads = kind()
    data = [b"GET /%d HTTP/1.1\r\nContent-Length: 1\r\n\r\nx" % number for number in range(600)]
    for number, one in enumerate(data):
        heads.learn(one, b"x", number)
    known = [number for number, one in enumerate(data) if heads.find(one)]
    assert known == list(range(512, 600))
