"""What a client says besides, and what it says although it is neutral."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.wire.openai.test_responses import whole
from tests.wire.speaking import terms
from trunkline.core.errors import InvalidRequest
from trunkline.core.types import Request
from trunkline.wire.asked import Asked
from trunkline.wire.openai.chat import decode_chat
from trunkline.wire.openai.completions import decode_completion
from trunkline.wire.openai.responses import ResponsesAsk, decode_responses

BODY = {"messages": [{"role": "user", "content": "x"}], "prompt": "x", "input": "x"}
# Said in the same words, and meant alike, in chat completions and in responses.
ALIKE = {
    "user": "me",
    "safety_identifier": "hash",
    "metadata": {"a": "b"},
    "service_tier": "flex",
    "prompt_cache_key": "key",
    "prompt_cache_retention": "24h",
    "prompt_cache_options": {"mode": "explicit", "ttl": "30m"},
}


def chat(**fields: Any) -> Request:
    (one,) = decode_chat(json.dumps(BODY | fields).encode()).requests("id", "m", "")
    return one


def responses_ask(**fields: Any) -> ResponsesAsk:
    return decode_responses(json.dumps({"input": "x", **fields}).encode())


def responses(**fields: Any) -> Request:
    (one,) = responses_ask(**fields).requests("id", "m", "")
    return one


def test_notes_of_chat() -> None:
    more = {"store": True, "verbosity": "low", "prediction": {"type": "content", "content": "x"}}
    assert chat(**ALIKE, **more).notes == ALIKE | more


def test_notes_of_responses() -> None:
    more = {"context_management": [{"type": "compaction", "compact_threshold": 1000}]}
    thinking = {"effort": "low", "context": "all_turns", "mode": "pro"}
    one = responses(**ALIKE, **more, text={"verbosity": "high"}, reasoning=thinking, store=True)
    said = {"verbosity": "high", "reasoning.context": "all_turns", "reasoning.mode": "pro"}
    # Responses are stored here.
    assert one.notes == ALIKE | more | said


def test_notes_of_completions() -> None:
    body = json.dumps(BODY | {"prompt": ["a", "b"], "user": "me"}).encode()
    assert [one.notes for one in decode_completion(body).requests("id", "m", "")] == [
        {"user": "me"},
        {"user": "me"},
    ]


@pytest.mark.parametrize(
    "fields",
    [
        {"service_tier": "auto", "prompt_cache_options": {}, "prompt_cache_key": ""},
        {"metadata": {}, "store": False, "user": "", "stream": True},
        {"prompt_cache_options": None, "prompt_cache_retention": None, "metadata": None},
        {"stream": True, "stream_options": {"include_obfuscation": False}},
    ],
)
def test_what_means_the_default_is_no_note(fields: dict[str, Any]) -> None:
    assert chat(**fields, verbosity="medium", prediction=None).notes == {}
    thinking = {"context": "auto", "mode": "standard", "summary": "auto"}
    one = responses(
        **fields,
        text={"verbosity": "medium"},
        reasoning=thinking,
        context_management=[],
        truncation="auto",
        max_tool_calls=3,
        include=["web_search_call.action.sources"],
    )
    assert one.notes == {}


@pytest.mark.parametrize("value", [{"a": 2**64}, json.loads("[" * 80 + "1" + "]" * 80)])
def test_what_cannot_be_sent_on_is_refused_by_name(value: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(prediction=value)
    assert caught.value.param == "prediction"


def test_tools_that_nobody_runs_are_told_by_their_types() -> None:
    inner = [{"type": "function", "name": "g"}, {"type": "mcp", "server_label": "x"}]
    tools = [
        {"type": "web_search"},
        {"type": "web_search"},
        {"type": 'of the "future"\r\nset-cookie: a=b'},
        {"type": "x" * 200},
        {"type": "namespace", "name": "ns", "description": "d", "tools": inner},
    ]
    one = responses(tools=tools)
    assert list(one.notes) == ["tools.web_search", "tools.other", "tools.mcp"]
    outgoing = Asked(one, terms(unsupported="drop")).outgoing("/x", {})
    assert outgoing.dropped == ("tools", *one.notes)
    # Nor would anybody have called them.
    assert responses(tools=tools, tool_choice="none").notes == {}
    many = [{"type": f"kind{number}"} for number in range(1000)]
    assert len(responses(tools=many).notes) == 33


def test_items_that_no_model_here_can_have_made_are_told() -> None:
    items = [
        {"type": "web_search_call", "id": "ws_1", "status": "completed"},
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {"type": "message", "role": "user", "content": "x"},
        {},
    ]
    assert list(responses(input=items).notes) == ["input.web_search_call"]


def test_the_older_name_of_a_summary_is_one() -> None:
    asked = responses_ask(reasoning={"generate_summary": "concise"})
    assert whole(asked)["reasoning"] == {"effort": None, "summary": "concise"}


NEUTRAL = {"temperature": 1, "top_p": 1.0, "min_p": 0, "repetition_penalty": 1}


@pytest.mark.parametrize(
    "said", [(), ("temperature",), ("top_p", "repetition_penalty"), (*NEUTRAL,)]
)
def test_neutral_values_that_were_given_are_told_apart(said: tuple[str, ...]) -> None:
    fields = {name: NEUTRAL[name] for name in said}
    body = json.dumps(BODY | fields).encode()
    (completion,) = decode_completion(body).requests("id", "m", "")
    for one in (chat(**fields), completion, responses(**fields)):
        assert one.explicit == said
        for name in said:
            assert Asked(one, terms()).peek(name) == NEUTRAL[name]


def test_other_values_need_no_such_word() -> None:
    assert chat(temperature=0.5, top_p=None, presence_penalty=0, top_k=-1).explicit == ()
