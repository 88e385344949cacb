"""A remote backend against servers that behave and that do not."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator, Mapping
from typing import Any

import msgspec
import pytest

from tests.backends.connecting import EVENTS, SAY, answering, connected
from tests.backends.fakes import PlainSpeaker, Sink, chat, raw, text
from tests.backends.http.peer import PATIENCE, Peer, Talk, chunked, serve, until, whole
from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.transfer import Transfer
from trunkline.backends.remote import Conformance, RemoteBackend
from trunkline.backends.remote_call import RemoteCall
from trunkline.core.errors import (
    RateLimited,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
    UpstreamTimeout,
)
from trunkline.core.types import Completed, Delta, ModelCard, Relayed
from trunkline.wire.client import Feature, Speaker, Terms
from trunkline.wire.speakers import SPEAKERS


@contextlib.asynccontextmanager
async def backend(
    talk: Talk,
    spoken: Mapping[str, Speaker] | None = None,
    environ: Mapping[str, str] | None = None,
    **config: Any,
) -> AsyncIterator[RemoteBackend]:
    async with serve(talk) as port, connected(port, spoken, environ, **config) as remote:
        yield remote.backend


def body_of(request: bytes) -> Any:
    return msgspec.json.decode(request.partition(b"\r\n\r\n")[2])


async def test_translated() -> None:
    seen: list[bytes] = []
    stream = chunked(b"Hel", b"lo", lines=EVENTS)
    async with backend(
        answering(stream, seen=seen), api_key="sk-1", extra_body={"x": 1}, headers={"X-Team": "a"}
    ) as one:
        sink = Sink()
        one.submit(chat(), sink)
        assert not sink.events
        assert one.in_flight == 1
        await sink.done()
        assert sink.text == "Hello"
        assert isinstance(sink.events[-1], Completed)
        assert (sink.routed.backend, sink.routed.model) == ("one", "m")
        assert sink.routed.dropped == ("seed",)
        assert one.in_flight == 0
    head = seen[0].decode().lower()
    assert head.startswith("post /v1/chat/completions http/1.1\r\n")
    for line in ("authorization: bearer sk-1", "x-team: a", "accept-encoding: identity"):
        assert f"\r\n{line}\r\n" in head
    assert body_of(seen[0])["x"] == 1


async def test_relayed() -> None:
    seen: list[bytes] = []
    async with backend(answering(chunked(b"a", b"b", lines=EVENTS), seen=seen)) as one:
        sink = Sink()
        assert one.relays("openai.chat")
        assert not one.relays("gemini.generate")
        one.relay(raw("openai.chat", {"model": "alias", "own": [1]}), sink)
        events = await sink.done()
        assert b"".join(e.data for e in events if isinstance(e, Relayed)) == b"ab"
    assert body_of(seen[0]) == {"model": "m", "own": [1]}


async def test_a_stream_of_one_that_has_none_is_the_whole_answer_translated() -> None:
    seen: list[bytes] = []
    there = answering(whole(b"Hello"), seen=seen)
    async with backend(there, features={"stream": False}) as one:
        sink = Sink()
        one.relay(raw("openai.chat", {"model": "alias", "stream": True}), sink)
        await sink.done()
        assert sink.text == "Hello"
        assert isinstance(sink.events[-1], Completed)
    assert body_of(seen[0])["op"] == "openai.chat"
    assert body_of(seen[0])["model"] == "m"


async def test_the_dialect_that_suits_the_input_is_spoken() -> None:
    seen: list[bytes] = []
    async with backend(answering(whole(b"x"), seen=seen)) as one:
        for request in (chat(), text()):
            sink = Sink()
            one.submit(request, sink)
            await sink.done()
    assert [body_of(request)["op"] for request in seen] == ["openai.chat", "openai.completions"]


async def test_what_one_dialect_cannot_say_another_may() -> None:
    seen: list[bytes] = []
    spoken = {
        "openai.chat": PlainSpeaker("openai.chat", refuses=True),
        "anthropic.messages": PlainSpeaker("anthropic.messages"),
    }
    async with backend(answering(whole(b"x"), seen=seen), spoken) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert seen[0].startswith(b"POST /v1/messages ")


async def test_what_nobody_can_say_is_refused_by_name() -> None:
    spoken = {"openai.chat": PlainSpeaker("openai.chat", refuses=True)}
    async with backend(answering(), spoken) as one:
        sink = Sink()
        one.submit(chat(), sink)
        assert not sink.events
        await sink.done()
        assert isinstance(sink.error, Unsupported)
        assert sink.error.param == "seed"
        silent = Sink()
        one.submit(chat(), silent).cancel()
        await asyncio.sleep(0.01)
        assert not silent.events


@pytest.mark.parametrize(
    "operation",
    [
        *("openai.chat", "openai.responses", "anthropic.messages", "ollama.chat"),
        *("gemini.generate", "cohere.chat", "bedrock.converse"),
    ],
)
def test_prompts_for_those_that_only_chat_are_refused_with_what_to_do(operation: str) -> None:
    features: frozenset[Feature] = frozenset(("stream",))
    with pytest.raises(Unsupported, match=r"send messages .*/v1/chat/completions") as caught:
        SPEAKERS[operation].encode(text(), Terms(model="m", features=features))
    assert caught.value.param == "prompt"


async def test_dialect_of_the_configuration() -> None:
    async with backend(answering(), dialect="anthropic") as one:
        assert one.relays("anthropic.messages")
        assert not one.relays("openai.chat")


async def test_errors_are_told_by_the_dialect() -> None:
    answer = b"HTTP/1.1 429 Busy\r\nretry-after: 7\r\ncontent-length: 4\r\n\r\nfull"
    async with backend(answering(answer)) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert isinstance(sink.error, RateLimited)
        assert (sink.error.message, sink.error.retry_after) == ("full", 7.0)


async def test_errors_without_end_are_cut() -> None:
    closed = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 500 No\r\ncontent-length: 999999999\r\n\r\n" + b"x" * 200_000)
        await peer.gone()
        closed.set()

    async with backend(talk) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert isinstance(sink.error, UpstreamFailed)
        await asyncio.wait_for(closed.wait(), PATIENCE)


@pytest.mark.parametrize(
    ("piece", "message"), [(b"GARBAGE", "no answer"), (b"BUG", "cannot be read")]
)
async def test_what_cannot_be_read_fails_the_call(
    piece: bytes, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    more = b"%x\r\n%b\r\n0\r\n\r\n" % (len(piece), piece)
    async with backend(answering(chunked(b"ok", lines=EVENTS)[:-5], more)) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.some()
        await sink.done()
        assert isinstance(sink.error, UpstreamFailed)
    caplog.clear()
    async with backend(answering(chunked(piece, lines=EVENTS))) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert message in sink.error.message


async def test_compressed_answers_are_refused() -> None:
    async with backend(answering(whole(b"x", b"Content-Encoding: gzip"))) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert "gzip" in sink.error.message


@pytest.mark.parametrize(
    ("sent", "timeouts", "message"),
    [
        (b"", Timeouts(first_token=0.2), "begin to answer within 0.2 s"),
        (b"HTTP/1.1 200 OK\r\nx: ", Timeouts(first_token=0.2), "begin to answer"),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            Timeouts(first_token=0.2),
            "begin to answer",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            Timeouts(first_token=PATIENCE, idle=0.2),
            "sent nothing more for 0.2 s",
        ),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n",
            Timeouts(attempt=0.3),
            "did not finish within 0.3 s",
        ),
    ],
)
async def test_time_limits(sent: bytes, timeouts: Timeouts, message: str) -> None:
    closed = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(sent)
        await peer.gone()
        closed.set()

    async with backend(talk, timeouts=timeouts) as one:
        sink = Sink()
        one.submit(chat(), sink)
        await sink.done()
        assert isinstance(sink.error, UpstreamTimeout)
        assert message in sink.error.message
        await asyncio.wait_for(closed.wait(), PATIENCE)
        assert one.in_flight == 0


async def test_steady_streams_are_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    """They may take long as a whole. The time is the test's: that of the machine is chance."""
    look, now = RemoteCall.check, 0.0
    monkeypatch.setattr(RemoteCall, "check", lambda *_: None)

    async def talk(peer: Peer) -> None:
        nonlocal now
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(12):
            await peer.send(b"1\r\nx\r\n")
            while len(sink.text) <= number:  # noqa: ASYNC110 - the sink has no event for it
                await asyncio.sleep(0.001)
            now += 30
            assert isinstance(call, RemoteCall)
            look(call, now)
        await peer.send(b"0\r\n\r\n")

    async with backend(talk, timeouts=Timeouts(first_token=40, idle=40, attempt=0)) as one:
        sink = Sink()
        call = one.submit(chat(), sink)
        assert isinstance(call, RemoteCall)
        now = call.began
        await sink.done()
        assert sink.text == "x" * 12
        assert now - call.began == pytest.approx(360)


async def test_cancelling_closes_upstream_at_once() -> None:
    closed = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n")
        await peer.gone()
        closed.set()

    async with backend(talk) as one:
        sink = Sink()
        call = one.submit(chat(), sink)
        await sink.some()
        count = len(sink.events)
        call.cancel()
        call.cancel()
        await asyncio.wait_for(closed.wait(), PATIENCE)
        assert len(sink.events) == count
        assert one.in_flight == 0


async def test_paused_call_is_not_idle() -> None:
    paused = asyncio.Event()

    async def talk(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n")
        await paused.wait()
        await peer.send(b"1\r\nb\r\n0\r\n\r\n")
        await peer.gone()

    async with backend(talk, timeouts=Timeouts(idle=0.2)) as one:
        sink = Sink()
        call = one.submit(chat(), sink)
        await sink.some()
        call.pause()  # type: ignore[attr-defined]
        paused.set()
        await asyncio.sleep(0.5)
        assert sink.text == "a"
        call.resume()  # type: ignore[attr-defined]
        await sink.done()
        assert sink.text == "ab"


async def test_missing_key_is_told_before_anything_is_sent() -> None:
    client = HttpClient()
    remote = connect(BackendConfig(name="o", kind="openai"), client, SAY, {})
    assert remote.backend.health().state == "failed"
    assert "OPENAI_API_KEY" in remote.backend.health().detail
    sink = Sink()
    remote.backend.submit(chat(), sink)
    await sink.done()
    assert isinstance(sink.error, UpstreamRefused)
    await client.close()


async def test_keys_are_not_repeated(caplog: pytest.LogCaptureFixture) -> None:
    """Neither in errors, although the server echoes it, nor in logs and representations."""
    caplog.set_level(logging.DEBUG)
    key = "sk-very-secret-0123456789"
    answer = b"HTTP/1.1 401 No\r\ncontent-length: %d\r\n\r\n%b"
    echoed = b"wrong key " + key.encode()
    environ = {"MY_KEY": key}
    async with (
        serve(answering(answer % (len(echoed), echoed))) as port,
        connected(port, None, environ, api_key="env:MY_KEY") as remote,
    ):
        sink = Sink()
        call = remote.backend.submit(chat(), sink)
        await remote.watcher.look()
        await sink.done()
        assert sink.error.message == "401: wrong key ***"
        shown = [remote, remote.backend, remote.backend.site, remote.backend.site.auth, call]
        assert key not in repr(shown)
        assert key not in repr(vars(remote.backend))
    direct = BackendConfig(name="x", kind="openai", api_key=key, headers={"authorization": key})
    assert key not in repr(direct)
    assert key not in caplog.text


async def test_features_and_operations() -> None:
    features = {"n": False, "min_p": True}
    async with backend(answering(), kind="openai-compatible", features=features) as one:
        assert "n" not in one.features
        assert "min_p" in one.features
        assert not one.relays("anthropic.messages")
        one.learn(
            Conformance(
                gained=frozenset(("n", "top_k")),
                lost=frozenset(("tools",)),
                operations={"anthropic.messages": True, "openai.completions": False},
            )
        )
        # What the configuration says wins.
        assert "n" not in one.features
        assert "top_k" in one.terms("m").features
        assert "tools" not in one.terms("m").features
        assert one.relays("anthropic.messages")
        assert not one.relays("openai.completions")


async def test_features_of_one_operation() -> None:
    """Ollama takes top_k in its own dialect; in OpenAI's it would be ignored without a word."""
    async with backend(answering(), kind="ollama") as one:
        assert "top_k" in one.terms("m", "ollama.chat").features
        assert "top_k" not in one.terms("m", "openai.chat").features
    async with backend(answering(), kind="ollama", features={"top_k": True}) as one:
        assert "top_k" in one.terms("m", "openai.chat").features


async def test_models_of_configuration_and_list() -> None:
    async with backend(answering(), models=("a", "b")) as one:
        one.set_models((ModelCard("a", 4096), ModelCard("z", 1)))
        assert [(card.name, card.context_length) for card in one.models()] == [
            ("a", 4096),
            ("b", 0),
        ]
        assert one.terms("a").context_length == 4096
    async with backend(answering()) as one:
        one.set_models((ModelCard("a", 4096), ModelCard("z", 1)))
        assert [card.name for card in one.models()] == ["a", "z"]


async def test_calls_are_freed_without_the_garbage_collector() -> None:
    answer = chunked(b"x", lines=EVENTS)
    broken = b"HTTP/1.1 500 No\r\ncontent-length: 1\r\n\r\nx"
    for pieces in (answer, broken):
        async with backend(answering(pieces)) as one:
            gc.collect()
            gc.disable()
            try:
                for _ in range(10):
                    sink = Sink()
                    one.submit(chat(), sink)
                    await sink.done()
                await until(lambda: not _calls())
            finally:
                gc.enable()


def _calls() -> list[object]:
    return [one for one in gc.get_objects() if isinstance(one, RemoteCall | Transfer)]


async def test_a_thousand_calls_leave_nothing_behind() -> None:
    async with backend(answering(chunked(b"x", lines=EVENTS)), max_connections=20) as one:
        sinks = [Sink() for _ in range(1000)]
        for sink in sinks:
            one.submit(chat(), sink)
        for sink in sinks:
            await sink.done()
            assert isinstance(sink.events[-1], Completed)
            assert any(isinstance(event, Delta) for event in sink.events)
        assert one.in_flight == 0
        assert one.site.pool.open <= 20
        assert one.site.pool.waiting == 0
