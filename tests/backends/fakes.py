"""A dialect that is as simple as can be, and a sink that keeps events."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from trunkline.core.errors import (
    RateLimited,
    TrunklineError,
    Unsupported,
    UpstreamFailed,
    from_info,
)
from trunkline.core.types import (
    ChatInput,
    Completed,
    Delta,
    Event,
    Failed,
    Message,
    RawRequest,
    Relayed,
    Request,
    Routed,
    TextInput,
    Timing,
    Usage,
)
from trunkline.wire.client import Head, Outgoing, Reader, Relay, Speaker, Terms


class PlainReader:
    """Each piece of the body is text."""

    def __init__(self, request_id: str, relays: bool) -> None:
        self._id = request_id
        self._relays = relays

    def feed(self, data: bytes) -> Sequence[Event]:
        if b"GARBAGE" in data:
            raise UpstreamFailed("what came is no answer")
        if b"BUG" in data:
            raise KeyError("nobody thought of it")
        if self._relays:
            return (Relayed(self._id, data),)
        return (Delta(self._id, 0, data.decode()),)

    def end(self) -> Sequence[Event]:
        return (Completed(self._id, Usage(1, 2), Timing()),)


class PlainSpeaker:
    """Implements `Speaker`."""

    def __init__(self, operation: str, path: str = "/v1/say", refuses: bool = False) -> None:
        self.operation = operation
        self._path = path
        self._refuses = refuses

    def encode(self, request: Request, terms: Terms) -> Outgoing:
        if self._refuses:
            raise Unsupported(f"{self.operation} cannot say that", param="seed")
        body = {"model": terms.model, "op": self.operation, **terms.extra_body}
        if isinstance(request.input, ChatInput):
            body["messages"] = [
                {"role": m.role, "content": m.content} for m in request.input.messages
            ]
            body["max_tokens"] = 5
        return Outgoing(path=self._path, body=msgspec.json.encode(body), dropped=("seed",))

    def reader(self, request: Request, terms: Terms, head: Head) -> Reader:
        return PlainReader(request.id, False)

    def patch(self, raw: RawRequest, terms: Terms) -> Outgoing:
        body = msgspec.json.encode({**raw.fields, "model": terms.model})
        return Outgoing(path=self._path, body=body)

    def relay(self, raw: RawRequest, terms: Terms, head: Head) -> Relay:
        return PlainReader(raw.id, True)

    def error(self, head: Head, body: bytes) -> TrunklineError:
        text = body.decode()
        if head.status == 429:
            return RateLimited(text, retry_after=float(head.headers["retry-after"]))
        return UpstreamFailed(f"{head.status}: {text}")


def speakers(*operations: str) -> dict[str, Speaker]:
    """Plain ones under these names."""
    return {name: PlainSpeaker(name) for name in operations}


class Sink:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches = 0
        self._changed = asyncio.Event()

    def on_events(self, events: Sequence[Event]) -> None:
        assert not self.ended, "an event after the last one"
        self.events += events
        self.batches += 1
        self._changed.set()

    @property
    def ended(self) -> bool:
        return bool(self.events) and isinstance(self.events[-1], Completed | Failed)

    async def done(self) -> list[Event]:
        """All events."""
        async with asyncio.timeout(30):
            while not self.ended:
                self._changed.clear()
                await self._changed.wait()
        return self.events

    async def some(self) -> None:
        """Wait for the first event."""
        async with asyncio.timeout(30):
            while not self.events:
                self._changed.clear()
                await self._changed.wait()

    @property
    def routed(self) -> Routed:
        first = self.events[0]
        assert isinstance(first, Routed)
        return first

    @property
    def text(self) -> str:
        return "".join(e.text for e in self.events if isinstance(e, Delta))

    @property
    def error(self) -> TrunklineError:
        last = self.events[-1]
        assert isinstance(last, Failed)
        return from_info(last.error)


def chat(model: str = "m", request_id: str = "r1") -> Request:
    return Request(id=request_id, model=model, input=ChatInput((Message("user", "Hi"),)))


def text(prompt: str = "Once", model: str = "m") -> Request:
    return Request(id="r1", model=model, input=TextInput(prompt))


def raw(operation: str, fields: Mapping[str, Any] | None = None) -> RawRequest:
    encoded = {name: msgspec.Raw(msgspec.json.encode(v)) for name, v in (fields or {}).items()}
    return RawRequest(
        id="r1",
        operation=operation,
        model="m",
        asked_model="alias",
        stream=True,
        fields=encoded,
        translate=chat,
    )
