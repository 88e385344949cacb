"""Earlier turns that another server answered, in bodies that are passed on."""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec
import pytest

from tests.wire.client_support import ALL, raw, terms
from trunkline.backends.kinds import find_kind
from trunkline.core.types import Json
from trunkline.wire.client import Outgoing, Speaker, Terms
from trunkline.wire.openai.chat_client import ChatSpeaker
from trunkline.wire.openai.responses_client import ResponsesSpeaker
from trunkline.wire.openai.responses_items import hidden_reasoning

CHAT = ChatSpeaker()
RESPONSES = ResponsesSpeaker()
LONG = "call_" + "x" * 300
MINE = {"reasoning_content": "Hm.", "reasoning": "Hm."}


def hosted(kind: str) -> Terms:
    """Terms of a provider's."""
    found = find_kind(kind)
    return Terms(model="upstream", features=found.features, hosted=found.hosted)


def patched(speaker: Speaker, body: Json, on: Terms) -> Outgoing:
    """What goes out; a body that says nothing else than this one where nothing is mended."""
    return speaker.patch(raw(speaker, json.dumps(body).encode()), on)


def turns(*ids: str, **more: Any) -> Json:
    """A conversation with calls of those ids, and their results."""
    function = {"name": "f", "arguments": "{}"}
    calls = [{"id": one, "type": "function", "function": function} for one in ids]
    said = {"role": "assistant", "content": None, "tool_calls": calls, **more}
    results = [{"role": "tool", "tool_call_id": one, "content": "42"} for one in ids]
    return {"model": "upstream", "messages": [{"role": "user", "content": "x"}, said, *results]}


def items(*ids: str) -> Json:
    """The same of Responses."""
    calls = [
        {"type": "function_call", "id": "fc_1", "call_id": one, "name": "f", "arguments": "{}"}
        for one in ids
    ]
    results = [{"type": "function_call_output", "call_id": one, "output": "42"} for one in ids]
    return {"model": "upstream", "input": [{"role": "user", "content": "x"}, *calls, *results]}


def untouched(speaker: Speaker, body: Json, on: Terms) -> bool:
    """Whether all that the model is asked passes byte for byte, and nothing is told."""
    sent = patched(speaker, body, on)
    name = "messages" if "messages" in body else "input"
    return json.dumps(body[name]).encode() in sent.body and sent.dropped == ()


def call_ids(sent: Outgoing) -> list[str]:
    messages = json.loads(sent.body)["messages"]
    calls = [call["id"] for one in messages for call in one.get("tool_calls") or ()]
    return calls + [one["tool_call_id"] for one in messages if one["role"] == "tool"]


def test_ids_of_calls_fit_mistral() -> None:
    given = ["call_1", "tooluse_abc", "w_1", "abcDEF123", LONG]
    sent = patched(CHAT, turns(*given), hosted("mistral"))
    ids = call_ids(sent)
    assert ids[:5] == ids[5:]
    assert len(set(ids)) == 5
    assert ids[3] == "abcDEF123"
    assert all(re.fullmatch("[a-zA-Z0-9]{9}", one) for one in ids)
    # Nothing is lost by it, and the rest is what it was.
    assert sent.dropped == ()
    body = turns(*given)
    body["messages"][1]["tool_calls"] = json.loads(sent.body)["messages"][1]["tool_calls"]
    for turn, one in zip(body["messages"][2:], ids[5:], strict=True):
        turn["tool_call_id"] = one
    assert json.loads(sent.body) == body
    assert untouched(CHAT, turns("abcDEF123"), hosted("mistral"))


@pytest.mark.parametrize("kind", ["openai", "azure"])
def test_ids_of_calls_fit_openai(kind: str) -> None:
    ids = call_ids(patched(CHAT, turns("call_1", LONG), hosted(kind)))
    assert ids[:2] == ids[2:]
    assert ids[0] == "call_1"
    assert len(ids[1]) <= 40
    sent = json.loads(patched(RESPONSES, items("call_1", LONG), hosted(kind)).body)["input"]
    ids = [one["call_id"] for one in sent[1:]]
    assert ids[:2] == ids[2:]
    assert ids[0] == "call_1"
    assert len(ids[1]) <= 64
    assert untouched(CHAT, turns("call_1"), hosted(kind))
    assert untouched(RESPONSES, items("call_1", "x" * 64), hosted(kind))


@pytest.mark.parametrize("kind", ["vllm", "deepseek", "openrouter"])
def test_other_servers_get_what_there_is(kind: str) -> None:
    assert untouched(CHAT, turns(LONG, **MINE), hosted(kind))
    assert untouched(RESPONSES, items(LONG), hosted(kind))


@pytest.mark.parametrize("kind", ["mistral", "groq", "cerebras"])
def test_reasoning_of_ours_is_taken_out_where_it_is_refused(kind: str) -> None:
    sent = patched(CHAT, turns("abcDEF123", **MINE), hosted(kind))
    assert json.loads(sent.body) == turns("abcDEF123")
    assert sent.dropped == ("messages.reasoning_content",)
    asked = {"messages": [{"role": "user", "content": '"reasoning_content"', "reasoning": "x"}]}
    assert untouched(CHAT, asked, hosted(kind))


def test_reasoning_that_a_server_may_have_said_itself_goes_back_to_it() -> None:
    body = turns("abcDEF123", reasoning="Hm.")
    assert untouched(CHAT, body, hosted("groq"))
    assert json.loads(patched(CHAT, body, hosted("mistral")).body) == turns("abcDEF123")
    assert untouched(CHAT, turns("call_1", **MINE), hosted("openai"))


def test_reasoning_items_that_nobody_can_decrypt_are_taken_out() -> None:
    ours = {"type": "reasoning", "id": "rs_1", "summary": [],
            "encrypted_content": hidden_reasoning("Hm.")}  # fmt: skip
    theirs = {**ours, "encrypted_content": "gAAAAABo"}
    said = {"role": "user", "content": ours["encrypted_content"]}
    body = {"model": "upstream", "input": [said, ours, theirs]}
    sent = patched(RESPONSES, body, hosted("openai"))
    assert json.loads(sent.body) == {"model": "upstream", "input": [said, theirs]}
    assert sent.dropped == ("input.reasoning",)
    assert untouched(RESPONSES, {"input": [said, theirs]}, hosted("openai"))
    assert untouched(RESPONSES, body, hosted("vllm"))
    assert untouched(RESPONSES, {"input": [ours]}, hosted("openai"))


@pytest.mark.parametrize(
    "messages",
    [
        '{"tool_calls":1,"id":"x","reasoning_content":"x"}',
        '[{"role":"assistant","tool_calls":[{"id":"x"},5],"reasoning_content":"x"}]',
        '[{"role":"assistant","tool_calls":null,"id":"x"}]',
        '["tool_calls",{"tool_call_id":null,"id":"x"}]',
    ],
)
def test_what_makes_no_sense_is_passed_on(messages: str) -> None:
    asked = raw(CHAT, b'{"messages":%b}' % messages.encode())
    sent = CHAT.patch(asked, hosted("mistral"))
    assert sent.body == b'{"messages":%b,"model":"upstream"}' % messages.encode()
    assert sent.dropped == ()


def test_only_bodies_that_stay_what_they_are_take_the_short_way() -> None:
    assert CHAT.passes(ALL)
    for kind in ("openai", "mistral", "groq", "cerebras"):
        assert not CHAT.passes(hosted(kind)), kind
    for kind in ("vllm", "sglang", "deepseek", "together"):
        assert CHAT.passes(hosted(kind)), kind
    assert not CHAT.passes(msgspec.structs.replace(ALL, extra_body={"k": 1}))
    assert CHAT.passes(terms("stream"))
