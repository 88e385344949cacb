from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.support.processes import killed
from trunkline.core.errors import InternalError, InvalidRequest, TrunklineError
from trunkline.core.types import ChatInput, Message
from trunkline.engine.front.renderer import TemplateRenderer
from trunkline.text.byte_tokenizer import CHATML

LOOPS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
BY_REQUEST = "{% if messages[0].content == 'loop' %}" + LOOPS + "{% endif %}ok"
DOUBLING = (
    "{% set ns = namespace(s='x' * 100000) %}{% for i in range(99) %}"
    "{% set ns.s = ns.s ~ ns.s %}{% endfor %}{{ ns.s | length }}"
)


def chat(text: str) -> ChatInput:
    return ChatInput((Message("user", text),))


@asynccontextmanager
async def started(source: str, **options: float) -> AsyncIterator[TemplateRenderer]:
    renderer = TemplateRenderer(source, **options)  # type: ignore[arg-type]
    await renderer.start()
    try:
        yield renderer
    finally:
        await renderer.close()


async def test_many_at_once_each_gets_its_own() -> None:
    async with started(CHATML) as renderer:
        prompts = await asyncio.gather(*(renderer.render(chat(f"<{i}>")) for i in range(50)))
    assert all(f"user\n<{i}><" in prompt for i, prompt in enumerate(prompts))


async def test_refusals_and_syntax_errors_come_back() -> None:
    async with started("{{ raise_exception('Only bishops may speak') }}") as renderer:
        with pytest.raises(InvalidRequest, match="Only bishops may speak"):
            await renderer.render(chat("x"))
    renderer = TemplateRenderer("{% if %}")
    with pytest.raises(InvalidRequest, match="malformed"):
        await renderer.start()
    await renderer.close()


async def test_a_loop_without_end_fails_alone() -> None:
    async with started(BY_REQUEST, cpu_seconds=0.6) as renderer:
        results = await asyncio.gather(
            *(renderer.render(chat(text)) for text in ("a", "loop", "b")), return_exceptions=True
        )
        assert results[0] == results[2] == "ok"
        assert isinstance(results[1], InvalidRequest)
        assert "takes more than 0.6 s" in results[1].message


async def render_once(source: str) -> None:
    renderer = TemplateRenderer(source, cpu_seconds=1.0, memory_bytes=400_000_000)
    try:
        await renderer.start()
        await renderer.render(chat("x"))
    finally:
        await renderer.close()


@pytest.mark.parametrize(
    "source",
    [
        # One call into C that no Python code could interrupt.
        "{{ '%999999999d' % 1 }}{{ '%999999999d' % 1 }}{{ '%999999999d' % 1 }}",
        "{{ 'x' | center(10**9) | length }}",
        DOUBLING,
        "{% for i in range(10**9) %}{% endfor %}",
    ],
)
async def test_memory_and_time_are_bounded(source: str) -> None:
    begun = time.monotonic()
    # Constant expressions are folded, and fail, when the template is compiled.
    with pytest.raises(TrunklineError):
        await render_once(source)
    assert time.monotonic() - begun < 60


async def test_a_killed_worker_is_replaced() -> None:
    async with started(BY_REQUEST) as renderer:
        rendering = asyncio.create_task(renderer.render(chat("loop")))
        # What was asked is on its way when the loop has turned.
        await asyncio.sleep(0.05)
        os.kill(renderer.worker_pid, signal.SIGKILL)
        with pytest.raises(InternalError, match="worker ended"):
            await rendering
        assert await renderer.render(chat("y")) == "ok"


async def test_a_worker_killed_between_two_renderings_is_not_noticed() -> None:
    async with started(CHATML) as renderer:
        await killed(renderer.worker_pid)
        assert "hello" in await renderer.render(chat("hello"))


async def test_a_caller_that_gives_up_disturbs_nobody() -> None:
    async with started(CHATML) as renderer:
        gone = asyncio.create_task(renderer.render(chat("gone")))
        await asyncio.sleep(0)
        gone.cancel()
        assert "here" in await renderer.render(chat("here"))
        assert gone.cancelled()


async def test_close_fails_what_waits() -> None:
    renderer = TemplateRenderer(LOOPS)
    await renderer.start()
    tasks = [asyncio.create_task(renderer.render(chat("x"))) for _ in range(3)]
    await asyncio.sleep(0.05)
    await renderer.close()
    for task in tasks:
        with pytest.raises(asyncio.CancelledError):
            await task
