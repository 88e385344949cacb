"""What Anthropic would refuse does not get there: its stand-in looks at bodies as it does."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import msgspec
import pytest

from tests.support.upstreams.anthropic import SIGNATURE
from tests.support.upstreams.script import Call, Script
from tests.support.upstreams.server import Upstream, start
from tests.wire.anthropic.support import ANSWER
from tests.wire.client_support import raw
from trunkline.core.types import ChatInput, Event, Message, Request, SamplingParams
from trunkline.wire.anthropic.answer import SIGNATURE as OURS
from trunkline.wire.anthropic.client import MessagesSpeaker
from trunkline.wire.anthropic.messages import decode_messages
from trunkline.wire.client import Head, Outgoing, Terms
from trunkline.wire.codec import Incoming

SPEAKER = MessagesSpeaker()
CLAUDE = Terms(
    model="claude-sonnet-4-5",
    features=frozenset(("stream", "tools", "tool_choice", "reasoning")),
    hosted=True,
)
TOOL = {"name": "get_weather", "input_schema": {"type": "object", "properties": {}}}
THINKING = {"type": "enabled", "budget_tokens": 1024}


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    with start("anthropic") as running:
        yield running


def asked(upstream: Upstream, outgoing: Outgoing) -> tuple[Head, bytes]:
    headers = dict(outgoing.headers) | {"x-api-key": "k"}
    answer = httpx.post(
        upstream.url + outgoing.path, content=outgoing.body, headers=headers, timeout=30
    )
    return Head(answer.status_code, dict(answer.headers)), answer.content


def rendered(body: dict[str, Any], events: Sequence[Event]) -> Any:
    """The message that a client of the same dialect gets."""
    ask = decode_messages(Incoming(json.dumps(body).encode()))
    renderer = ask.renderer(ANSWER)
    renderer.take(0, events)
    last = events[-1]
    return json.loads(renderer.finish(last.usage, last.timing))  # type: ignore[union-attr]


@pytest.mark.parametrize("signature", [OURS, SIGNATURE, "forged"])
def test_a_session_that_another_model_thought_in(upstream: Upstream, signature: str) -> None:
    upstream.play(Script())
    thought = {"type": "thinking", "thinking": "Hm.", "signature": signature}
    use = {"type": "tool_use", "id": "c", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "22"}
    body = {
        "model": "m",
        "max_tokens": 2000,
        "thinking": THINKING,
        "tools": [TOOL],
        "messages": [
            {"role": "user", "content": "Weather?"},
            {"role": "assistant", "content": [thought, use]},
            {"role": "user", "content": [result]},
        ],
    }
    head, _ = asked(upstream, SPEAKER.patch(raw(SPEAKER, json.dumps(body).encode()), CLAUDE))
    assert head.status == (400 if signature == "forged" else 200)


@pytest.mark.parametrize("relayed", [True, False])
def test_a_session_in_which_another_model_showed_no_thought(
    upstream: Upstream, relayed: bool
) -> None:
    upstream.play(Script())
    thought = {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
    say = {"type": "text", "text": "Let me look."}
    use = {"type": "tool_use", "id": "c", "name": "get_weather", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "c", "content": "22"}
    body = {"model": "m", "max_tokens": 2000, "thinking": THINKING, "tools": [TOOL]}
    runs = (
        ([[say, use], [result]], False),
        ([[thought, use], [result], [say, use], [result]], True),
        ([[say, use], [result], [thought, use], [result]], False),
    )
    for blocks, thinks in runs:
        roles = ("assistant", "user") * 2
        turns = [{"role": role, "content": one} for role, one in zip(roles, blocks, strict=False)]
        data = json.dumps(body | {"messages": [{"role": "user", "content": "a"}, *turns]}).encode()
        if relayed:
            outgoing = SPEAKER.patch(raw(SPEAKER, data), CLAUDE)
        else:
            (request,) = decode_messages(Incoming(data)).requests("r", "m", "")
            outgoing = SPEAKER.encode(request, CLAUDE)
        head, answer = asked(upstream, outgoing)
        assert head.status == 200, answer
        sent = json.loads(outgoing.body)
        assert (sent.get("thinking", {}).get("type") == "enabled") is thinks
        assert bool(outgoing.dropped) is not thinks


@pytest.mark.parametrize("stream", [True, False])
def test_a_translated_session_goes_on_with_its_thoughts(upstream: Upstream, stream: bool) -> None:
    """An Anthropic client, a backend of the same make, and core types between them."""
    features = CLAUDE.features if stream else CLAUDE.features - {"stream"}
    said = msgspec.structs.replace(CLAUDE, features=features)
    body: dict[str, Any] = {
        "model": "m",
        "max_tokens": 2000,
        "thinking": THINKING,
        "tools": [TOOL],
        "messages": [{"role": "user", "content": "Weather?"}],
    }
    upstream.play(Script(pieces=(), reasoning="Hm.", calls=(Call("get_weather", {}),)))
    for _ in range(2):
        (request,) = decode_messages(Incoming(json.dumps(body).encode())).requests("r", "m", "")
        outgoing = SPEAKER.encode(request, said)
        assert outgoing.dropped == ()
        head, data = asked(upstream, outgoing)
        assert head.status == 200, data
        assert json.loads(outgoing.body)["thinking"] == THINKING | {"budget_tokens": 1024}
        reader = SPEAKER.reader(request, said, head)
        message = rendered(body, [*reader.feed(data), *reader.end()])
        thought, use = message["content"]
        assert thought == {"type": "thinking", "thinking": "Hm.", "signature": SIGNATURE}
        body["messages"] += [
            {"role": "assistant", "content": message["content"]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": use["id"], "content": "22"}],
            },
        ]


def test_conversations_of_other_dialects(upstream: Upstream) -> None:
    upstream.play(Script())
    function = {"name": "f", "arguments": "{}"}
    turns = (
        Message("user", "a"),
        Message("assistant", " ", tool_calls=({"id": "c", "function": function},)),
        Message("tool", "r", tool_call_id="c"),
    )
    for most in (None, 900, 1500, 5000):
        for effort in ("none", "minimal", "high", "max"):
            for messages in (turns, turns[:1]):
                request = Request(
                    id="r",
                    model="m",
                    input=ChatInput(messages, template_kwargs={"reasoning_effort": effort}),
                    sampling=SamplingParams(max_tokens=most),
                )
                head, data = asked(upstream, SPEAKER.encode(request, CLAUDE))
                assert head.status == 200, (most, effort, data)
