"""Answers whose transfer ends in another way than it should."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import msgspec
import pytest
from msgspec.structs import replace

from tests.backends.connecting import EVENTS, answering, connected
from tests.backends.fakes import Sink, chat, raw, text
from tests.backends.http.peer import Peer, chunked, serve
from trunkline.core.types import Completed, Failed, Relayed
from trunkline.wire.speakers import SPEAKERS


@pytest.mark.parametrize(
    ("end", "whole"),
    [(b"data: [DONE]\n\n", True), (b"", True), (b"data: [DO", True), (None, False)],
)
async def test_a_stream_that_had_said_all_when_it_broke_off_is_complete(
    end: bytes | None, whole: bool
) -> None:
    """The last chunk of the transfer never comes."""
    delta = {
        "index": 0,
        "delta": {"content": "hi"},
        "finish_reason": end if end is None else "stop",
    }
    said = b"data: %b\n\n" % msgspec.json.encode({"choices": [delta]}) + (end or b"")

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(chunked(said, lines=EVENTS)[:-5])

    async with serve(talk) as port, connected(port, SPEAKERS, {}) as remote:
        for relayed in (False, True):
            sink = Sink()
            if relayed:
                asked = replace(raw("openai.chat"), asked_model="m")
                remote.backend.relay(asked, sink)
            else:
                remote.backend.submit(chat(), sink)
            await sink.done()
            assert isinstance(sink.events[-1], Completed if whole else Failed), relayed
            if relayed and whole:
                passed = b"".join(one.data for one in sink.events if isinstance(one, Relayed))
                assert said.removesuffix(b"data: [DO") == passed


@pytest.mark.parametrize("relayed", [False, True])
async def test_a_stream_that_does_not_say_where_it_ends_must_not_break_off(relayed: bool) -> None:
    said = b'data: {"text_output":"hi"}\n\n'
    answers = [chunked(said, lines=EVENTS)[:-5], chunked(said, lines=EVENTS)]

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(answers.pop(0))

    async with serve(talk) as port, connected(port, SPEAKERS, {}, kind="triton") as remote:
        for whole in (False, True):
            sink = Sink()
            if relayed:
                remote.backend.relay(raw("kserve.generate"), sink)
            else:
                remote.backend.submit(text(), sink)
            await sink.done()
            assert isinstance(sink.events[-1], Completed if whole else Failed)


@pytest.mark.parametrize("relayed", [False, True])
async def test_what_comes_in_one_piece_with_an_error(relayed: bool) -> None:
    """It goes on, but for the very first: then another backend may still be asked."""
    said, error = (
        b"data: %b\n\n" % one
        for one in (
            b'{"choices":[{"index":0,"delta":{"content":"hi"}}]}',
            b'{"error":{"message":"oops"}}',
        )
    )
    for begun in (False, True):

        async def talk(peer: Peer, begun: bool = begun) -> None:
            await peer.request()
            first, last = chunked(said, lines=EVENTS)[:-5], chunked(said, error)
            last = last.partition(b"\r\n\r\n")[2]
            if begun:
                await peer.send(first)
                await asyncio.sleep(0.05)
                await peer.send(last)
            else:
                await peer.send(first + last)

        async with serve(talk) as port, connected(port, SPEAKERS, {}) as remote:
            sink = Sink()
            if relayed:
                remote.backend.relay(replace(raw("openai.chat"), asked_model="m"), sink)
            else:
                remote.backend.submit(chat(), sink)
            await sink.done()
            assert "oops" in sink.error.message
            passed = b"".join(one.data for one in sink.events if isinstance(one, Relayed))
            assert passed == (said * 2 if begun and relayed else b"")
            assert sink.text == ("hihi" if begun and not relayed else "")


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br"])
async def test_an_error_that_is_compressed_is_read(encoding: str) -> None:
    said = b'{"error": {"message": "no such luck"}}'
    body = {"gzip": gzip.compress(said), "deflate": zlib.compress(said)}.get(encoding, b"\x00\xff")
    head = b"HTTP/1.1 400 No\r\ncontent-encoding: %b\r\ncontent-length: %d\r\n\r\n"
    answer = head % (encoding.encode(), len(body)) + body
    async with serve(answering(answer)) as port, connected(port, SPEAKERS, {}) as remote:
        sink = Sink()
        remote.backend.submit(chat(), sink)
        await sink.done()
        assert ("no such luck" in sink.error.message) == (encoding != "br")
        assert sink.error.message.isprintable()
