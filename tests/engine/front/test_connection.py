from __future__ import annotations

import asyncio

import msgspec

from trunkline.core.errors import Cancelled
from trunkline.core.types import Delta, Event, Failed, PromptToken, PromptTokens
from trunkline.engine.frames import (
    CancelRequest,
    CoreStats,
    EventBatch,
    Framing,
    FromFront,
    FrontStatus,
    ToFront,
    pack,
)
from trunkline.engine.front.connection import GatewayConnection


class Transport(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[FromFront] = []
        self.aborted = False
        self._framing = Framing()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def write(self, data: bytes | bytearray | memoryview) -> None:
        for payload in self._framing.feed(bytes(data)):
            self.messages.append(msgspec.msgpack.decode(payload, type=FromFront))

    def is_closing(self) -> bool:
        return False

    def abort(self) -> None:
        self.aborted = True

    def take(self) -> list[Event]:
        """Events written since the last call."""
        events = [e for m in self.messages if isinstance(m, EventBatch) for e in m.events]
        self.messages.clear()
        return events


class Handler:
    """Notes what a connection says."""

    def __init__(self) -> None:
        self.messages: list[ToFront] = []
        self.overflowed: list[str] = []
        self.gone = False

    def on_connected(self, connection: GatewayConnection) -> None:
        pass

    def on_message(self, connection: GatewayConnection, message: ToFront) -> None:
        self.messages.append(message)

    def on_overflow(self, connection: GatewayConnection, request_id: str) -> None:
        self.overflowed.append(request_id)
        connection.deliver((Failed(request_id, Cancelled("slow").info()),))

    def on_disconnected(self, connection: GatewayConnection) -> None:
        self.gone = True


def connected(max_waiting: int = 10_000) -> tuple[GatewayConnection, Transport, Handler]:
    handler, transport = Handler(), Transport()
    connection = GatewayConnection(handler, max_waiting)
    connection.connection_made(transport)
    return connection, transport, handler


def delta(request_id: str, text: str) -> Delta:
    return Delta(request_id, 0, text)


def status(state: str) -> FrontStatus:
    return FrontStatus(state, "", None, CoreStats())


def test_messages_split_anywhere() -> None:
    connection, _, handler = connected()
    data = pack(msgspec.msgpack.encode(CancelRequest("a"))) * 2
    for byte in data:
        connection.data_received(bytes((byte,)))
    assert handler.messages == [CancelRequest("a")] * 2


def test_rubbish_ends_the_connection() -> None:
    for data in (pack(b"\xc1"), b"\xff\xff\xff\xff"):
        connection, transport, _ = connected()
        connection.data_received(data)
        assert transport.aborted


def test_events_wait_in_order_while_the_reader_is_behind() -> None:
    connection, transport, _ = connected()
    connection.deliver((delta("a", "1"),))
    assert transport.take() == [delta("a", "1")]
    connection.pause_writing()
    connection.deliver((delta("a", "2"), delta("b", "3")))
    connection.deliver((delta("a", "4"),))
    assert transport.take() == []
    connection.resume_writing()
    assert transport.take() == [delta("a", "2"), delta("b", "3"), delta("a", "4")]
    connection.deliver((delta("a", "5"),))
    assert transport.take() == [delta("a", "5")]


def test_a_reader_too_far_behind_loses_its_request_only() -> None:
    connection, transport, handler = connected(max_waiting=1000)
    connection.pause_writing()
    for _ in range(3):
        connection.deliver((delta("fat", "x" * 400), delta("thin", "y")))
    assert handler.overflowed == ["fat"]
    connection.resume_writing()
    sent = transport.take()
    assert [e.request_id for e in sent] == ["thin", "thin", "thin", "fat"]
    assert isinstance(sent[-1], Failed)


def test_a_long_prompt_counts_as_waiting() -> None:
    connection, _, handler = connected()
    connection.pause_writing()
    best = tuple(("x", b"x", 1, -1.0) for _ in range(20))
    tokens = tuple(PromptToken("x", b"x", 1, -1.0, 1, best) for _ in range(10))
    connection.deliver((PromptTokens("a", tokens[:5]),))
    assert handler.overflowed == []
    connection.deliver((PromptTokens("a", tokens),))
    assert handler.overflowed == ["a"]


def test_a_pause_in_the_middle_of_a_flush() -> None:
    connection, transport, _ = connected(max_waiting=10_000_000)
    connection.pause_writing()
    for _ in range(10):
        connection.deliver((delta("a", "x" * 100_000),))
    write = transport.write

    def write_and_pause(data: bytes | bytearray | memoryview) -> None:
        write(data)
        connection.pause_writing()

    transport.write = write_and_pause  # type: ignore[method-assign]
    connection.resume_writing()
    assert len(transport.take()) == 3
    connection.resume_writing()
    connection.deliver((delta("a", "last"),))
    assert len(transport.take()) == 3
    connection.resume_writing()
    connection.resume_writing()
    assert transport.take()[-1] == delta("a", "last")


def test_only_the_last_status_waits() -> None:
    connection, transport, _ = connected()
    connection.pause_writing()
    connection.tell(status("starting"))
    connection.tell(status("ready"))
    connection.resume_writing()
    assert transport.messages == [status("ready")]


def test_drop_forgets_what_waits() -> None:
    connection, transport, _ = connected()
    connection.pause_writing()
    connection.deliver((delta("a", "1"), delta("b", "2")))
    connection.drop("a")
    connection.drop("unknown")
    connection.resume_writing()
    assert transport.take() == [delta("b", "2")]


def test_nothing_is_written_to_a_lost_connection() -> None:
    connection, transport, handler = connected()
    connection.connection_lost(None)
    connection.deliver((delta("a", "1"),))
    assert handler.gone
    assert transport.messages == []
