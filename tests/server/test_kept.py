"""Responses that a backend keeps: who is asked for them, and who goes on from them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from tests.server.support import Running, running
from tests.support.fake_backend import FakeBackend
from trunkline.core.errors import UpstreamFailed, response_not_found
from trunkline.core.types import (
    Call,
    Completed,
    Event,
    EventSink,
    KeptAsk,
    RawRequest,
    Relayed,
    Routed,
    Timing,
    Usage,
)

PATH = "/v1/responses"
END = Completed("r", Usage(1, 1), Timing())


def whole(name: str, **fields: Any) -> bytes:
    return json.dumps({"id": name, "object": "response", "model": "theirs", **fields}).encode()


def created(name: str, **fields: Any) -> bytes:
    data = json.dumps({"type": "response.created", "response": {"id": name, **fields}})
    return f"event: response.created\ndata: {data}\n\n".encode()


class Keeping(FakeBackend):
    """Relays responses, and keeps those that it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: list[bytes] = []
        self.raws: list[RawRequest] = []
        self.asked: list[KeptAsk] = []
        self.relaying = True

    def relays(self, operation: str) -> bool:
        return self.relaying and operation == "openai.responses"

    def relay(self, raw: RawRequest, sink: EventSink) -> Call:
        self.raws.append(raw)
        data = self.answers.pop(0)
        events: Sequence[Event] = (Routed(raw.id, "up", "theirs"), Relayed(raw.id, data), END)
        asyncio.get_running_loop().call_soon(sink.on_events, events)
        return _Idle()

    async def kept(self, ask: KeptAsk) -> bytes:
        self.asked.append(ask)
        if ask.response_id == "resp_broken":
            raise UpstreamFailed("out of order")
        if ask.response_id == "resp_lost":
            raise response_not_found(ask.response_id)
        return whole(ask.response_id, what=ask.what)


class _Idle:
    def cancel(self) -> None:
        """Nothing is under way."""


@asynccontextmanager
async def keeping(**config: Any) -> AsyncIterator[tuple[Running, Keeping]]:
    backend = Keeping()
    async with running(backend, **config) as one:
        one.server.gateway.backends = lambda: {"up": backend}
        yield one, backend


async def make(
    one: Running, backend: Keeping, data: bytes, *headers: str, **fields: Any
) -> dict[str, Any]:
    backend.answers.append(data)
    body = {"model": "fake", "input": "Hi", **fields}
    response = await one.ask("POST", PATH, body, *headers)
    assert response.status == 200, response.body
    found: dict[str, Any] = {} if fields.get("stream") else response.json()
    return found


@pytest.mark.parametrize("stream", [False, True])
async def test_the_backend_that_made_a_response_is_asked_for_it(stream: bool) -> None:
    async with keeping() as (one, backend):
        data = created("resp_1") if stream else whole("resp_1")
        await make(one, backend, data, stream=stream)
        found = (await one.ask("GET", f"{PATH}/resp_1?include%5B%5D=x")).json()
        # The model goes by the name that the client used.
        assert found == json.loads(whole("resp_1", what="get")) | {"model": "fake"}
        listed = await one.ask("GET", f"{PATH}/resp_1/input_items?limit=2")
        assert listed.json()["what"] == "input_items"
        assert listed.headers["x-trunkline-backend"] == "up"
        cancelled = await one.ask("POST", f"{PATH}/resp_1/cancel")
        assert cancelled.json()["what"] == "cancel"
        assert (await one.ask("DELETE", f"{PATH}/resp_1")).json()["what"] == "delete"
        assert [(ask.what, ask.query) for ask in backend.asked] == [
            ("get", "include%5B%5D=x"),
            ("input_items", "limit=2"),
            ("cancel", ""),
            ("delete", ""),
        ]
        # It is gone: nobody is asked any more.
        assert (await one.ask("GET", f"{PATH}/resp_1")).status == 404
        assert len(backend.asked) == 4


@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_ids_that_nobody_knows(method: str) -> None:
    async with keeping() as (one, backend):
        response = await one.ask(method, f"{PATH}/resp_x")
        assert response.status == 404
        error = response.json()["error"]
        assert error["message"] == "Response with id 'resp_x' not found."
        assert error["type"] == "invalid_request_error"
        assert (await one.ask("POST", f"{PATH}/resp_x/cancel")).status == 404
        assert (await one.ask("GET", f"{PATH}/resp_x/input_items")).status == 404
        assert not backend.asked


async def test_what_the_backend_says_is_told() -> None:
    async with keeping() as (one, backend):
        for name, status in (("resp_broken", 502), ("resp_lost", 404)):
            await make(one, backend, whole(name))
            assert (await one.ask("GET", f"{PATH}/{name}")).status == status
        one.server.gateway.backends = dict
        # The configuration does not name it any more.
        assert (await one.ask("GET", f"{PATH}/resp_broken")).status == 404


async def test_others_do_not_see_it() -> None:
    async with keeping(api_key=("k1", "k2")) as (one, backend):
        mine, theirs = "authorization: Bearer k1", "authorization: Bearer k2"
        await make(one, backend, whole("resp_1"), mine)
        assert (await one.ask("GET", f"{PATH}/resp_1", None, mine)).status == 200
        assert (await one.ask("GET", f"{PATH}/resp_1", None, theirs)).status == 404
        await make(one, backend, whole("resp_2"), theirs, previous_response_id="resp_1")
        assert backend.raws[-1].kept_by == ""


@pytest.mark.parametrize(
    "data", [whole("resp_1", store=False), created("resp_1", store=False), b"{}", b"data: x\n\n"]
)
async def test_what_is_not_kept_is_not_remembered(data: bytes) -> None:
    async with keeping() as (one, backend):
        await make(one, backend, data, stream=True)
        assert (await one.ask("GET", f"{PATH}/resp_1")).status == 404


async def test_what_goes_on_from_it_goes_there() -> None:
    async with keeping() as (one, backend):
        await make(one, backend, whole("resp_1"))
        await make(one, backend, whole("resp_2"), previous_response_id="resp_1")
        assert [raw.kept_by for raw in backend.raws] == ["", "up"]
        # What nobody knows may still be known there: the backend's own error says more.
        await make(one, backend, whole("resp_3"), previous_response_id="resp_elsewhere")
        assert backend.raws[-1].kept_by == ""


async def test_what_nobody_can_go_on_from() -> None:
    async with keeping() as (one, backend):
        await make(one, backend, whole("resp_1"))
        backend.relaying = False
        body = {"model": "fake", "input": "Hi", "previous_response_id": "resp_1"}
        response = await one.ask("POST", PATH, body)
        assert response.status == 400
        assert response.json()["error"]["code"] == "previous_response_not_found"


async def test_what_is_here_is_answered_here() -> None:
    async with keeping() as (one, backend):
        backend.relaying = False
        body = {"model": "fake", "input": "Hi"}
        first = (await one.ask("POST", PATH, body)).json()
        backend.relaying = True
        response = await one.ask("POST", PATH, {**body, "previous_response_id": first["id"]})
        assert response.status == 200, response.body
        assert not backend.raws
        assert (await one.ask("GET", f"{PATH}/{first['id']}")).json()["id"] == first["id"]
        assert not backend.asked
