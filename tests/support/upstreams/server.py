"""An HTTP/1.1 server in a thread of its own, that answers by scripts and notes what comes.

with start("openai", Script(pieces=("Hi",))) as upstream:
    ...  # upstream.url, upstream.requests, upstream.cancelled
"""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from tests.support.upstreams.anthropic import answer as anthropic
from tests.support.upstreams.anthropic import on_vertex
from tests.support.upstreams.bedrock import answer as bedrock
from tests.support.upstreams.cohere import answer as cohere
from tests.support.upstreams.gemini import answer as gemini
from tests.support.upstreams.ollama import answer as ollama
from tests.support.upstreams.openai import answer as openai
from tests.support.upstreams.openai import mistral
from tests.support.upstreams.script import Dialect, Reply, Script, Seen
from tests.support.upstreams.tgi import answer as tgi

DIALECTS: dict[str, Dialect] = {
    "openai": openai,
    "anthropic": anthropic,
    "gemini": gemini,
    "vertex": gemini,
    "vertex-claude": on_vertex,
    "cohere": cohere,
    "mistral": mistral,
    "bedrock": bedrock,
    "ollama": ollama,
    "tgi": tgi,
}

GARBAGE = b"\x00\xff<html>this is no answer</html>\n\n"
# Longest that anything here waits, in seconds.
_BOUND = 60.0

Rule = Script | Sequence[Script] | Callable[[Seen], Script]


class Upstream:
    """One running stand-in."""

    def __init__(self, dialect: Dialect, rule: Rule) -> None:
        self._dialect = dialect
        self._rule = rule
        self._answered = 0
        # Requests in the order in which they came; those that answer no script are left out.
        self.requests: list[Seen] = []
        # How many clients went away before their answer was complete.
        self.cancelled = 0
        self.port = 0
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        """Its base URL."""
        return f"http://127.0.0.1:{self.port}"

    def play(self, rule: Rule) -> None:
        """Answer by `rule` from now on, and forget what was seen."""
        with self._changed:
            self._rule, self._answered = rule, 0
            self.requests, self.cancelled = [], 0

    def wait(self, done: Callable[[Upstream], bool], timeout: float = 15.0) -> None:
        """Wait until `done` holds."""
        with self._changed:
            assert self._changed.wait_for(lambda: done(self), timeout), vars(self)

    def wait_cancelled(self, count: int = 1, timeout: float = 15.0) -> None:
        """Wait until so many clients have gone."""
        self.wait(lambda upstream: upstream.cancelled >= count, timeout)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while (seen := await _request(reader)) is not None:
                if not await self._answer(seen, reader, writer):
                    break
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            # The client has gone, or the stand-in ends: `start` cancels what is left then, and
            # asyncio.streams reports a cancelled handler as an error.
            pass
        finally:
            writer.close()

    async def _answer(
        self, seen: Seen, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        """Whether the connection goes on."""
        script = Script() if seen.method == "GET" else self._next(seen)
        reply = self._dialect(seen, script) or Reply(b'{"error":"no such path"}', status=404)
        work = asyncio.ensure_future(_play(script, reply, writer))
        # Nothing comes from a client that waits, but its end.
        gone = asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait((work, gone), timeout=_BOUND, return_when="FIRST_COMPLETED")
            if work.done():
                with suppress(ConnectionError):
                    return work.result()
            self._note_cancelled()
            return False
        finally:
            for task in (work, gone):
                task.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def _next(self, seen: Seen) -> Script:
        with self._changed:
            self.requests.append(seen)
            self._changed.notify_all()
            rule = self._rule
            if isinstance(rule, Script):
                return rule
            if callable(rule):
                return rule(seen)
            self._answered += 1
            return rule[min(self._answered, len(rule)) - 1]

    def _note_cancelled(self) -> None:
        with self._changed:
            self.cancelled += 1
            self._changed.notify_all()


@contextmanager
def start(kind: str, rule: Rule | None = None) -> Iterator[Upstream]:
    """A stand-in of `kind` on a free port, until the block ends."""
    upstream = Upstream(DIALECTS[kind], Script() if rule is None else rule)
    ready = threading.Event()
    stop: list[Callable[[], object]] = []

    async def run() -> None:
        over = asyncio.Event()
        loop = asyncio.get_running_loop()
        stop.append(functools.partial(loop.call_soon_threadsafe, over.set))
        server = await asyncio.start_server(upstream.serve, "127.0.0.1", 0, limit=1 << 24)
        upstream.port = server.sockets[0].getsockname()[1]
        ready.set()
        await over.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=asyncio.run, args=(run(),), name=f"upstream-{kind}")
    thread.start()
    try:
        assert ready.wait(10)
        yield upstream
    finally:
        stop[0]()
        thread.join(10)
        assert not thread.is_alive()


async def _request(reader: asyncio.StreamReader) -> Seen | None:
    """The next request; None where the client has gone."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.decode("latin-1").split("\r\n")
    method, path, _ = first.split(" ", 2)
    pairs = (line.split(":", 1) for line in lines if line)
    headers = {name.strip().lower(): value.strip() for name, value in pairs}
    if headers.get("transfer-encoding") == "chunked":
        data = b""
        while size := int((await reader.readline()).split(b";")[0], 16):
            data += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        data = await reader.readexactly(int(headers.get("content-length", "0")))
    return Seen(method, path, headers, data)


async def _play(script: Script, reply: Reply, writer: asyncio.StreamWriter) -> bool:
    """Send `reply`, or fail as the script says. Whether the connection goes on."""
    match script.fault:
        case "hang":
            await asyncio.sleep(_BOUND)
        case "die":
            writer.transport.abort()
            return False
        case "slow_head":
            await asyncio.sleep(script.pause)
        case "garbage":
            reply = Reply((GARBAGE,) if isinstance(reply.body, tuple) else GARBAGE, reply.type)
    if isinstance(reply.body, bytes):
        writer.write(_head(reply, f"content-length: {len(reply.body)}"))
        half = len(reply.body) // 2
        if script.fault in ("hang_mid", "die_mid"):
            return await _break(script, writer, reply.body[:half])
        writer.write(reply.body)
        await writer.drain()
        return True
    writer.write(_head(reply, "transfer-encoding: chunked"))
    for number, piece in enumerate(reply.body):
        writer.write(b"%x\r\n%b\r\n" % (len(piece), piece))
        await writer.drain()
        if number == _first_text(reply.body) and script.fault in ("hang_mid", "die_mid"):
            return await _break(script, writer, b"")
        if script.pause:
            await asyncio.sleep(script.pause)
    writer.write(b"0\r\n\r\n")
    await writer.drain()
    return True


def _first_text(pieces: tuple[bytes, ...]) -> int:
    """The piece after which a stream breaks: text has come by then, and the end has not."""
    return len(pieces) // 2


async def _break(script: Script, writer: asyncio.StreamWriter, last: bytes) -> bool:
    writer.write(last)
    await writer.drain()
    if script.fault == "hang_mid":
        await asyncio.sleep(_BOUND)
    # What was sent arrives before the end does.
    await asyncio.sleep(0.05)
    writer.transport.abort()
    return False


def _head(reply: Reply, framing: str) -> bytes:
    lines = [f"HTTP/1.1 {reply.status} Status", f"content-type: {reply.type}", framing]
    lines += [f"{name}: {value}" for name, value in reply.headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
