"""What the official client does by itself with what we answer, over a transport of its own."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx2

from tests.wire.anthropic.support import answered, called, ended, text
from trunkline.core.errors import TrunklineError
from trunkline.core.types import ChatInput, Usage
from trunkline.wire.anthropic.errors import render_error, status
from trunkline.wire.anthropic.messages import decode_messages
from trunkline.wire.codec import Incoming

USAGE = Usage(5, 1)


def test_its_tool_runner_sends_all_messages_though_it_would_rather_not() -> None:
    """From its second request on it sends new messages alone, for a thread kept at Anthropic."""
    heard: list[list[str]] = []
    refused: list[Any] = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        try:
            call = decode_messages(Incoming(request.content))
        except TrunklineError as error:
            refused.append(json.loads(request.content)["thread"]["type"])
            return httpx2.Response(status(error), content=render_error(error))
        prompt = call.requests("r", "m", "")[0].input
        assert isinstance(prompt, ChatInput)
        heard.append([message.role for message in prompt.messages])
        assert prompt.tools
        more = called(0, "{}", "now") if len(heard) < 3 else text("9:40")
        body = answered(call, [[more, ended("stop" if len(heard) == 3 else "tool_calls")]], USAGE)
        return httpx2.Response(200, headers={"content-type": "application/json"}, content=body)

    @anthropic.beta_tool
    def now() -> str:
        """The time."""
        return "9:40"

    http = httpx2.Client(transport=httpx2.MockTransport(answer))
    with anthropic.Anthropic(api_key="x", max_retries=0, http_client=http) as client:
        runner = client.beta.messages.tool_runner(
            model="m", max_tokens=9, messages=[{"role": "user", "content": "a"}], tools=[now]
        )
        assert runner.until_done().stop_reason == "end_turn"
    turn = ["assistant", "tool"]
    assert heard == [["user"], ["user", *turn], ["user", *turn, *turn]]
    assert set(refused) == {"continue"}
