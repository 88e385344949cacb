"""A gateway whose clients and servers are in memory, and whose time passes at once.

    def test_it() -> None:
        run(scenario)

    async def scenario() -> None:
        async with wired(route("r", "one")) as line:
            await line.ask("r")
            await line.answer(GOOD)
            assert line.answers() == [...]

Servers answer by hand, piece by piece; None is the end of the connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import selectors
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from random import Random
from typing import Any, NamedTuple, TypeVar, cast

from trunkline.backends.config import BackendConfig, Timeouts
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.backends.http.dial import Dialer
from trunkline.backends.http.origin import Origin
from trunkline.backends.remote import RemoteBackend
from trunkline.core.errors import Unavailable, UpstreamFailed
from trunkline.gateway.config import RouteConfig, Target
from trunkline.gateway.endpoint import Endpoint
from trunkline.gateway.gateway import Gateway
from trunkline.gateway.keys import Keys
from trunkline.gateway.routes import Routes
from trunkline.server.app import Server
from trunkline.server.config import ServerConfig
from trunkline.server.http.connection import Connection
from trunkline.wire.speakers import SPEAKERS

P = TypeVar("P", bound=asyncio.Protocol)

# Kinds of the servers that there are; nobody listens where `gone` is.
KINDS = {
    "one": "openai-compatible",
    "two": "openai-compatible",
    "claude": "anthropic-compatible",
    "haiku": "anthropic-compatible",
    "gone": "openai-compatible",
    # One connection at a time.
    "narrow": "openai-compatible",
}
_TIMES = Timeouts(connect=2, first_token=6, idle=5, attempt=20)
# Turns of the loop after which nothing happens any more until time passes.
_TURNS = 12


def whole(body: bytes, status: int = 200, kind: str = "application/json", more: str = "") -> bytes:
    """A response; `more` are header lines, each ended by CRLF."""
    head = f"HTTP/1.1 {status} Status\r\ncontent-type: {kind}\r\n{more}"
    return f"{head}content-length: {len(body)}\r\n\r\n".encode() + body


def completion(text: str = "Hello") -> bytes:
    """What a server of OpenAI's dialect says."""
    choice = {"index": 0, "message": {"role": "assistant", "content": text}}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    base = {"id": "up", "object": "chat.completion", "created": 1, "model": "m"}
    choice["finish_reason"] = "stop"
    return json.dumps(base | {"choices": [choice], "usage": usage}).encode()


GOOD = whole(completion())


def route(name: str, *targets: str | Target, **more: Any) -> RouteConfig:
    """One with the model `m` of each."""
    made = (one if isinstance(one, Target) else Target(backend=one, model="m") for one in targets)
    return RouteConfig(name=name, targets=tuple(made), **more)


class Wire(asyncio.Transport):
    """The far end of a connection of ours."""

    def __init__(self, name: str, heard: Callable[[Wire, bytes], None]) -> None:
        super().__init__({"peername": ("127.0.0.1", 1)})
        self.name = name
        self.protocol: asyncio.Protocol = asyncio.Protocol()
        self.sent = b""
        self.closed = False
        self.reading = True
        # True: it has gone, which the next request finds out.
        self.dead = False
        self._heard = heard

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        if not self.closed:
            self._heard(self, bytes(data))

    def is_closing(self) -> bool:
        return self.closed

    def get_write_buffer_size(self) -> int:
        return 0

    def can_write_eof(self) -> bool:
        return False

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def abort(self) -> None:
        self.close()

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)


class Asked(NamedTuple):
    """A request at a server."""

    wire: Wire
    head: bytes
    body: bytes


class _Dialer(Dialer):
    """Connects to nobody but the line."""

    def __init__(self, line: Line) -> None:
        super().__init__(asyncio.get_running_loop())
        self._line = line

    async def dial(self, origin: Origin, title: str, timeout: float, make: Callable[[], P]) -> P:
        await asyncio.sleep(0)
        if origin.host == "gone":
            raise UpstreamFailed(f"{title} refuses connections")
        wire, protocol = Wire(origin.host, self._line.heard), make()
        wire.protocol = protocol
        protocol.connection_made(wire)
        self._line.wires.append(wire)
        return protocol


class _Ordered(dict[Any, None]):
    """A set whose order is that of arrival, so that the same happens each time."""

    def add(self, one: Any) -> None:
        self[one] = None

    def discard(self, one: Any) -> None:
        self.pop(one, None)


class Line:
    """Clients, a gateway and servers."""

    def __init__(self, configs: Sequence[RouteConfig]) -> None:
        self.rng = Random(0)
        self.clients: dict[int, Wire] = {}
        # All connections of clients, and to servers.
        self.doors: list[Wire] = []
        self.wires: list[Wire] = []
        # Requests at servers: all, and those that nobody has answered.
        self.seen: list[tuple[str, bytes, bytes]] = []
        self.open: list[Asked] = []
        self.http = HttpClient()
        self.http._dialer = _Dialer(self)
        self.http.ticker._watched = cast(Any, _Ordered())
        self.backends = {name: self._backend(name, kind) for name, kind in KINDS.items()}
        self._configs = configs
        self.routes: Routes | None = None
        self.gateway = Gateway((), Keys(()))
        self.load()
        self.server = Server(ServerConfig(port=0), self.gateway)
        self.generator = self.server._dispatch.generator
        self.generator._active = cast(Any, _Ordered())

    def _backend(self, name: str, kind: str) -> RemoteBackend:
        config = BackendConfig(
            name=name,
            kind=kind,
            url=f"http://{name}:1",
            api_key="sk-123456789",
            models=("m",),
            timeouts=_TIMES,
            max_connections=1 if name == "narrow" else 64,
        )
        backend = connect(config, self.http, SPEAKERS, {}).backend
        backend.calls = cast(Any, _Ordered())
        return backend

    def load(self) -> None:
        """Serve the routes, also when they are served already."""
        loop = asyncio.get_running_loop()
        backends, before = self.backends, self.routes
        self.routes = Routes(
            self._configs, backends, loop, speakers=SPEAKERS, rng=self.rng, before=before
        )
        self.gateway.serve(self.routes.served(), Keys(()))

    def endpoints(self) -> dict[str, Endpoint]:
        """By "route target"."""
        assert self.routes is not None
        found = ((one, target) for one in self.routes.routes for target in one.endpoints)
        return {f"{one.name} {target.name}": target for one, target in found}

    def heard(self, wire: Wire, data: bytes) -> None:
        """A server has been sent something."""
        wire.sent += data
        while b"\r\n\r\n" in wire.sent:
            head, _, rest = wire.sent.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head)
            size = int(length[1]) if length else 0
            if len(rest) < size:
                return
            wire.sent = rest[size:]
            self.seen.append((wire.name, head, rest[:size]))
            if wire.dead:
                wire.close()
            else:
                self.open.append(Asked(wire, head, rest[:size]))

    async def ask(self, model: str, client: int = 0, times: int = 1, **more: Any) -> None:
        """A chat request, or several at once; `more` are fields. None is no field."""
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        sent = {key: value for key, value in body.items() if value is not None}
        # As a decoder would spell it again.
        data = json.dumps(sent, separators=(",", ":")).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n"
        await self.say((head % len(data) + data) * times, client)

    async def say(self, data: bytes, client: int = 0) -> None:
        """Something that a client says."""
        wire = self.clients.get(client)
        if wire is None or wire.closed:
            wire = self.clients[client] = Wire(f"client {client}", _keep)
            wire.protocol = Connection(self.server.pool)
            self.doors.append(wire)
            wire.protocol.connection_made(wire)
        if wire.reading:
            wire.protocol.data_received(data)
        await settle()

    async def answer(self, *pieces: bytes | None, number: int = 0) -> None:
        """One of the requests that wait for an answer, if there is any."""
        self.open = [asked for asked in self.open if not asked.wire.closed]
        if self.open:
            wire = self.open.pop(min(number, len(self.open) - 1)).wire
            for piece in pieces:
                if piece is None:
                    wire.close()
                elif not wire.closed:
                    wire.protocol.data_received(piece)
                await settle()

    async def leave(self, client: int = 0) -> None:
        """A client goes."""
        wire = self.clients.get(client)
        if wire is not None:
            wire.close()
        await settle()

    async def die(self) -> None:
        """The connections that carry nothing are dead, which the gateway does not know."""
        busy = [asked.wire for asked in self.open]
        for wire in self.wires:
            wire.dead = wire not in busy

    async def cut(self) -> None:
        """End what is under way."""
        self.generator.cut(Unavailable("enough"))
        await settle()

    def answers(self, client: int = 0) -> list[bytes]:
        """What a client got, but for what differs each time."""
        return [_steady(one.sent) for one in self.doors if one.name == f"client {client}"]

    async def end(self) -> None:
        """Nothing is left: every call has ended once."""
        for _ in range(3):
            await self.cut()
        for client in self.clients:
            await self.leave(client)
        await asyncio.sleep(100)
        for name, one in self.endpoints().items():
            assert one.in_flight == 0, name
            ended = one.successes + sum(one.failures.values()) + one.cancelled
            assert one.requests == ended, name
        assert not self.generator._active
        assert not self.server.pool.active
        assert not any(backend.calls for backend in self.backends.values())
        await self.http.close()
        await self.server.stop()


@contextlib.asynccontextmanager
async def wired(*configs: RouteConfig) -> AsyncIterator[Line]:
    """A line, which is checked at its end."""
    line = Line(configs)
    yield line
    await line.end()


async def settle() -> None:
    """Let happen what happens without time."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)


class _Hasty(selectors.DefaultSelector):
    """Time passes when there is nothing else to do."""

    now = 1000.0

    def select(self, timeout: float | None = None) -> list[Any]:
        self.now += timeout or 0.0
        return super().select(0)


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._hasty = _Hasty()
        super().__init__(cast(selectors.BaseSelector, self._hasty))

    def time(self) -> float:
        return self._hasty.now


def run(scenario: Coroutine[Any, Any, Any]) -> Any:
    """Play it; what goes wrong in a callback fails it, too."""
    faults: list[dict[str, Any]] = []
    with asyncio.Runner(loop_factory=_Loop) as runner:
        runner.get_loop().set_exception_handler(lambda _, fault: faults.append(fault))
        result = runner.run(scenario)
    assert not faults
    return result


def _keep(wire: Wire, data: bytes) -> None:
    wire.sent += data


def _steady(sent: bytes) -> bytes:
    sent = re.sub(rb"\r\n(date|x-request-id|request-id): [^\r]*", rb"\r\n\1", sent)
    return re.sub(rb'dur=[0-9.]+|chatcmpl-\w+|"created":\d+|retry-after: \d+', b"?", sent)
