"""Which of a server's dialects a request is translated to."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from tests.backends.connecting import answering, connected
from tests.backends.fakes import Sink
from tests.backends.http.peer import serve, whole
from tests.wire.client_support import chat
from trunkline.wire.speakers import SPEAKERS

TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
THINKING = {"reasoning_effort": "high"}


@pytest.mark.parametrize(
    ("kind", "model", "asked", "path"),
    [
        # Thinking together with tools is to be had in Responses alone.
        ("openai", "gpt-5.6", {"tools": (TOOL,), "template_kwargs": THINKING}, "responses"),
        ("openai", "gpt-5.6", {"template_kwargs": THINKING}, "chat/completions"),
        ("openai", "gpt-5.6", {"tools": (TOOL,)}, "responses"),
        ("openai", "gpt-5.1", {"tools": (TOOL,), "template_kwargs": THINKING}, "chat/completions"),
        # Where Responses lack something else, chat is what there is.
        (
            "openai",
            "gpt-5.6",
            {"tools": (TOOL,), "template_kwargs": THINKING, "stop": ("x",)},
            "chat/completions",
        ),
        # What an engine leaves out anyway is no reason to speak another dialect to it.
        ("vllm", "m", {"notes": {"metadata": {"a": "b"}}}, "chat/completions"),
    ],
)
async def test_the_one_that_leaves_out_least(
    kind: str, model: str, asked: dict[str, Any], path: str
) -> None:
    seen: list[bytes] = []
    async with (
        serve(answering(whole(b"{}"), seen=seen)) as port,
        connected(
            port, SPEAKERS, {}, kind=kind, url=f"http://127.0.0.1:{port}/v1", api_key="k"
        ) as remote,
    ):
        sink = Sink()
        remote.backend.submit(msgspec.structs.replace(chat(**asked), model=model), sink)
        await sink.done()
    assert seen[0].startswith(f"POST /v1/{path} ".encode())
