"""Answers whose head came before, against a server that cuts them as told."""

from __future__ import annotations

import asyncio

import pytest

from tests.backends.http.peer import GET, PATIENCE, Peer, Taker, pooled, serve, whole
from trunkline.backends.http.connection import Connection
from trunkline.backends.http.fetch import fetch
from trunkline.core.errors import UpstreamFailed
from trunkline.wire.client import Head


async def test_answers_with_heads_that_came_before() -> None:
    answers = [whole(b"one"), whole(b"three"), whole(b"one"), whole(b"five!") + b"more"]
    answers += [whole(b"one")[:-1], b"e"]

    async def talk(peer: Peer) -> None:
        while answers:
            await peer.request()
            await peer.send(answers.pop(0))
            if len(answers) == 1:
                await asyncio.sleep(0.05)
                await peer.send(answers.pop())

    async with serve(talk) as port, pooled(port) as pool:
        for body in (b"one", b"three", b"one", b"five!", b"one"):
            taker = Taker()
            pool.send(taker)
            await taker.finished()
            assert taker.answer == body
            assert taker.response is not None
            assert taker.response.headers == {}
            # What follows an answer ends its connection.
            assert pool.open == (0 if body == b"five!" else 1)


class Whole(Taker):
    """Notes which answers came as one."""

    wholes: int = 0

    def on_whole(self, head: Head, body: bytes) -> None:
        self.wholes += 1
        super().on_whole(head, body)


@pytest.mark.parametrize("cut", [1, 30, 38, 45, -40, -1])
async def test_answers_that_are_cut(cut: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A head in one piece is known the next time, whether or not its body came with it."""
    body = b"a body of one answer " * 5
    heard = asyncio.Event()
    received = Connection.data_received

    def hear(connection: Connection, data: bytes) -> None:
        received(connection, data)
        heard.set()

    monkeypatch.setattr(Connection, "data_received", hear)

    async def talk(peer: Peer) -> None:
        while await peer.request():
            answer = whole(body)
            heard.clear()
            await peer.send(answer[:cut])
            # In a read of its own.
            await heard.wait()
            await peer.send(answer[cut:])

    async with serve(talk) as port, pooled(port) as pool:
        came: list[int] = []
        for _ in range(3):
            taker = Whole()
            pool.send(taker)
            await taker.finished()
            assert taker.answer == body
            came.append(taker.wholes)
            assert (pool.open, pool.idle) == (1, 1)
        ended = whole(body).index(b"\r\n\r\n") + 4 <= cut % len(whole(body))
        assert came == ([0, 1, 1] if ended else [0, 0, 0])


async def test_an_interim_head_is_not_learned() -> None:
    hints = b"HTTP/1.1 103 Early Hints\r\ncontent-length: 40\r\n\r\n"
    body = b"x" * 40

    async def talk(peer: Peer) -> None:
        while await peer.request():
            await peer.send(hints + whole(body))

    async with serve(talk) as port, pooled(port) as pool:
        for _ in range(3):
            assert (await fetch(pool, GET, timeout=PATIENCE)).body == body


@pytest.mark.parametrize(
    ("rest", "answered"), [(b"", False), (b"rest", False), (b"the rest, and more", True)]
)
async def test_the_rest_of_an_answer_may_be_short_or_long(rest: bytes, answered: bool) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"a body, the rest"))
        await peer.request()
        await peer.send(whole(b"a body, the rest")[:-8])
        await asyncio.sleep(0.05)
        await peer.send(rest)

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        taker = Whole()
        pool.send(taker)
        await taker.finished()
        if answered:
            assert taker.answer == b"a body, the rest"
        else:
            assert isinstance(taker.error, UpstreamFailed)
            assert "in the middle of its answer" in taker.error.message
        assert pool.open == 0


async def test_a_long_body_comes_as_it_comes() -> None:
    """Also where its head came before: whoever waits hears that something comes."""
    body = b"x" * 1_000_000

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"x"))
        await peer.request()
        answer = whole(body)
        await peer.send(answer[:200_000])
        await taker.some()
        await peer.send(answer[200_000:])

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        taker = Whole()
        pool.send(taker)
        await taker.finished()
        assert taker.answer == body
        assert taker.wholes == 0


@pytest.mark.parametrize("kind", [b"text/event-stream", b"application/x-ndjson"])
async def test_a_stream_comes_as_it_comes(kind: bytes) -> None:
    """Also where it has a length, and its head came before."""
    answer = whole(b"data: 1\n\ndata: 2\n\n", b"content-type: " + kind)

    async def talk(peer: Peer) -> None:
        for number in range(3):
            await peer.request()
            await peer.send(answer[:-9])
            if number:
                await takers[number].some()
            await peer.send(answer[-9:])

    async with serve(talk) as port, pooled(port) as pool:
        takers = [Whole() for _ in range(3)]
        for taker in takers:
            pool.send(taker)
            await taker.finished()
            assert taker.answer == b"data: 1\n\ndata: 2\n\n"
            assert taker.wholes == 0
