"""A stand-in for an engine: answers paths with what it is given, and counts."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping
from typing import Any

import msgspec

from tests.backends.http.peer import Peer, serve

Answer = tuple[int, str, bytes]
Reply = Answer | Callable[[Any], Answer]


def answer(told: Any, status: int = 200) -> Answer:
    """JSON."""
    return status, "application/json", msgspec.json.encode(told)


class Engine:
    """Path -> reply; a callable gets the decoded body. Unknown paths are answered 404."""

    def __init__(self, replies: Mapping[str, Reply]) -> None:
        self.replies = dict(replies)
        self.asked: list[str] = []
        self.methods: list[str] = []
        self.bodies: list[Any] = []

    async def talk(self, peer: Peer) -> None:
        """Answer one connection."""
        while True:
            request = await peer.request()
            method, path, _ = request.decode().split(" ", 2)
            body = request.partition(b"\r\n\r\n")[2]
            self.asked.append(path)
            self.methods.append(method)
            told = msgspec.json.decode(body) if body else None
            self.bodies.append(told)
            reply = self.replies.get(path, answer({"error": "no such path"}, 404))
            status, kind, data = reply(told) if callable(reply) else reply
            head = f"HTTP/1.1 {status} X\r\ncontent-type: {kind}\r\ncontent-length: {len(data)}"
            await peer.send(head.encode() + b"\r\n\r\n" + data)

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[int]:
        """Yields the port."""
        async with serve(self.talk) as port:
            yield port
