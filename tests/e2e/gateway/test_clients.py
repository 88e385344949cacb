"""Clients that vanish or read slowly, silence, and answers that another server goes on with."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import anthropic
import httpx
import openai
import pytest

from tests.e2e.gateway.conftest import Line
from tests.e2e.gateway.raw_peer import Conversation, chat_chunk, say, usage_chunk
from tests.e2e.gateway.serving import DIALECTS, Dialect, health, post, wait_idle

TURN: Any = {"role": "user", "content": "Hi"}
EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())


def call(line: Line, dialect: Dialect, model: str, *, stream: bool) -> socket.socket:
    """A connection on which a request has been sent."""
    body = json.dumps(dialect.body(model, stream=stream)).encode()
    head = (
        f"POST {dialect.where(model, stream=stream)} HTTP/1.1\r\nhost: x\r\n"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    sock = socket.create_connection(("127.0.0.1", line.server.port))
    sock.sendall(head.encode() + body)
    return sock


def wait_queued(line: Line, name: str, count: int) -> None:
    """Wait until so many wait their turn at a route."""
    deadline = time.monotonic() + 15
    while True:
        (route,) = (one for one in health(line.server)["routes"] if one["name"] == name)
        if route["queued"] == count:
            return
        assert time.monotonic() < deadline, route
        time.sleep(0.005)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize("model", ["quiet", "queued"])
@EVERY
def test_hang_up_before_the_first_byte(
    line: Line, dialect: Dialect, model: str, stream: bool
) -> None:
    async def hangs(talk: Conversation) -> None:
        await talk.hang()

    line.first.play(hangs)
    with contextlib.closing(call(line, dialect, model, stream=stream)):
        line.first.wait(lambda peer: bool(peer.talks))
        if model == "queued":
            # It has one place: this one waits, and leaves the queue as it goes.
            with contextlib.closing(call(line, dialect, model, stream=stream)):
                wait_queued(line, model, 1)
            wait_queued(line, model, 0)
    line.first.wait_gone(1)
    assert len(line.first.talks) == 1


def test_hang_up_while_a_retry_is_waited_for(line: Line) -> None:
    async def is_down(talk: Conversation) -> None:
        talk.respond(b'{"error":{"message":"down"}}', status=503)

    # A machine that stops for longer than the retry waits has its chance, too.
    for _ in range(3):
        line.first.play(is_down)
        with contextlib.closing(call(line, DIALECTS["openai.chat"], "slow-retry", stream=False)):
            line.first.wait(lambda peer: bool(peer.talks))
        time.sleep(0.8)
        wait_idle(line.server)
        if len(line.first.talks) == 1:
            break
    else:
        pytest.fail("it is asked again for nobody")


def test_half_closed_client_counts_as_gone(line: Line) -> None:
    async def hangs(talk: Conversation) -> None:
        await talk.hang()

    line.first.play(hangs)
    with contextlib.closing(call(line, DIALECTS["openai.chat"], "quiet", stream=True)) as sock:
        line.first.wait(lambda peer: bool(peer.talks))
        sock.shutdown(socket.SHUT_WR)
        line.first.wait_gone(1)


def test_client_that_reads_slowly_gets_everything(line: Line) -> None:
    words = tuple(f"word {number} " for number in range(150))

    async def talks(talk: Conversation) -> None:
        await say(talk, *words)

    line.first.play(talks)
    dialect = DIALECTS["openai.chat"]
    with contextlib.closing(call(line, dialect, "quiet", stream=True)) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        got = b""
        while b"[DONE]" not in got:
            data = sock.recv(4096)
            assert data, got
            got += data
            time.sleep(0.002)
    stream = b"".join(one for one in got.split(b"\r\n") if one.startswith(b"data: "))
    assert dialect.text(stream, stream=True) == "".join(words)


def test_client_that_does_not_read_is_cut_off(line: Line) -> None:
    """Its output is bounded, and the upstream does not go on for nobody."""

    async def floods(talk: Conversation) -> None:
        talk.begin()
        piece = chat_chunk("x" * 60_000)
        for _ in range(500):
            talk.chunk(piece)
            await talk.writer.drain()
        await talk.hang()

    line.first.play(floods)
    with contextlib.closing(call(line, DIALECTS["openai.chat"], "quiet", stream=True)):
        line.first.wait_gone(1)
    assert "slow reader" in line.server.log.read_text()


async def opened(gate: threading.Event) -> None:
    """Wait for another thread."""
    while not gate.is_set():  # noqa: ASYNC110 - set by another thread
        await asyncio.sleep(0.01)


def commented(line: Line, dialect: Dialect, gate: threading.Event, count: int) -> tuple[int, bytes]:
    """The status and the bytes of a stream whose upstream says no more before `gate` is open.

    It is opened once so many comments have come.
    """
    url = f"{line.server.url}{dialect.where('quiet', stream=True)}"
    body = dialect.body("quiet", stream=True)
    got = b""
    with httpx.stream("POST", url, json=body, timeout=15, verify=False) as response:
        for data in response.iter_raw():
            got += data
            if got.count(b": keep-alive\n\n") >= count:
                gate.set()
    assert gate.is_set(), got
    return response.status_code, got


SILENCE = [one for one in DIALECTS.values() if not one.ndjson]


@pytest.mark.parametrize("begun", [False, True], ids=["waiting", "begun"])
@pytest.mark.parametrize("dialect", SILENCE, ids=[one.name for one in SILENCE])
def test_silence_is_broken_by_comments(lively: Line, dialect: Dialect, begun: bool) -> None:
    gate = threading.Event()

    async def pauses(talk: Conversation) -> None:
        talk.begin()
        if begun:
            talk.chunk(_piece(talk, "first "))
            talk.chunk(_piece(talk, "second "))
        await opened(gate)
        talk.chunk(_piece(talk, "last", finish="stop"))
        talk.chunk(b"data: [DONE]\n\n")
        talk.end()

    lively.first.play(pauses)
    status, content = commented(lively, dialect, gate, 2)
    assert status == 200
    assert dialect.text(content, stream=True) == ("first second last" if begun else "last")


def test_lines_of_json_have_no_comments(lively: Line) -> None:
    async def pauses(talk: Conversation) -> None:
        await asyncio.sleep(0.35)
        await say(talk, "late")

    lively.first.play(pauses)
    dialect = DIALECTS["ollama.chat"]
    response = post(lively.server, dialect.path, dialect.body("quiet", stream=True), timeout=20)
    assert dialect.text(response.content, stream=True) == "late"
    assert b"keep-alive" not in response.content


def test_error_after_a_comment_is_told_in_the_stream(lively: Line) -> None:
    gate = threading.Event()

    async def fails_late(talk: Conversation) -> None:
        await opened(gate)
        talk.respond(b'{"error":{"message":"no more"}}', status=500)

    lively.first.play(fails_late)
    for name in ("openai.chat", "anthropic.messages", "openai.responses"):
        dialect = DIALECTS[name]
        gate.clear()
        status, content = commented(lively, dialect, gate, 1)
        assert status == 200
        assert "no more" in dialect.error(content, stream=True)


def test_vendors_clients_pass_comments_over(lively: Line) -> None:
    async def pauses(talk: Conversation) -> None:
        await asyncio.sleep(0.5)
        await say(talk, "all", " there")

    lively.first.play(pauses)
    url = lively.server.url
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="-", max_retries=0) as client,
        client.chat.completions.create(model="quiet", messages=[TURN], stream=True) as stream,
    ):
        said = [chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices]
    assert "".join(said) == "all there"
    with (
        anthropic.Anthropic(base_url=url, api_key="-", max_retries=0) as other,
        other.messages.stream(model="quiet", max_tokens=9, messages=[TURN]) as events,
    ):
        assert "".join(events.text_stream) == "all there"


def test_comments_of_an_upstream_are_no_answer(line: Line) -> None:
    """Another server may still be asked."""

    async def comments_and_fails(talk: Conversation) -> None:
        talk.begin()
        talk.chunk(b": keep-alive\n\n")
        await talk.writer.drain()
        await asyncio.sleep(0.1)
        talk.chunk(b": keep-alive\n\n")
        talk.chunk(b'data: {"error":{"message":"sorry"}}\n\n')
        talk.end()

    line.first.play(comments_and_fails)
    line.second.play(lambda talk: say(talk, "All", " well"))
    dialect = DIALECTS["openai.chat"]
    response = post(line.server, dialect.path, dialect.body("pair", stream=True), timeout=20)
    assert dialect.text(response.content, stream=True) == "All well", response.text


def _piece(talk: Conversation, text: str, finish: str | None = None) -> bytes:
    """One event of a stream at the path that was asked."""
    if talk.path.endswith("/chat/completions"):
        return chat_chunk(text, finish)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": finish}
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: " + json.dumps(chunk | {"choices": [choice]}).encode() + b"\n\n"


# An answer that breaks off, and another server that goes on with it.


async def breaks_off(talk: Conversation) -> None:
    talk.begin()
    for piece in ("The quick ", "brown fox "):
        talk.chunk(_piece(talk, piece))
    await talk.break_off()


async def goes_on(talk: Conversation) -> None:
    assert "The quick brown fox" in talk.body.decode()
    talk.begin()
    talk.chunk(_piece(talk, "jumps "))
    talk.chunk(_piece(talk, "over.", finish="stop"))
    if talk.path.endswith("/chat/completions"):
        talk.chunk(usage_chunk(9, 2))
    talk.chunk(b"data: [DONE]\n\n")
    talk.end()


@pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
def test_another_server_goes_on(line: Line, dialect: Dialect) -> None:
    line.first.play(breaks_off)
    line.second.play(goes_on)
    response = post(
        line.server,
        dialect.where("going-on", stream=True),
        dialect.body("going-on", stream=True),
        timeout=20,
    )
    assert response.status_code == 200
    assert not dialect.error(response.content, stream=True), response.text
    said = dialect.text(response.content, stream=True)
    assert said == "The quick brown fox jumps over.", response.text
    assert len(line.second.talks) == 1


def test_vendors_client_of_a_relayed_stream_that_goes_on(line: Line) -> None:
    """The bytes of one server, then those that we make of another's: still one answer."""
    line.first.play(breaks_off)
    line.second.play(goes_on)
    with (
        openai.OpenAI(base_url=f"{line.server.url}/v1", api_key="-", max_retries=0) as client,
        client.chat.completions.create(
            model="going-on",
            messages=[TURN],
            stream=True,
            stream_options={"include_usage": True},
        ) as stream,
    ):
        chunks = list(stream)
    said = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert "".join(said) == "The quick brown fox jumps over."
    finished = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in finished if reason] == ["stop"]
    seen = {(chunk.id, chunk.created, chunk.model) for chunk in chunks}
    assert seen == {("chatcmpl-up", 1, "going-on")}
    usage = chunks[-1].usage
    assert usage is not None
    assert usage.completion_tokens == 4


_MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "m",
    "content": [],
    "stop_reason": None,
    "stop_sequence": None,
    "usage": {"input_tokens": 3, "output_tokens": 1},
}


def _event(kind: str, **fields: object) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind} | fields)}\n\n".encode()


def _messages(*pieces: str, ends: bool) -> Iterator[bytes]:
    yield _event("message_start", message=_MESSAGE)
    yield _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for piece in pieces:
        delta = {"type": "text_delta", "text": piece}
        yield _event("content_block_delta", index=0, delta=delta)
    if ends:
        yield _event("content_block_stop", index=0)
        stop = {"stop_reason": "end_turn", "stop_sequence": None}
        yield _event("message_delta", delta=stop, usage={"output_tokens": len(pieces)})
        yield _event("message_stop")


def test_anthropics_client_of_a_relayed_stream_that_goes_on(line: Line) -> None:
    async def breaks(talk: Conversation) -> None:
        talk.begin()
        for event in _messages("The quick ", "brown fox ", ends=False):
            talk.chunk(event)
        await talk.break_off()

    async def continues(talk: Conversation) -> None:
        assert "The quick brown fox" in talk.body.decode()
        talk.begin()
        for event in _messages("jumps ", "over.", ends=True):
            talk.chunk(event)
        talk.end()

    line.first.play(breaks)
    line.second.play(continues)
    with (
        anthropic.Anthropic(base_url=line.server.url, api_key="-", max_retries=0) as client,
        client.messages.stream(model="messages", max_tokens=64, messages=[TURN]) as stream,
    ):
        kinds = [event.type for event in stream]
        message = stream.get_final_message()
    assert kinds.count("message_start") == 1
    assert [block.text for block in message.content] == ["The quick brown fox jumps over."]  # type: ignore[union-attr]
    assert message.stop_reason == "end_turn"


def _response(*pieces: str) -> Iterator[bytes]:
    """The events of a response so far."""
    number = 0

    def event(kind: str, **fields: Any) -> bytes:
        nonlocal number
        told = {"type": f"response.{kind}", "sequence_number": number, **fields}
        number += 1
        return f"event: response.{kind}\ndata: {json.dumps(told)}\n\n".encode()

    response = {"id": "resp_up", "object": "response", "created_at": 7, "status": "in_progress"}
    response |= {"model": "m", "output": [], "tools": [], "tool_choice": "auto"}
    item = {"id": "msg_up", "type": "message", "status": "in_progress", "role": "assistant"}
    part = {"type": "output_text", "text": "", "annotations": []}
    at = {"item_id": "msg_up", "output_index": 0, "content_index": 0}
    yield event("created", response=response)
    yield event("in_progress", response=response)
    yield event("output_item.added", output_index=0, item=item | {"content": []})
    yield event("content_part.added", **at, part=part)
    for piece in pieces:
        yield event("output_text.delta", **at, delta=piece)


def test_openais_client_of_a_relayed_response_that_goes_on(line: Line) -> None:
    async def breaks(talk: Conversation) -> None:
        talk.begin()
        for event in _response("The quick ", "brown fox "):
            talk.chunk(event)
        await talk.break_off()

    async def continues(talk: Conversation) -> None:
        assert "The quick brown fox" in talk.body.decode()
        await say(talk, "jumps ", "over.")

    line.first.play(breaks)
    line.second.play(continues)
    with openai.OpenAI(base_url=f"{line.server.url}/v1", api_key="-", max_retries=0) as client:
        with client.responses.stream(model="responses", input="Hi") as stream:
            events = list(stream)
            response = stream.get_final_response()
        # Nobody but us has the whole.
        kept = client.responses.retrieve("resp_up")
        client.responses.delete("resp_up")
    assert [event.sequence_number for event in events] == list(range(len(events)))
    assert {event.item_id for event in events if hasattr(event, "item_id")} == {"msg_up"}
    assert response.output_text == "The quick brown fox jumps over."
    assert (response.id, response.created_at, response.model) == ("resp_up", 7, "responses")
    assert kept.output_text == response.output_text


def test_nothing_is_left_behind(line: Line, lively: Line) -> None:
    for one in (line, lively):
        wait_idle(one.server)
        log = one.server.log.read_text()
        assert "Traceback" not in log, log[log.index("Traceback") :][:3000]


def test_health_answers_while_streams_hang(line: Line) -> None:
    async def hangs(talk: Conversation) -> None:
        await talk.hang()

    line.first.play(hangs)
    with contextlib.closing(call(line, DIALECTS["openai.chat"], "quiet", stream=True)):
        line.first.wait(lambda peer: bool(peer.talks))
        page = httpx.get(f"{line.server.url}/health", timeout=30)
        assert page.status_code == 200
        busy = next(r for r in page.json()["routes"] if r["name"] == "quiet")
        assert busy["targets"][0]["in_flight"] == 1
    line.first.wait_gone()
