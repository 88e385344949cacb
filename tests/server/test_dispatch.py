from __future__ import annotations

import logging

import pytest

from tests.server.support import CHAT, HELLO, request, running, until
from tests.support.fake_backend import FakeBackend


async def lines(caplog: pytest.LogCaptureFixture, count: int) -> list[str]:
    def found() -> list[str]:
        return [one.getMessage() for one in caplog.records if one.name == "trunkline.access"]

    await until(lambda: len(found()) >= count)
    return found()


async def test_each_request_is_one_line_without_bodies_or_keys(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "trunkline.access")
    async with running(api_key=("secret",)) as one:
        await one.ask("POST", CHAT + "?key=secret", HELLO, "authorization: Bearer secret")
        await one.ask("GET", "/no%0Awhere", None, "x-api-key: secret")
        (first, second) = await lines(caplog, 2)
    assert '"POST /v1/chat/completions" 200 model=fake tokens=5+3 ' in first
    assert first.startswith("127.0.0.1:")
    assert '"GET /no%0Awhere" 404' in second
    assert "secret" not in caplog.text
    assert "Hello" not in caplog.text


async def test_a_client_that_left_is_logged_as_499(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline.access")
    backend = FakeBackend("manual")
    async with running(backend) as one:
        client = await one.connect()
        await client.send(request("POST", CHAT, HELLO))
        await until(lambda: backend.calls)
        client.close()
        (line,) = await lines(caplog, 1)
    assert " 499 model=fake" in line
    assert line.endswith("(client closed)")


async def test_refusals_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "trunkline.access")
    async with running() as one:
        client = await one.connect()
        await client.send(b"\x1b[31m garbage\r\n\r\n")
        assert (await client.response()).status == 400
        (line,) = await lines(caplog, 1)
    assert '"- -" 400' in line
    assert "\x1b" not in line


async def test_nothing_is_formatted_when_nobody_reads(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "trunkline.access")
    async with running() as one:
        assert (await one.ask("GET", "/health/live")).status == 200
    assert not caplog.records
