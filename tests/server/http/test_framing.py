"""What is and is not HTTP, through a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import sys
from collections.abc import Iterable
from typing import Any

import msgspec
import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.server.support import CHAT, HELLO, request, running, text_of
from trunkline.core.errors import TrunklineError
from trunkline.core.heads import Heads
from trunkline.server.http.exchange import HttpRequest
from trunkline.server.http.framing import Framing
from trunkline.server.http.limits import Limits

LIVE = request("GET", "/health/live")
BODY = json.dumps(HELLO).encode()


SPLIT = (
    request("POST", CHAT, HELLO, "x-a: b")
    + b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
    + b"a;ext=1\r\n%b\r\n%x\r\n%b\r\n" % (BODY[:10], len(BODY) - 10, BODY[10:])
    + b"0\r\nTrailer: x\r\n\r\n"
    + LIVE
)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, len(SPLIT) - 1), max_size=30))
def test_bytes_may_be_split_anywhere(cuts: list[int]) -> None:
    async def scenario() -> None:
        async with running() as one:
            client = await one.connect()
            edges = [0, *sorted(set(cuts)), len(SPLIT)]
            for begin, end in itertools.pairwise(edges):
                await client.send(SPLIT[begin:end])
                await asyncio.sleep(0)
            for _ in range(2):
                assert text_of((await client.response()).json()) == "Hello there!"
            assert (await client.response()).json() == {"status": "ok"}

    uvloop.run(scenario())


class _Taker:
    def __init__(self) -> None:
        self.came: list[HttpRequest] = []

    def received(self, request: HttpRequest, refusal: tuple[int, TrunklineError] | None) -> None:
        assert refusal is None
        self.came.append(request)


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ("", "x-a: b", "X-Length: 5", "content-type: a/b", "connection: close")
            ),
            st.binary(max_size=300),
        ),
        max_size=12,
    )
)
def test_a_head_that_came_before_means_the_same(asked: list[tuple[str, bytes]]) -> None:
    heads: Heads[HttpRequest] = Heads()
    seen: set[str] = set()
    for extra, body in (*asked, *asked):
        data = _asking(extra, body)
        plain, quick = _Taker(), _Taker()
        Framing(Limits(), plain).feed(data)
        framing = Framing(Limits(), quick, heads)
        found = framing.known(data)
        if found is None:
            framing.feed(data)
        else:
            quick.came.append(found[0].with_body(found[1]))
        assert _meant(quick) == _meant(plain)
        if body and "ength" not in extra and "close" not in extra:
            assert (found is not None) is (extra in seen)
            seen.add(extra)


def _meant(taker: _Taker) -> list[dict[str, Any]]:
    """What came, but for what only heads have that came before."""
    found = list(map(msgspec.structs.asdict, taker.came))
    assert all(one.pop("memory") in ({}, None) for one in found)
    return found


def _asking(extra: str, body: bytes) -> bytes:
    return request("POST", CHAT, body, *([extra] if extra else []))


def _through(framing: Framing, taker: _Taker, pieces: Iterable[bytes]) -> int:
    """Give pieces as a connection does; how many requests were known."""
    known = 0
    for piece in pieces:
        found: tuple[HttpRequest, bytes, int] | None = None
        data = piece
        if framing.gathering is not None:
            found, data = framing.gather(data)
        elif (found := framing.known(data)) is not None or framing.gathering is not None:
            data = b""
        if found is not None:
            known += 1
            taker.came.append(found[0].with_body(found[1]))
        if data:
            framing.feed(data)
    return known


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(("", "x-a: b", "Expect: 100-continue")), st.binary(max_size=300)),
        min_size=1,
        max_size=8,
    ),
    st.lists(st.integers(0, 4000), max_size=20),
)
def test_pieces_of_requests_with_heads_that_came_before(
    asked: list[tuple[str, bytes]], cuts: list[int]
) -> None:
    """However requests are cut, they are what the parser alone makes of them."""
    heads: Heads[HttpRequest] = Heads()
    for extra in ("", "x-a: b", "Expect: 100-continue"):
        Framing(Limits(), _Taker(), heads).feed(_asking(extra, b"{}"))
    data = b"".join(_asking(extra, body) for extra, body in asked)
    edges = [0, *sorted(cut for cut in set(cuts) if 0 < cut < len(data)), len(data)]
    plain, quick = _Taker(), _Taker()
    Framing(Limits(), plain).feed(data)
    _through(
        Framing(Limits(), quick, heads),
        quick,
        (data[begin:end] for begin, end in itertools.pairwise(edges)),
    )
    assert _meant(quick) == _meant(plain)


def test_a_head_that_comes_before_its_body_is_learned() -> None:
    heads: Heads[HttpRequest] = Heads()
    whole = request("POST", CHAT, HELLO)
    head = whole[: whole.index(b"{")]
    taker = _Taker()
    for pieces, known in (
        ((head, BODY), 0),
        ((head, BODY), 1),
        ((whole,), 1),
        ((head, BODY[:5], BODY[5:]), 1),
        ((whole[:-5], whole[-5:]), 1),
        ((head[:9], head[9:] + BODY), 0),
        ((whole[:-5], whole[-5:] + whole), 1),
    ):
        taker = _Taker()
        assert _through(Framing(Limits(), taker, heads), taker, pieces) == known
        assert taker.came[-1].body == BODY
    assert len(taker.came) == 2


def test_a_head_is_not_learned_for_the_request_behind_an_offered_upgrade() -> None:
    heads: Heads[HttpRequest] = Heads()
    offer = request("POST", "/a", b"hello", "Connection: Upgrade", "Upgrade: h2c")
    behind = request("POST", "/b", b"world", "x-a: b")
    taker = _Taker()
    _through(Framing(Limits(), taker, heads), taker, (offer + behind[:-5], behind[-5:]))
    _through(Framing(Limits(), taker, heads), taker, (offer,))
    assert [one.path for one in taker.came] == ["/a", "/b", "/a"]
    assert [name for name, _ in taker.came[2].headers if name == b"x-a"] == []


@pytest.mark.parametrize("cut", [0, 20, -20])
def test_a_request_is_let_go(cut: int) -> None:
    """Its body may be large, and its connection stay open for long."""
    whole = request("POST", CHAT, HELLO)
    taker = _Taker()
    framing = Framing(Limits(), taker)
    for _ in range(3):
        _through(framing, taker, (whole[:cut], whole[cut:]) if cut else (whole,))
        held, alone = taker.came.pop(), HttpRequest("GET", b"/", "/", b"", [], {}, False, True)
        assert sys.getrefcount(held) == sys.getrefcount(alone)


async def test_lengths_of_heads_that_came_before_are_bounded() -> None:
    async with running(max_body=200) as one:
        client = await one.connect()
        for size, status in ((50, 400), (100, 400), (150, 400), (250, 413)):
            assert (await client.ask("POST", CHAT, b"x" * size)).status == status


async def test_a_body_whose_head_came_before_is_bounded_before_it_comes() -> None:
    async with running(max_body=200) as one:
        client = await one.connect()
        assert (await client.ask("POST", CHAT, b"x" * 150)).status == 400
        whole = request("POST", CHAT, b"x" * 250)
        await client.send(whole[:-200])
        assert (await client.response()).status == 413


async def test_a_head_that_came_before_does_not_hide_what_follows() -> None:
    async with running() as one:
        client = await one.connect()
        for _ in range(3):
            assert (await client.ask("POST", CHAT, HELLO)).status == 200
        await client.send(request("POST", CHAT, HELLO) * 2 + LIVE)
        assert (await client.response()).status == 200
        assert (await client.response()).status == 200
        assert (await client.response()).json() == {"status": "ok"}
        whole = request("POST", CHAT, HELLO)
        await client.send(whole[:-5])
        await asyncio.sleep(0.05)
        await client.send(whole[-5:])
        assert (await client.response()).status == 200


async def test_one_byte_at_a_time() -> None:
    async with running() as one:
        client = await one.connect()
        for byte in request("POST", CHAT, HELLO):
            await client.send(bytes([byte]))
        assert (await client.response()).status == 200


async def test_a_chunked_body() -> None:
    body = json.dumps(HELLO).encode()
    chunks = b"".join(b"1\r\n%c\r\n" % byte for byte in body) + b"0\r\n\r\n"
    async with running() as one:
        client = await one.connect()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"
        await client.send(head.encode() + chunks)
        assert (await client.response()).status == 200
        assert (await client.ask("GET", "/health/live")).status == 200


async def test_expect_continue() -> None:
    async with running() as one:
        client = await one.connect()
        body = json.dumps(HELLO).encode()
        whole = request("POST", CHAT, body, "Expect: 100-Continue")
        await client.send(whole[: -len(body)])
        assert (await client.response()).status == 100
        await client.send(body)
        assert (await client.response()).status == 200


async def test_a_body_that_is_refused_is_not_asked_for() -> None:
    async with running(max_body=10) as one:
        client = await one.connect()
        head = request("POST", CHAT, b"x" * 11, "expect: 100-continue")[:-11]
        await client.send(head)
        assert (await client.response()).status == 413


async def test_http_1_0_closes_unless_asked_not_to() -> None:
    async with running() as one:
        client = await one.connect()
        await client.send(b"GET /health/live HTTP/1.0\r\nconnection: keep-alive\r\n\r\n")
        seen = await client.response()
        assert (seen.status, seen.headers["connection"]) == (200, "keep-alive")
        await client.send(b"GET /health/live HTTP/1.0\r\n\r\n")
        assert (await client.response()).headers["connection"] == "close"
        assert await client.ended() == b""


async def test_http_1_0_streams_end_with_the_connection() -> None:
    async with running() as one:
        client = await one.connect()
        body = json.dumps({**HELLO, "stream": True}).encode()
        head = b"POST /v1/chat/completions HTTP/1.0\r\ncontent-length: %d\r\n\r\n" % len(body)
        await client.send(head + body)
        seen = await client.response()
        assert "transfer-encoding" not in seen.headers
        assert seen.body.endswith(b"data: [DONE]\n\n")


@pytest.mark.parametrize(
    "target",
    [
        "http://other:80/health/live",
        "http://other/health/live?a=/b",
        "/health/live?key=1",
        "/h%65alth/live",
    ],
)
async def test_targets(target: str) -> None:
    async with running() as one:
        assert (await one.ask("GET", target)).json() == {"status": "ok"}


async def test_an_offered_upgrade_is_declined_and_its_body_kept() -> None:
    async with running() as one:
        client = await one.connect()
        offer = ("Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMA")
        for _ in range(2):
            assert (await client.ask("POST", CHAT, HELLO, *offer)).status == 200
        parts = request("POST", CHAT, HELLO, *offer)
        await client.send(parts[:-5])
        await asyncio.sleep(0.01)
        await client.send(parts[-5:])
        assert (await client.response()).status == 200


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"garbage\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 50, 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nbad header\r\n\r\n", 400),
        (b"FETCH / HTTP/1.1\r\nhost: a\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx", 400),
        (
            b"POST / HTTP/1.1\r\nhost:a\r\ncontent-length:5\r\ntransfer-encoding:chunked\r\n\r\n0",
            400,
        ),
        (b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\nexpect: miracles\r\ncontent-length: 1\r\n\r\nx", 417),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ncontent-encoding: gzip\r\ncontent-length: 1\r\n\r\nx",
            415,
        ),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            501,
        ),
        (b"CONNECT a:80 HTTP/1.1\r\nhost: a\r\n\r\n", 405),
        (b"GET /" + b"x" * 9000 + b" HTTP/1.1\r\nhost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"a: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\na: " + b"x" * 40_000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nhost: a\r\n" + b"x" * 80_000, 431),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1;" + b"x" * 80_000,
            431,
        ),
        (
            b"POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n"
            + b"t: x\r\n" * 20_000,
            431,
        ),
    ],
)
async def test_what_is_not_http_is_refused(data: bytes, status: int) -> None:
    async with running() as one:
        client = await one.connect()
        await client.send(data)
        seen = await client.response()
        assert seen.status == status
        assert seen.headers["connection"] == "close"
        assert seen.json()["error"]["message"]
        assert await client.ended() == b""
        assert (await one.ask("GET", "/health/live")).status == 200


@pytest.mark.parametrize("chunked", [False, True])
async def test_a_large_body_is_refused_without_being_read(chunked: bool) -> None:
    async with running(max_body=100_000) as one:
        client = await one.connect()
        size = 20_000_000
        framing = "transfer-encoding: chunked" if chunked else f"content-length: {size}"
        head = f"POST {CHAT} HTTP/1.1\r\nhost: x\r\n{framing}\r\n\r\n".encode()
        body = b"%x\r\n%b" % (size, b"x" * size) if chunked else b"x" * size
        sending = asyncio.create_task(client.send(head + body))
        seen = await client.response()
        assert seen.status == 413
        assert seen.json()["error"]["code"] == "payload_too_large"
        client.close()
        with contextlib.suppress(ConnectionError):
            await sending
        assert (await one.ask("GET", "/health/live")).status == 200


async def test_a_body_at_the_limit_is_read() -> None:
    body = json.dumps({**HELLO, "user": "x" * 50_000}).encode()
    async with running(max_body=len(body)) as one:
        assert (await one.ask("POST", CHAT, body)).status == 200
        assert (await one.ask("POST", CHAT, body + b" ")).status == 413


class _Taken:
    """What a `Framing` hands on."""

    def __init__(self) -> None:
        self.found: list[tuple[HttpRequest, int]] = []

    def received(self, request: HttpRequest, refusal: tuple[int, TrunklineError] | None) -> None:
        self.found.append((request, 0 if refusal is None else refusal[0]))


def _framed(data: bytes) -> tuple[HttpRequest, int]:
    taken = _Taken()
    Framing(Limits(), taken).feed(data)
    (one,) = taken.found
    return one


@pytest.mark.parametrize(
    ("version", "connection", "http10", "keep_alive"),
    [
        (b"1.1", b"", False, True),
        (b"1.1", b"connection: keep-alive\r\n", False, True),
        (b"1.1", b"connection: close\r\n", False, False),
        (b"1.0", b"", True, False),
        (b"1.0", b"connection: keep-alive\r\n", True, True),
    ],
)
def test_versions_and_what_becomes_of_the_connection(
    version: bytes, connection: bytes, http10: bool, keep_alive: bool
) -> None:
    request, status = _framed(b"GET / HTTP/%b\r\nhost: a\r\n%b\r\n" % (version, connection))
    assert (request.http10, request.keep_alive, status) == (http10, keep_alive, 0)


def test_the_first_field_of_a_name_counts_and_trailers_do_not() -> None:
    request, status = _framed(
        b"POST http://h/a%20b?c HTTP/1.1\r\nHost: a\r\nX: 1\r\nx: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n1\r\nb\r\n0\r\nX: 3\r\n\r\n"
    )
    assert status == 0
    assert (request.target, request.path, request.query) == (b"/a%20b?c", "/a b", b"c")
    assert [pair for pair in request.headers if pair[0] == b"x"] == [(b"x", b"1"), (b"x", b"2")]
    assert request.fields[b"x"] == b"1"
    assert request.body == b"b"


@pytest.mark.parametrize(
    ("url", "target"),
    [
        (b"http://h", b"/"),
        (b"http://h?a", b"/?a"),
        (b"http://h?a=/b", b"/?a=/b"),
        (b"https://u:p@h:1/b?a=http://h/", b"/b?a=http://h/"),
        (b"/b?a=http://h/", b"/b?a=http://h/"),
    ],
)
def test_whole_urls_are_targets(url: bytes, target: bytes) -> None:
    request, status = _framed(b"GET %b HTTP/1.1\r\nhost: h\r\n\r\n" % url)
    path, _, query = target.partition(b"?")
    assert status == 0
    assert (request.target, request.path, request.query) == (target, path.decode(), query)


def test_white_space_around_a_value_is_no_part_of_it() -> None:
    request, status = _framed(
        b"POST / HTTP/1.1\r\nhost:h \r\nauthorization: \tBearer k\t \r\nexpect: 100-continue \r\n"
        b"empty:  \r\ncontent-length: 1 \r\n\r\nx"
    )
    assert status == 0
    assert request.headers == [
        (b"host", b"h"),
        (b"authorization", b"Bearer k"),
        (b"expect", b"100-continue"),
        (b"empty", b""),
    ]


@pytest.mark.parametrize(
    ("head", "http10", "keep_alive"),
    [
        (b"POST / HTTP/1.1\r\nhost: h\r\nconnection: Upgrade\r\n", False, True),
        (b"POST / HTTP/1.1\r\nhost: h\r\nconnection: close, Upgrade\r\n", False, False),
        (b"POST / HTTP/1.0\r\nconnection: Upgrade\r\n", True, False),
        (b"POST / HTTP/1.0\r\nconnection: Upgrade, keep-alive\r\n", True, True),
    ],
)
def test_what_is_said_beside_an_upgrade_holds(head: bytes, http10: bool, keep_alive: bool) -> None:
    request, status = _framed(head + b"upgrade: h2c\r\ncontent-length: 1\r\n\r\nx")
    assert (request.http10, request.keep_alive, request.body, status) == (
        http10,
        keep_alive,
        b"x",
        0,
    )
    assert b"upgrade" not in request.fields


def test_two_hosts_are_refused_also_when_they_say_the_same() -> None:
    assert _framed(b"GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n")[1] == 400
