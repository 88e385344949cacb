"""Responses that a server keeps."""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator

import pytest

from tests.backends.engine import Engine, answer
from trunkline.backends.config import BackendConfig
from trunkline.backends.connect import connect
from trunkline.backends.http.client import HttpClient
from trunkline.core.errors import InvalidRequest, NotFound, TrunklineError, UpstreamFailed
from trunkline.core.types import Keeper, KeptAsk
from trunkline.wire.speakers import SPEAKERS

KEPT = {"id": "resp_1", "object": "response"}
AT = "/v1/responses/resp_1"


@contextlib.asynccontextmanager
async def asking(engine: Engine, kind: str = "openai", base: str = "") -> AsyncIterator[Keeper]:
    async with engine.serving() as port:
        client = HttpClient()
        url = f"http://127.0.0.1:{port}{base}"
        config = BackendConfig(name="one", kind=kind, url=url, api_key="sk-secret-key")
        yield connect(config, client, SPEAKERS, {}).backend
        await client.close()


@pytest.mark.parametrize("base", ["", "/v1"])
async def test_each_question_has_its_place(base: str) -> None:
    paths = (f"{AT}?include%5B%5D=x", AT, f"{AT}/cancel", f"{AT}/input_items")
    engine = Engine(dict.fromkeys(paths, answer(KEPT)))
    async with asking(engine, base=base) as backend:
        assert b"resp_1" in await backend.kept(KeptAsk("resp_1", query="include%5B%5D=x"))
        await backend.kept(KeptAsk("resp_1", "delete"))
        await backend.kept(KeptAsk("resp_1", "cancel"))
        await backend.kept(KeptAsk("resp_1", "input_items"))
    assert engine.asked == list(paths)
    assert engine.methods == ["GET", "DELETE", "POST", "GET"]


async def test_azure_has_them_elsewhere() -> None:
    engine = Engine({f"/openai{AT}": answer(KEPT)})
    async with asking(engine, "azure") as backend:
        await backend.kept(KeptAsk("resp_1"))


async def test_an_id_cannot_lead_elsewhere() -> None:
    engine = Engine({})
    async with asking(engine) as backend:
        with pytest.raises(NotFound):
            await backend.kept(KeptAsk("../models?x=1#"))
    assert engine.asked == ["/v1/responses/..%2Fmodels%3Fx%3D1%23"]


@pytest.mark.parametrize(
    ("status", "told", "expected", "words"),
    [
        (404, {"error": {"message": "No response found"}}, NotFound, "'resp_1' not found"),
        (405, {}, NotFound, "not found"),
        (400, {"error": {"message": "Only background ones"}}, InvalidRequest, "Only background"),
        (500, {"error": {"message": "sk-secret-key is bad"}}, UpstreamFailed, r"\*\*\* is bad"),
        (200, ["no object"], UpstreamFailed, "no JSON object"),
    ],
)
async def test_refusals(
    status: int, told: object, expected: type[TrunklineError], words: str
) -> None:
    async with asking(Engine({AT: answer(told, status)})) as backend:
        with pytest.raises(expected) as caught:
            await backend.kept(KeptAsk("resp_1"))
    assert re.search(words, caught.value.message)


async def test_who_has_no_responses_is_not_asked() -> None:
    engine = Engine({})
    async with asking(engine, "anthropic") as backend:
        with pytest.raises(NotFound):
            await backend.kept(KeptAsk("resp_1"))
    assert not engine.asked
