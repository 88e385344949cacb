"""Upstreams that fail in every way we could think of, seen by clients of every dialect."""

from __future__ import annotations

import asyncio
import json
import time

import httpx
import pytest

from tests.e2e.gateway.conftest import KEY, Line
from tests.e2e.gateway.raw_peer import (
    DONE,
    Answer,
    Conversation,
    chat_chunk,
    chat_whole,
    say,
    usage_chunk,
)
from tests.e2e.gateway.serving import DIALECTS, Dialect, post, wait_idle

EVERY = pytest.mark.parametrize("dialect", DIALECTS.values(), ids=DIALECTS.keys())
BOTH = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


def ask(
    line: Line, model: str, *, stream: bool = False, dialect: str = "openai.chat"
) -> httpx.Response:
    spoken = DIALECTS[dialect]
    body = spoken.body(model, stream=stream)
    return post(line.server, spoken.where(model, stream=stream), body, timeout=20)


async def dies_at_once(talk: Conversation) -> None:
    await talk.break_off()


async def hangs(talk: Conversation) -> None:
    await talk.hang()


async def hangs_after_the_head(talk: Conversation) -> None:
    talk.begin("text/event-stream" if talk.asked["stream"] else "application/json")
    await talk.hang()


async def is_garbage(talk: Conversation) -> None:
    talk.send(b"\x00\xff\x01 this is not HTTP\r\n\r\n")
    await talk.hang()


async def is_no_json(talk: Conversation) -> None:
    talk.respond(b"<html>Welcome!</html>", kind="text/html")


async def is_another_json(talk: Conversation) -> None:
    talk.respond(b'["what", "is", "this"]')


async def is_empty(talk: Conversation) -> None:
    talk.respond(b"")


async def streams_garbage(talk: Conversation) -> None:
    talk.begin()
    talk.chunk(b"data: {this is no json}\n\n")
    talk.end()


async def has_a_huge_head(talk: Conversation) -> None:
    talk.respond(chat_whole("Hi"), more="".join(f"x-h{i}: {'v' * 1000}\r\n" for i in range(200)))


async def has_one_huge_header(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\nx-long: ")
    for _ in range(200):
        talk.send(b"v" * 1000)
        await asyncio.sleep(0)
    await talk.hang()


async def fails_inside(talk: Conversation) -> None:
    body = json.dumps({"error": {"message": f"no GPU for Bearer {KEY}", "type": "server_error"}})
    talk.respond(body.encode(), status=500)


async def fails_in_html(talk: Conversation) -> None:
    talk.respond(b"<html><h1>502 Bad Gateway</h1></html>", status=502, kind="text/html")


async def refuses_the_key(talk: Conversation) -> None:
    told = {"error": {"message": f"Incorrect API key provided: {KEY}", "type": "invalid"}}
    talk.respond(json.dumps(told).encode(), status=401)


async def redirects(talk: Conversation) -> None:
    talk.respond(b"", status=307, more="location: http://127.0.0.1:9/elsewhere\r\n")


async def switches_protocols(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n")
    await talk.hang()


async def dies_within_the_head(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-ty")
    await talk.break_off()


async def promises_more(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{")
    await talk.break_off()


# (what the upstream does, status that clients of OpenAI's dialect see)
FAULTS: list[tuple[Answer, int]] = [
    (dies_at_once, 502),
    (hangs, 504),
    (hangs_after_the_head, 504),
    (is_garbage, 502),
    (is_no_json, 502),
    (is_another_json, 502),
    (is_empty, 502),
    (streams_garbage, 502),
    (has_a_huge_head, 502),
    (has_one_huge_header, 502),
    (fails_inside, 502),
    (fails_in_html, 502),
    (refuses_the_key, 502),
    (redirects, 502),
    (switches_protocols, 502),
    (dies_within_the_head, 502),
    (promises_more, 502),
]
_NAMES = [answer.__name__ for answer, _ in FAULTS]


@BOTH
@pytest.mark.parametrize(("answer", "status"), FAULTS, ids=_NAMES)
def test_fault_before_the_first_byte(line: Line, answer: Answer, status: int, stream: bool) -> None:
    line.first.play(answer)
    response = ask(line, "solo", stream=stream)
    assert response.status_code == status, response.text
    assert response.headers["content-type"].startswith("application/json")
    assert response.json()["error"]["message"]
    assert KEY not in response.text
    assert response.headers["x-trunkline-backend"] == "first"


@BOTH
@pytest.mark.parametrize(("answer", "status"), FAULTS, ids=_NAMES)
def test_another_server_helps(line: Line, answer: Answer, status: int, stream: bool) -> None:
    line.first.play(answer)
    line.second.play(lambda talk: say(talk, "All", " well"))
    response = ask(line, "pair", stream=stream)
    assert response.status_code == 200, response.text
    assert DIALECTS["openai.chat"].text(response.content, stream=stream) == "All well"
    assert response.headers["x-trunkline-backend"] == "second"
    assert response.headers["x-trunkline-fallbacks"] == "1"
    assert len(line.second.talks) == 1


def test_connection_refused(line: Line) -> None:
    response = ask(line, "refusing")
    assert response.status_code == 502
    assert "gone" in response.json()["error"]["message"]


@EVERY
@BOTH
def test_error_in_every_dialect(line: Line, dialect: Dialect, stream: bool) -> None:
    line.first.play(fails_inside)
    response = ask(line, "solo", stream=stream, dialect=dialect.name)
    assert response.status_code >= 500
    assert "no GPU" in dialect.error(response.content)
    assert KEY not in response.text


@EVERY
def test_stream_that_breaks_off_ends_with_an_error(line: Line, dialect: Dialect) -> None:
    async def breaks(talk: Conversation) -> None:
        talk.begin()
        for piece in ("one ", "two ", "three"):
            talk.chunk(_piece(talk, piece))
        await talk.break_off()

    line.first.play(breaks)
    response = ask(line, "solo", stream=True, dialect=dialect.name)
    assert response.status_code == 200
    assert dialect.error(response.content, stream=True), response.text
    said = dialect.text(response.content, stream=True)
    assert "one two three".startswith(said.strip()), response.text
    assert said


def _piece(talk: Conversation, text: str) -> bytes:
    """One event of a stream at the path that was asked."""
    if talk.path.endswith("/chat/completions"):
        return chat_chunk(text)
    choice = {"index": 0, "text": text, "logprobs": None, "finish_reason": None}
    chunk = {"id": "c", "object": "text_completion", "created": 1, "model": "m"}
    return b"data: " + json.dumps(chunk | {"choices": [choice]}).encode() + b"\n\n"


def test_silence_after_the_first_byte(line: Line) -> None:
    async def stalls(talk: Conversation) -> None:
        talk.begin()
        talk.chunk(chat_chunk("so far"))
        await talk.hang()

    line.first.play(stalls)
    response = ask(line, "solo", stream=True)
    dialect = DIALECTS["openai.chat"]
    assert dialect.text(response.content, stream=True) == "so far"
    assert "sent nothing more" in dialect.error(response.content, stream=True)
    line.first.wait_gone()


def test_slow_head(line: Line) -> None:
    async def trickles(talk: Conversation) -> None:
        body = chat_whole("at last")
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        for byte in head.encode() + b"\r\n\r\n":
            talk.send(bytes((byte,)))
            await asyncio.sleep(0.004)
        for start in range(0, len(body), 7):
            talk.send(body[start : start + 7])
            await asyncio.sleep(0.002)

    line.first.play(trickles)
    response = ask(line, "quiet")
    assert response.json()["choices"][0]["message"]["content"] == "at last"


def test_a_head_that_never_ends_is_not_waited_for(line: Line) -> None:
    async def dribbles(talk: Conversation) -> None:
        talk.send(b"HTTP/1.1 200 OK\r\n")
        # Longer than the client waits, which is told before that.
        for number in range(600):
            talk.send(b"x-%d: y\r\n" % number)
            await asyncio.sleep(0.1)

    line.first.play(dribbles)
    assert ask(line, "solo").status_code == 504
    line.first.wait_gone()


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream", "", "APPLICATION/JSON"])
def test_wrong_content_type_of_a_good_whole_answer(line: Line, kind: str) -> None:
    async def mislabels(talk: Conversation) -> None:
        talk.respond(chat_whole("fine"), kind=kind)

    line.first.play(mislabels)
    response = ask(line, "solo")
    assert response.status_code == 200, response.text
    assert response.json()["choices"][0]["message"]["content"] == "fine"
    assert response.headers["content-type"] == "application/json"


def test_whole_answer_to_who_asked_for_a_stream(line: Line) -> None:
    async def does_not_stream(talk: Conversation) -> None:
        talk.respond(chat_whole("in one piece"))

    line.first.play(does_not_stream)
    response = ask(line, "solo", stream=True)
    # Nothing has gone out yet, so that another backend could be asked.
    assert response.status_code == 502
    assert "a stream was asked for" in response.json()["error"]["message"]


def test_stream_to_who_asked_for_none(line: Line) -> None:
    async def streams(talk: Conversation) -> None:
        talk.begin()
        for data in (chat_chunk("in "), chat_chunk("pieces"), chat_chunk("", "stop")):
            talk.chunk(data)
        talk.chunk(usage_chunk(3, 2))
        talk.chunk(DONE)
        talk.end()

    line.first.play(streams)
    response = ask(line, "solo")
    assert response.status_code == 502
    assert "none was asked for" in response.json()["error"]["message"]


def test_stream_in_the_smallest_pieces(line: Line) -> None:
    text = ("naïve ", "東京 ", "🚂", "done")

    async def drips(talk: Conversation) -> None:
        talk.begin()
        stream = b"".join(map(chat_chunk, text)) + chat_chunk("", "stop") + usage_chunk(3, 4)
        for byte in stream.replace(b"\n\n", b"\r\n\r\n") + DONE:
            talk.chunk(bytes((byte,)))
            await asyncio.sleep(0)
        talk.end()

    line.first.play(drips)
    response = ask(line, "solo", stream=True)
    assert response.status_code == 200, response.text
    said = DIALECTS["openai.chat"].text(response.content, stream=True)
    assert said == "".join(text), response.text


@pytest.mark.parametrize("name", [one.name for one in DIALECTS.values() if one.chats])
def test_stream_from_a_server_that_has_none(line: Line, name: str) -> None:
    """It is asked for the whole answer, and the client gets that as a stream."""
    asked: list[bool] = []

    async def is_whole(talk: Conversation) -> None:
        asked.append(talk.asked.get("stream", False))
        talk.respond(chat_whole("All at once"))

    line.first.play(is_whole)
    response = ask(line, "streamless", stream=True, dialect=name)
    assert response.status_code == 200, response.text
    assert DIALECTS[name].text(response.content, stream=True) == "All at once"
    assert asked == [False]


@pytest.mark.parametrize("way", ["retry-after", "retry-after-ms", "date"])
def test_rate_limit_is_waited_for(line: Line, way: str) -> None:
    """A second try at the same server waits as long as it said."""
    times: list[float] = []
    fields = {
        "retry-after": "retry-after: 1\r\n",
        "retry-after-ms": "retry-after-ms: 700\r\n",
        "date": "",
    }

    async def limits(talk: Conversation) -> None:
        times.append(time.monotonic())
        if len(times) == 1:
            more = fields[way]
            if way == "date":
                when = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + 2))
                now = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime())
                more = f"retry-after: {when}\r\ndate: {now}\r\n"
            told = b'{"error":{"message":"slow down","type":"rate_limit"}}'
            talk.respond(told, status=429, more=more)
        else:
            await say(talk, "Now")

    async def is_down(talk: Conversation) -> None:
        talk.respond(b'{"error":{"message":"down"}}', status=503)

    line.first.play(limits)
    response = ask(line, "patient")
    assert response.status_code == 200, response.text
    assert response.headers["x-trunkline-retries"] == "1"
    assert times[1] - times[0] > 0.6


def test_rate_limit_is_told(line: Line) -> None:
    async def limits(talk: Conversation) -> None:
        told = b'{"error":{"message":"slow down","type":"rate_limit"}}'
        talk.respond(told, status=429, more="retry-after: 77\r\n")

    line.first.play(limits)
    for dialect in DIALECTS.values():
        response = ask(line, "limited", dialect=dialect.name)
        assert response.status_code in (429, 503), (dialect.name, response.text)
        # What is left of it when the answer leaves.
        assert 60 < int(response.headers["retry-after"]) <= 77, dialect.name
        assert "slow down" in dialect.error(response.content)


def test_dead_kept_connections_are_not_held_against_a_request(line: Line) -> None:
    """Half-open: the upstream has forgotten the connection, which we only see when we write."""
    seen: list[int] = []

    async def forgets(talk: Conversation) -> None:
        seen.append(id(talk.writer))
        await say(talk, "Hello")
        await talk.writer.drain()
        if len(seen) % 2:
            talk.writer.transport.abort()

    line.first.play(forgets)
    for _ in range(6):
        response = ask(line, "solo")
        assert response.status_code == 200, response.text


def test_nothing_is_left_behind(line: Line) -> None:
    wait_idle(line.server)
    log = line.server.log.read_text()
    assert KEY not in log
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
