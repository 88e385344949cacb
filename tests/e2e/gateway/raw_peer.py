"""An upstream whose bytes a test writes itself, and that notices when its client hangs up.

with listen() as peer:
    peer.play(answer)        # async (Conversation) -> None; one call per request
    peer.wait_gone()
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

# Longest that anything here waits, in seconds. That a client goes must be seen sooner than that,
# and sooner than the longest limit of a configuration is over.
BOUND = 60.0
PATIENCE = 15.0


class Conversation:
    """One request and the connection that it came on."""

    def __init__(
        self,
        head: bytes,
        body: bytes,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.head = head
        self.body = body
        self.reader = reader
        self.writer = writer

    @property
    def path(self) -> str:
        """Of the request."""
        return self.head.split(b" ", 2)[1].decode()

    @property
    def asked(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)

    def send(self, data: bytes) -> None:
        """Raw bytes."""
        self.writer.write(data)

    def respond(
        self, body: bytes, status: int = 200, kind: str = "application/json", more: str = ""
    ) -> None:
        """A whole response; `more` are header lines, each ended by CRLF."""
        head = f"HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\n{more}"
        self.send(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def begin(self, kind: str = "text/event-stream", more: str = "") -> None:
        """The head of a stream."""
        head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{more}transfer-encoding: chunked\r\n"
        self.send(head.encode() + b"\r\n")

    def chunk(self, data: bytes) -> None:
        """A piece of it."""
        self.send(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self) -> None:
        """Its end."""
        self.send(b"0\r\n\r\n")

    async def break_off(self) -> None:
        """Reset the connection, once what was sent has left."""
        await self.writer.drain()
        await asyncio.sleep(0.05)
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more until the client goes."""
        await asyncio.sleep(BOUND)


Answer = Callable[[Conversation], Awaitable[None]]


def chat_chunk(text: str, finish: str | None = None) -> bytes:
    """One event of a stream of chat completions."""
    delta = {"content": text} if text else {}
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    base = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(base | {"choices": [choice]}).encode() + b"\n\n"


def usage_chunk(prompt: int, completion: int) -> bytes:
    """The last event before the end."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion}
    usage["total_tokens"] = prompt + completion
    base = {"id": "chatcmpl-up", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return b"data: " + json.dumps(base | {"choices": [], "usage": usage}).encode() + b"\n\n"


def chat_whole(text: str) -> bytes:
    """A chat completion."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    base = {"id": "chatcmpl-up", "object": "chat.completion", "created": 1, "model": "m"}
    return json.dumps(base | {"choices": [choice], "usage": usage}).encode()


DONE = b"data: [DONE]\n\n"


async def say(talk: Conversation, *pieces: str, usage: tuple[int, int] = (3, 2)) -> None:
    """A good answer, streamed or not as asked."""
    if not talk.asked.get("stream"):
        talk.respond(chat_whole("".join(pieces)))
        return
    talk.begin()
    for piece in pieces:
        talk.chunk(chat_chunk(piece))
    talk.chunk(chat_chunk("", "stop"))
    talk.chunk(usage_chunk(*usage))
    talk.chunk(DONE)
    talk.end()


class Peer:
    """One listening upstream."""

    def __init__(self) -> None:
        self.port = 0
        # Requests that were not looks at its health, in order, and those whose client has gone
        # before they were answered.
        self.talks: list[Conversation] = []
        self.gone = 0
        self._answer: Answer = _hello
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, answer: Answer) -> None:
        """Answer like this from now on, and forget what was seen."""
        with self._changed:
            self._answer = answer
            self.talks, self.gone = [], 0

    def wait(self, done: Callable[[Peer], bool], timeout: float = PATIENCE) -> None:
        """Wait until `done` holds."""
        with self._changed:
            assert self._changed.wait_for(lambda: done(self), timeout), vars(self)

    def wait_gone(self, count: int = 1, timeout: float = PATIENCE) -> None:
        """Wait until so many clients have hung up."""
        self.wait(lambda peer: peer.gone >= count, timeout)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                size = 0
                for line in head.lower().split(b"\r\n"):
                    if line.startswith(b"content-length:"):
                        size = int(line[15:])
                talk = Conversation(head, await reader.readexactly(size), reader, writer)
                if head.startswith(b"GET "):
                    talk.respond(b'{"object":"list","data":[{"id":"m","object":"model"}]}')
                elif not await self._converse(talk):
                    return
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _converse(self, talk: Conversation) -> bool:
        with self._changed:
            self.talks.append(talk)
            answer = self._answer
            self._changed.notify_all()
        work = asyncio.ensure_future(answer(talk))
        gone = asyncio.ensure_future(talk.reader.read(1))
        try:
            await asyncio.wait((work, gone), timeout=BOUND, return_when="FIRST_COMPLETED")
            if work.done():
                with suppress(ConnectionError):
                    work.result()
                    return not talk.writer.is_closing()
            with self._changed:
                self.gone += 1
                self._changed.notify_all()
            return False
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)


async def _hello(talk: Conversation) -> None:
    await say(talk, "Hello")


@contextmanager
def listen() -> Iterator[Peer]:
    """A peer on a free port, in a thread of its own."""
    peer = Peer()
    ready = threading.Event()
    stop: list[Callable[[], None]] = []

    async def run() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(lambda: loop.call_soon_threadsafe(over.set))
        server = await asyncio.start_server(peer.serve, "127.0.0.1", 0, limit=1 << 24, backlog=2048)
        peer.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name="raw-peer")
    thread.start()
    try:
        assert ready.wait(10)
        yield peer
    finally:
        stop[0]()
        thread.join(10)
        assert not thread.is_alive()
