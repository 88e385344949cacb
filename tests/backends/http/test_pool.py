"""Pool and connections, against a server that misbehaves as told."""

from __future__ import annotations

import asyncio

import pytest

from tests.backends.http.peer import (
    GET,
    PATIENCE,
    Peer,
    Taker,
    chunked,
    pooled,
    serve,
    until,
    whole,
)
from trunkline.backends.http import connection
from trunkline.backends.http.fetch import fetch
from trunkline.backends.http.pool import PoolLimits
from trunkline.core.errors import QueueFull, Unavailable, UpstreamFailed, UpstreamTimeout


async def test_connections_are_kept_and_used_again() -> None:
    seen: list[int] = []

    async def talk(peer: Peer) -> None:
        while True:
            request = await peer.request()
            seen.append(peer.number)
            await peer.send(whole(request[-3:]))

    async with serve(talk) as port, pooled(port) as pool:
        for body in (b"one", b"two", b"six"):
            head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\n"
            taker = Taker(head=head, body=body)
            pool.send(taker)
            await taker.finished()
            assert taker.answer == body
        assert seen == [0, 0, 0]
        assert (pool.open, pool.idle) == (1, 1)


async def test_last_used_connection_is_used_first() -> None:
    hold = asyncio.Event()
    seen: list[int] = []

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            seen.append(peer.number)
            if not hold.is_set() and peer.number == 0:
                await hold.wait()
            await peer.send(whole(b"x"))

    async with serve(talk) as port, pooled(port) as pool:
        slow, fast = Taker(), Taker()
        pool.send(slow)
        pool.send(fast)
        await fast.finished()
        hold.set()
        await slow.finished()
        assert pool.idle == 2
        again = Taker()
        pool.send(again)
        await again.finished()
        assert seen[-1] == 0


async def test_large_body_arrives_whole() -> None:
    async def talk(peer: Peer) -> None:
        request = await peer.request()
        await peer.send(whole(b"%d" % len(request.partition(b"\r\n\r\n")[2])))

    body = b"x" * 300_000
    async with serve(talk) as port, pooled(port) as pool:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n"
        response = await fetch(pool, head, body, timeout=PATIENCE)
        assert response.body == b"300000"
        assert response.ok


@pytest.mark.parametrize("step", [1, 2, 3, 7])
async def test_chunks_may_be_cut_anywhere(step: int) -> None:
    response = chunked(b"hello", b", ", b"world" * 20, lines=b"X-Name: Value\r\nx-name: other\r\n")

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            for at in range(0, len(response), step):
                peer.writer.write(response[at : at + step])
                # Each turn of the loop is a write of its own.
                await asyncio.sleep(0)

    async with serve(talk) as port, pooled(port) as pool:
        for _ in range(2):
            taker = Taker()
            pool.send(taker)
            await taker.finished()
            assert taker.error is None
            assert taker.answer == b"hello, " + b"world" * 20
            assert taker.response is not None
            assert taker.response.headers["x-name"] == "Value"
        assert pool.open == 1


async def test_what_one_read_brings_is_one_piece() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(*(b"%d," % n for n in range(50))))

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.finished()
        assert len(taker.pieces) == 1


async def test_interim_responses_are_skipped() -> None:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            interim = b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + interim + whole(b"yes"))

    async with serve(talk) as port, pooled(port) as pool:
        for _ in range(2):
            response = await fetch(pool, GET, timeout=PATIENCE)
            assert (response.head.status, response.body) == (200, b"yes")
            assert "link" not in response.head.headers
        assert pool.open == 1


async def test_body_that_ends_with_the_connection() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\n\r\nall", b" of it")

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.finished()
        assert (taker.answer, taker.error) == (b"all of it", None)
        assert pool.open == 0


@pytest.mark.parametrize("how", ["closed", "reset"])
async def test_stale_connection_is_replaced_without_a_word(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server has closed a kept connection at the moment that it is used again."""
    requests: list[int] = []

    async def talk(peer: Peer) -> None:
        await peer.request()
        requests.append(peer.number)
        await peer.send(whole(b"%d" % peer.number))
        if peer.number == 0:
            await peer.request()
            if how == "reset":
                peer.reset()
            return
        await peer.gone()

    # However long this process was stopped between the request and the end.
    monkeypatch.setattr(connection, "_STALE", PATIENCE)
    async with serve(talk) as port, pooled(port) as pool:
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"0"
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"1"
        assert requests == [0, 1]


async def test_second_death_is_told() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        if peer.number == 0:
            await peer.send(whole(b"fine"))
            await peer.request()

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        with pytest.raises(UpstreamFailed, match="before it answered"):
            await fetch(pool, GET, timeout=PATIENCE)


async def test_connection_that_is_closed_while_idle_is_not_used() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"%d" % peer.number))

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        await until(lambda: pool.open == 0)
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"1"


async def test_unasked_bytes_end_a_kept_connection() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"a"))
        if peer.number == 0:
            await asyncio.sleep(0.05)
            await peer.send(whole(b"poison"))
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        await until(lambda: pool.open == 0)
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"a"


async def test_two_responses_at_once_end_the_connection() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"mine") + whole(b"whose?"))
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"mine"
        assert pool.open == 0


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no HTTP response"),
        (b"HTTP/1.1 099 Well\r\ncontent-length: 4\r\n\r\nbody", "no HTTP response"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", "in the middle of its answer"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n",
            "in the middle of its answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
            "no HTTP response",
        ),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 70_000, "over the limit"),
        (b"HTTP/1.1 200 OK\r\n" + b"x: %b\r\n" % (b"y" * 100) * 700 + b"\r\n", "over the limit"),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", "protocols"),
        (b"", "before it answered"),
    ],
)
async def test_what_is_no_answer_is_a_failure(answer: bytes, message: str) -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer)

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.finished()
        assert isinstance(taker.error, UpstreamFailed)
        assert message in taker.error.message
        assert "backend 'peer'" in taker.error.message
        assert pool.open == 0


async def test_reset_in_the_middle_of_a_stream() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(b"first")[:-5])
        await asyncio.sleep(0.05)
        peer.reset()

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.finished()
        assert taker.answer == b"first"
        assert isinstance(taker.error, UpstreamFailed)


async def test_cancelling_closes_the_connection_at_once() -> None:
    closed = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n")
        await peer.gone()
        closed.set()

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.some()
        taker.cancel()
        taker.cancel()
        async with asyncio.timeout(PATIENCE):
            await closed.wait()
        assert pool.open == 0
        assert not taker.ended
        assert taker.error is None


async def test_receiver_may_cancel_while_it_is_told() -> None:
    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(whole(b"body"))

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        taker.on_first = taker.cancel
        await taker.some()
        await asyncio.sleep(0.02)
        assert not taker.ended
        assert taker.error is None
        assert (await fetch(pool, GET, timeout=PATIENCE)).body == b"body"


async def test_cancelling_in_the_queue() -> None:
    first = asyncio.Event()

    async def talk(peer: Peer) -> None:
        while True:
            await peer.request()
            await first.wait()
            await peer.send(whole(b"x"))

    limits = PoolLimits(max_connections=1, connect=PATIENCE)
    async with serve(talk) as port, pooled(port, limits) as pool:
        takers = [Taker() for _ in range(3)]
        for taker in takers:
            pool.send(taker)
        await until(lambda: pool.waiting == 2)
        assert (pool.open, pool.waiting) == (1, 2)
        takers[1].cancel()
        assert pool.waiting == 1
        first.set()
        await takers[0].finished()
        await takers[2].finished()
        assert takers[1].response is None


async def test_queue_is_bounded() -> None:
    asked = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    limits = PoolLimits(max_connections=1, max_waiting=1, wait=0.5, connect=PATIENCE)
    async with serve(talk) as port, pooled(port, limits) as pool:
        busy, waits, refused = Taker(), Taker(), Taker()
        pool.send(busy)
        await asked.wait()
        pool.send(waits)
        pool.send(refused)  # told later, never within the call
        await refused.finished()
        assert isinstance(refused.error, QueueFull)
        await waits.finished()
        assert isinstance(waits.error, UpstreamTimeout)
        assert "was free" in waits.error.message


async def test_idle_connections_expire() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"x"))
        await peer.gone()

    limits = PoolLimits(keepalive=0.05, connect=PATIENCE)
    async with serve(talk) as port, pooled(port, limits) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        await until(lambda: (pool.open, pool.idle) == (0, 0))


async def test_announced_keepalive_is_honoured() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"x", b"Keep-Alive: timeout=1, max=100"))
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        await fetch(pool, GET, timeout=PATIENCE)
        # Far sooner than those that announce nothing.
        assert pool.keepalive >= PATIENCE
        await until(lambda: pool.open == 0)


async def test_pausing_stops_reading() -> None:
    paused = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await paused.wait()
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        taker = Taker()
        pool.send(taker)
        await taker.some()
        taker.pause()
        paused.set()
        await asyncio.sleep(0.2)
        assert taker.answer == b"a"
        taker.resume()
        await taker.finished()
        assert taker.answer == b"ab"


async def test_refused_connection() -> None:
    async with pooled(1) as pool:
        with pytest.raises(UpstreamFailed, match="refuses connections"):
            await fetch(pool, GET, timeout=PATIENCE)
        assert pool.waiting == 0


async def test_each_that_waits_hears_of_a_refusal() -> None:
    async with pooled(1) as pool:
        takers = [Taker() for _ in range(5)]
        for taker in takers:
            pool.send(taker)
        for taker in takers:
            await taker.finished()
            assert isinstance(taker.error, UpstreamFailed)


async def test_timeout_cancels() -> None:
    closed = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.gone()
        closed.set()

    async with serve(talk) as port, pooled(port) as pool:
        with pytest.raises(UpstreamTimeout, match=r"within 0\.1 s"):
            await fetch(pool, GET, timeout=0.1)
        async with asyncio.timeout(PATIENCE):
            await closed.wait()


async def test_whole_bodies_are_bounded() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(whole(b"x" * 10_000)[:-10])
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        with pytest.raises(UpstreamFailed, match="more than 1000 bytes"):
            await fetch(pool, GET, timeout=PATIENCE, max_body=1000)
        assert pool.open == 0


async def test_early_refusal_of_a_body_is_heard() -> None:
    async def talk(peer: Peer) -> None:
        await peer.send(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno")
        await peer.gone()

    async with serve(talk) as port, pooled(port) as pool:
        body = b"x" * 20_000_000
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
        response = await fetch(pool, head, body, timeout=PATIENCE)
        assert (response.head.status, response.body) == (413, b"no")


async def test_closing_the_pool_fails_what_is_under_way() -> None:
    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.gone()

    limits = PoolLimits(max_connections=1, connect=PATIENCE)
    async with serve(talk) as port, pooled(port, limits) as pool:
        busy, waits, late = Taker(), Taker(), Taker()
        pool.send(busy)
        await until(lambda: pool.waiting == 0)
        pool.send(waits)
        await pool.close()
        assert isinstance(busy.error, Unavailable)
        assert isinstance(waits.error, Unavailable)
        pool.send(late)
        await late.finished()
        assert isinstance(late.error, Unavailable)
