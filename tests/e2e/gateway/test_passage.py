"""Whole answers take a short way through the gateway; leaving it midway loses nothing.

The same calls end the same whether the answer comes at once, in pieces, or not at all. Heads are
known from the second answer on, so each case comes after two good ones.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import Any

import httpx
import pytest

from tests.e2e.gateway.conftest import Line
from tests.e2e.gateway.raw_peer import Answer, Conversation, chat_whole, say
from tests.e2e.gateway.serving import DIALECTS, post, targets, wait_idle

_CHAT = "/v1/chat/completions"
_GOOD = chat_whole("Hello")


def ask(line: Line, model: str, dialect: str = "openai.chat") -> httpx.Response:
    spoken = DIALECTS[dialect]
    return post(line.server, spoken.where(model, stream=False), spoken.body(model, stream=False))


def warm(line: Line, model: str = "solo") -> None:
    """Both sides know the heads."""

    async def good(talk: Conversation) -> None:
        await say(talk, "Hello")

    line.first.play(good)
    for _ in range(2):
        assert ask(line, model).status_code == 200


def count(line: Line, target: str = "solo: first/m") -> dict[str, Any]:
    return wait_idle(line.server)[target]


async def in_two_pieces(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    talk.send(b"content-length: %d\r\n\r\n" % len(_GOOD))
    await talk.writer.drain()
    await asyncio.sleep(0.05)
    talk.send(_GOOD)


async def in_small_pieces(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    talk.send(b"content-length: %d\r\n\r\n" % len(_GOOD))
    for at in range(0, len(_GOOD), 50):
        await talk.writer.drain()
        await asyncio.sleep(0.005)
        talk.send(_GOOD[at : at + 50])


async def in_chunks(talk: Conversation) -> None:
    talk.begin("application/json")
    talk.chunk(_GOOD[:20])
    await talk.writer.drain()
    await asyncio.sleep(0.02)
    talk.chunk(_GOOD[20:])
    talk.end()


async def with_charset(talk: Conversation) -> None:
    talk.respond(_GOOD, kind="application/json; charset=utf-8")


async def until_the_end(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n" + _GOOD)
    await talk.writer.drain()
    talk.writer.close()


@pytest.mark.parametrize(
    "answer", [in_two_pieces, in_small_pieces, in_chunks, with_charset, until_the_end]
)
def test_every_way_in_which_an_answer_comes(line: Line, answer: Answer) -> None:
    warm(line)
    before = count(line)
    line.first.play(answer)
    for _ in range(3):
        response = ask(line, "solo")
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == "Hello"
        assert response.headers["x-trunkline-backend"] == "first"
        assert response.headers["x-trunkline-retries"] == "0"
    after = count(line)
    assert after["successes"] - before["successes"] == 3
    assert after["completion_tokens"] - before["completion_tokens"] == 6


async def breaks_off(talk: Conversation) -> None:
    await talk.break_off()


async def refuses(talk: Conversation) -> None:
    talk.respond(b'{"error":{"message":"no","type":"server_error"}}', status=500)


async def is_late(talk: Conversation) -> None:
    await talk.hang()


async def is_late_in_the_middle(talk: Conversation) -> None:
    talk.send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n")
    talk.send(b"content-length: %d\r\n\r\n" % len(_GOOD) + _GOOD[:30])
    await talk.hang()


async def is_an_error(talk: Conversation) -> None:
    """Of the same length, so behind a head that is known."""
    body = b'{"error": {"message": "broken", "type": "server_error"}}'
    talk.respond(body.ljust(len(_GOOD)))


async def is_no_json(talk: Conversation) -> None:
    talk.respond(b"x" * len(_GOOD))


async def has_no_choices(talk: Conversation) -> None:
    talk.respond(b"{}".ljust(len(_GOOD)))


FAULTS = pytest.mark.parametrize(
    "answer",
    [
        breaks_off,
        refuses,
        is_late,
        is_late_in_the_middle,
        is_an_error,
        is_no_json,
        has_no_choices,
    ],
)


@FAULTS
def test_a_fault_is_told_and_counted(line: Line, answer: Answer) -> None:
    warm(line)
    before = count(line)
    line.first.play(answer)
    response = ask(line, "solo")
    assert response.status_code in (500, 502, 503, 504), response.text
    assert response.json()["error"]["message"]
    after = count(line)
    assert after["successes"] == before["successes"]
    assert sum(after["failures"].values()) == sum(before["failures"].values()) + 1
    warm(line)


@FAULTS
def test_another_target_helps(line: Line, answer: Answer) -> None:
    warm(line, "pair")
    line.first.play(answer)
    response = ask(line, "pair")
    assert response.status_code == 200, response.text
    assert response.headers["x-trunkline-backend"] == "second"
    assert response.headers["x-trunkline-fallbacks"] == "1"


@FAULTS
def test_a_target_of_another_dialect_helps(line: Line, answer: Answer) -> None:
    """Only then is the body decoded."""
    warm(line, "mixed")
    line.first.play(answer)

    async def speaks_messages(talk: Conversation) -> None:
        assert talk.path == "/v1/messages"
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "m",
            "content": [{"type": "text", "text": "Bonjour"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": {"input_tokens": 3, "output_tokens": 2},
        }
        if not talk.asked.get("stream"):
            talk.respond(json.dumps(message).encode())
            return
        text = {"type": "text_delta", "text": "Bonjour"}
        begun = {**message, "content": [], "stop_reason": None}
        block = {"type": "text", "text": ""}
        end = {"stop_reason": "end_turn", "stop_sequence": None}
        talk.begin()
        for event in (
            {"type": "message_start", "message": begun},
            {"type": "content_block_start", "index": 0, "content_block": block},
            {"type": "content_block_delta", "index": 0, "delta": text},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": end, "usage": {"output_tokens": 2}},
            {"type": "message_stop"},
        ):
            data = json.dumps(event)
            talk.chunk(f"event: {event['type']}\ndata: {data}\n\n".encode())
        talk.end()

    line.second.play(speaks_messages)
    try:
        response = ask(line, "mixed")
        assert response.status_code == 200, response.text
        assert response.json()["choices"][0]["message"]["content"] == "Bonjour"
        assert response.headers["x-trunkline-backend"] == "claude-2"
    finally:
        warm(Line(line.server, line.second, line.first), "turned")


def leave(line: Line) -> None:
    """Ask, and go once the backend has been asked, which is to notice."""
    host, port = line.server.url.removeprefix("http://").split(":")
    body = json.dumps(DIALECTS["openai.chat"].body("quiet", stream=False)).encode()
    head = f"POST {_CHAT} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
    with socket.create_connection((host, int(port))) as client:
        client.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        line.first.wait(lambda peer: len(peer.talks) == 1)
    line.first.wait_gone()


def test_a_client_that_leaves(line: Line) -> None:
    """Its backend stops at once, and the call is counted as given up."""
    warm(line, "quiet")
    before = count(line, "quiet: quiet/m")
    line.first.play(is_late)
    leave(line)
    after = count(line, "quiet: quiet/m")
    assert after["cancelled"] == before["cancelled"] + 1
    assert after["successes"] == before["successes"]


def test_clients_that_leave_in_the_middle_of_an_answer(line: Line) -> None:
    warm(line, "quiet")
    line.first.play(is_late_in_the_middle)
    leave(line)
    count(line)


def test_other_names_of_a_model(line: Line) -> None:
    """The client sees the name that it asked for, the server its own."""
    warm(line)
    for _ in range(3):
        response = ask(line, "renamed")
        assert response.status_code == 200, response.text
        assert response.json()["model"] == "renamed"
        assert line.first.talks[-1].asked["model"] == "m"


def test_every_target_has_its_turn(line: Line) -> None:
    """Also where only one of them takes the short way: choosing happens once."""
    warm(line)
    before = targets(line.server)
    for _ in range(10):
        assert ask(line, "turns").status_code in (200, 502)
    after = wait_idle(line.server)
    for name in ("turns: first/m", "turns: claude-2/m"):
        assert after[name]["requests"] - before[name]["requests"] == 5, name


def test_nothing_is_left_behind(line: Line) -> None:
    wait_idle(line.server)
    log = line.server.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") :][:3000]
