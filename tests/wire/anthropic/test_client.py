"""The Messages API spoken to a server."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest

from tests.wire.anthropic.sending import CLAUDE, SCHEMA, SPEAKER, TOOL, call, sent
from tests.wire.anthropic.support import GOLDEN
from tests.wire.client_support import ALL, STREAM, WHOLE, Sum, chat, raw, read, relay, terms
from trunkline.core.errors import (
    ContentRefused,
    ContextOverflow,
    InvalidRequest,
    RateLimited,
    Unsupported,
    UpstreamFailed,
    UpstreamRefused,
)
from trunkline.core.types import (
    Delta,
    Event,
    Grammar,
    Json,
    Message,
    SamplingParams,
    Thought,
    Usage,
)
from trunkline.wire.anthropic.answer import SIGNATURE
from trunkline.wire.anthropic.messages import decode_messages
from trunkline.wire.client import Head, Terms
from trunkline.wire.codec import Incoming


def test_a_plain_conversation() -> None:
    assert sent(chat()) == {
        "model": "upstream",
        "max_tokens": 8192,
        "messages": [{"role": "user", "content": "Hi"}],
        "stream": True,
    }
    assert "stream" not in sent(chat(), terms())


def test_what_goes_out_our_own_codec_understands() -> None:
    request = chat(
        Message("system", "S"),
        Message("user", "x"),
        Message("assistant", "y", tool_calls=(call("c", '{"a":1}'),)),
        Message("tool", "r", tool_call_id="c"),
        sampling=SamplingParams(temperature=0.5, top_k=4, top_p=0.5, max_tokens=20),
        stop=("a",), grammar=Grammar("json_schema", SCHEMA), tools=(TOOL,), tool_choice="named",
        tool_name="f", parallel_tool_calls=False, overflow="cap",
    )  # fmt: skip
    body = SPEAKER.encode(request, ALL).body
    (again,) = decode_messages(Incoming(body)).requests("r", "m", "")
    assert again == request


def test_sampling_and_tools() -> None:
    body = sent(
        chat(
            sampling=SamplingParams(temperature=0.5, top_k=4, top_p=0.5, max_tokens=20),
            stop=("a",),
            include_stop=True,
            tools=(TOOL,),
            tool_choice="required",
        )
    )
    assert [body[key] for key in ("temperature", "top_k", "top_p", "max_tokens")] == [
        0.5,
        4,
        0.5,
        20,
    ]
    assert body["stop_sequences"] == ["a"]
    assert body["tools"] == [
        {
            "name": "f",
            "description": "d",
            "input_schema": {"type": "object", "properties": {"a": {}}},
            "strict": True,
        }
    ]
    assert body["tool_choice"] == {"type": "any"}
    one = sent(chat(tools=(TOOL,), parallel_tool_calls=False))
    assert one["tool_choice"] == {"type": "auto", "disable_parallel_tool_use": True}
    bare = sent(chat(tools=({"type": "function", "function": {"name": "g"}},), tool_choice="none"))
    assert bare["tools"] == [{"name": "g", "input_schema": {"type": "object", "properties": {}}}]
    assert bare["tool_choice"] == {"type": "none"}


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"sampling": SamplingParams(temperature=1.5)}, "temperature"),
        ({"sampling": SamplingParams(seed=1)}, "seed"),
        ({"sampling": SamplingParams(logprobs=1)}, "logprobs"),
        ({"sampling": SamplingParams(frequency_penalty=1)}, "frequency_penalty"),
        ({"stop": ("\n\n",)}, "stop"),
        ({"grammar": Grammar("json_object")}, "grammar"),
        ({"grammar": Grammar("regex", "a")}, "grammar"),
        ({"template_kwargs": {"custom": 1}}, "chat_template_kwargs"),
    ],
)
def test_refused_by_name_or_left_out(more: dict[str, Any], param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(chat(**more), CLAUDE)
    assert caught.value.param == param
    drops = Terms(model="upstream", features=CLAUDE.features, unsupported="drop")
    assert SPEAKER.encode(chat(**more), drops).dropped == (param,)


@pytest.mark.parametrize(
    ("notes", "placed", "told"),
    [
        ({"user": "u-1"}, {"metadata": {"user_id": "u-1"}}, ()),
        ({"user": "ann@example.org"}, {}, ("user",)),
        ({"user": "+49 170 1234567"}, {}, ("user",)),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}, ()),
        ({"service_tier": "auto"}, {"service_tier": "auto"}, ()),
        ({"service_tier": "flex"}, {}, ("service_tier",)),
        ({"verbosity": "low"}, {}, ("verbosity",)),
    ],
)
def test_what_was_said_besides(notes: Json, placed: Json, told: tuple[str, ...]) -> None:
    hosted = msgspec.structs.replace(CLAUDE, hosted=True)
    outgoing = SPEAKER.encode(chat(notes=notes), hosted)
    body = sent(chat(notes=notes), hosted)
    assert {key: body[key] for key in ("metadata", "service_tier") if key in body} == placed
    assert outgoing.dropped == told


def test_an_answer_to_be_continued_neither_loses_nor_repeats_white_space() -> None:
    turns = (Message("user", "a"), Message("assistant", "One:\n\n"))
    request = chat(*turns, add_generation_prompt=False, continue_final_message=True)
    assert sent(request)["messages"][1] == {"role": "assistant", "content": "One:"}
    for text, more in (("\n\ntwo", "two"), ("\ntwo", "two"), ("two\n\n", "two\n\n"), ("\n", "")):
        for size in (1, None):
            got = Sum(read(SPEAKER, request, message(text), size=size))
            assert got.text.get(0, "") == more


def event(kind: str, **fields: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()


def message(*texts: str, reason: str = "end_turn", stop: bool = True) -> bytes:
    begun = {"id": "m", "type": "message", "role": "assistant", "model": "upstream", "content": []}
    out = event(
        "message_start", message={**begun, "usage": {"input_tokens": 5, "output_tokens": 1}}
    )
    out += event("content_block_start", index=0, content_block={"type": "text", "text": ""})
    for text in texts:
        out += event("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    out += event("content_block_stop", index=0)
    delta = {"stop_reason": reason, "stop_sequence": None}
    out += event("message_delta", delta=delta, usage={"output_tokens": 7})
    return out + event("message_stop") * stop


# Answers


@pytest.mark.parametrize("size", [1, 3, 100, None])
def test_published_streams_in_any_pieces(size: int | None) -> None:
    text = Sum(read(SPEAKER, chat(), (GOLDEN / "stream_text.sse").read_bytes(), size=size))
    assert text.text[0].strip()
    assert text.ends == {0: ("stop", None)}
    assert text.usage == Usage(42, 10, 30)
    thinking = Sum(read(SPEAKER, chat(), (GOLDEN / "stream_thinking.sse").read_bytes(), size=size))
    assert thinking.reasoning == {0: "Which day? Sunday."}
    assert thinking.text == {0: "No trains."}
    tools = Sum(read(SPEAKER, chat(), (GOLDEN / "stream_tools.sse").read_bytes(), size=size))
    assert [one[1] for one in tools.calls.values()] == ["departures", "now"]
    assert [json.loads(one[2]) for one in tools.calls.values()] == [{"station": "東京"}, {}]
    assert tools.ends == {0: ("tool_calls", None)}
    recorded = (GOLDEN / "stream_no_arguments.sse").read_bytes()
    none = Sum(read(SPEAKER, chat(), recorded, size=size))
    assert list(none.calls.values()) == [
        ["toolu_01QE1WLsSVp5hy5Q3GmGTmjP", "updateIssueList", "{}"]
    ]
    assert none.usage == Usage(565, 48)


def test_a_published_message() -> None:
    got = Sum(read(SPEAKER, chat(), (GOLDEN / "message_tools.json").read_bytes(), head=WHOLE))
    assert (got.reasoning[0], got.text[0]) == ("Two things to ask.", "Let me look.")
    assert [json.loads(one[2]) for one in got.calls.values()] == [
        {"station": "東京", "limit": 2},
        {},
    ]
    assert got.usage == Usage(42, 31, 0, 5)
    stopped = Sum(read(SPEAKER, chat(), (GOLDEN / "message.json").read_bytes(), head=WHOLE))
    assert stopped.ends[0][0] == "stop"
    assert isinstance(stopped.ends[0][1], str)


@pytest.mark.parametrize(
    ("reason", "meaning"),
    [
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("refusal", "content_filter"),
        ("pause_turn", "stop"),
    ],
)
def test_reasons(reason: str, meaning: str) -> None:
    assert Sum(read(SPEAKER, chat(), message("x", reason=reason))).ends == {0: (meaning, None)}


def sealed(events: Sequence[Event]) -> list[Thought | str]:
    """Thoughts as they end, and the texts between them."""
    found: list[Thought | str] = []
    for event in events:
        if isinstance(event, Delta):
            found += [one for one in (event.reasoning, event.seal, event.text) if one]
    return found


def test_what_signs_thoughts_is_told() -> None:
    blocks = [
        {"type": "thinking", "thinking": "Hm.", "signature": "s1"},
        {"type": "redacted_thinking", "data": "xyz"},
        {"type": "thinking", "thinking": "Ours.", "signature": SIGNATURE},
        {"type": "text", "text": "b"},
    ]
    usage = {"input_tokens": 3, "output_tokens": 2, "cache_creation_input_tokens": 4}
    whole = {"type": "message", "content": blocks, "stop_reason": "end_turn", "usage": usage}
    expected = ["Hm.", Thought("", "s1"), Thought("", sealed="xyz"), "Ours.", "b"]
    events = read(SPEAKER, chat(), json.dumps(whole).encode(), head=WHOLE, on=CLAUDE)
    assert sealed(events) == expected
    assert Sum(events).usage == Usage(7, 2, cache_write_tokens=4)
    stream = event("message_start", message={**whole, "content": []})
    for index, block in enumerate(blocks):
        begun = {**block, "signature": ""} if "signature" in block else block
        begun = {key: "" if key in ("thinking", "text") else begun[key] for key in begun}
        stream += event("content_block_start", index=index, content_block=begun)
        for name, kind in (("thinking",) * 2, ("text",) * 2, ("signature",) * 2):
            if name in block:
                delta = {"type": f"{kind}_delta", name: block[name]}
                stream += event("content_block_delta", index=index, delta=delta)
        stream += event("content_block_stop", index=index)
    stream += event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
    stream += event("message_stop")
    assert sealed(read(SPEAKER, chat(), stream, on=CLAUDE)) == expected
    # Engines of open models sign nothing that matters.
    assert sealed(read(SPEAKER, chat(), stream)) == ["Hm.", "Ours.", "b"]


def test_a_refusal_without_a_word() -> None:
    with pytest.raises(ContentRefused):
        read(SPEAKER, chat(), message(reason="refusal"))


def test_what_matched_is_shown_to_who_wants_it() -> None:
    body = message("x", reason="stop_sequence").replace(
        b'"stop_sequence": null', b'"stop_sequence": "END"'
    )
    got = Sum(read(SPEAKER, chat(stop=("END",), include_stop=True), body))
    assert (got.text[0], got.ends[0]) == ("xEND", ("stop", "END"))


# Up to the reason to stop, which says that nothing more follows.
UNSTOPPED = message("x", stop=False)


@pytest.mark.parametrize("size", [1, None])
def test_all_has_been_said_once_there_is_a_reason_to_stop(size: int | None) -> None:
    got = Sum(read(SPEAKER, chat(), UNSTOPPED, size=size))
    assert (got.text, got.ends, got.usage) == ({0: "x"}, {0: ("stop", None)}, Usage(5, 7))
    body, usage = relay(SPEAKER, raw(SPEAKER, b'{"stream":true}'), UNSTOPPED, size=size)
    assert body.endswith(b'event: message_stop\ndata: {"type":"message_stop"}\n\n')
    assert body.count(b"event: message_stop") == 1
    assert usage == Usage(5, 7)


@pytest.mark.parametrize(
    "body",
    [b"", UNSTOPPED.rpartition(b"event:")[0], message("x")[:200], b"event: x\ndata: {\n\n"],
    ids=["nothing", "no end", "cut", "garbage"],
)
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body)
    with pytest.raises(UpstreamFailed):
        relay(SPEAKER, raw(SPEAKER, b'{"stream":true}'), body)
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, chat(), body or b"{}", head=WHOLE)


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        ("overloaded_error", UpstreamFailed),
        ("api_error", UpstreamFailed),
        ("rate_limit_error", RateLimited),
        ("authentication_error", UpstreamRefused),
        ("not_found_error", UpstreamRefused),
        ("invalid_request_error", InvalidRequest),
    ],
)
def test_errors_within_a_stream(kind: str, error: type[Exception]) -> None:
    body = message("x", stop=False) + event("error", error={"type": kind, "message": "Oh"})
    with pytest.raises(error):
        read(SPEAKER, chat(), body)
    with pytest.raises(error):
        relay(SPEAKER, raw(SPEAKER, b'{"stream":true}'), body)


def test_errors() -> None:
    def told(status: int, kind: str, text: str) -> Exception:
        body = json.dumps({"type": "error", "error": {"type": kind, "message": text}}).encode()
        return SPEAKER.error(Head(status, {"retry-after": "3"}), body)

    long = told(400, "invalid_request_error", "prompt is too long: 210000 tokens > 200000 maximum")
    assert isinstance(long, ContextOverflow)
    limited = told(429, "rate_limit_error", "slow down")
    assert isinstance(limited, RateLimited)
    assert limited.retry_after == 3
    assert isinstance(told(529, "overloaded_error", "Overloaded"), UpstreamFailed)
    assert isinstance(told(401, "authentication_error", "invalid x-api-key"), UpstreamRefused)


# Passing on


def test_patch_changes_the_model_and_keeps_the_dialects_headers() -> None:
    asked = raw(SPEAKER, b'{"model":"m","max_tokens":5,"messages":[{"x": 1.50}]}')
    outgoing = SPEAKER.patch(asked, CLAUDE)
    assert outgoing.body == b'{"model":"upstream","max_tokens":5,"messages":[{"x": 1.50}]}'
    assert dict(outgoing.headers)["anthropic-version"] == "2023-06-01"
    defaults = msgspec.structs.replace(CLAUDE, default_body={"max_tokens": 9, "top_k": 2})
    assert SPEAKER.patch(asked, defaults).body == (
        b'{"model":"upstream","max_tokens":5,"messages":[{"x": 1.50}],"top_k":2}'
    )
    given = (("anthropic-beta", "b"), ("anthropic-version", "2026-10-21"), ("openai-beta", "no"))
    outgoing = SPEAKER.patch(msgspec.structs.replace(asked, headers=given), CLAUDE)
    assert dict(outgoing.headers) == {
        "content-type": "application/json",
        "anthropic-version": "2026-10-21",
        "anthropic-beta": "b",
    }


@pytest.mark.parametrize("size", [1, 10, None])
def test_a_recorded_stream_is_passed_on(size: int | None) -> None:
    body = (GOLDEN / "stream_no_arguments.sse").read_bytes()
    same = raw(SPEAKER, b'{"stream":true}', asked="upstream")
    assert relay(SPEAKER, same, body, size=size) == (body, Usage(565, 48))
    other = raw(SPEAKER, b'{"stream":true}', asked="mine")
    expected = body.replace(b'"model":"claude-sonnet-4-5-20250929"', b'"model":"mine"')
    assert relay(SPEAKER, other, body, size=size)[0] == expected


def test_only_the_messages_own_model_is_renamed() -> None:
    whole = {
        "type": "message",
        "model": "upstream",
        "content": [{"type": "tool_use", "id": "t", "name": "f", "input": {"model": "upstream"}}],
        "usage": {"input_tokens": 3, "output_tokens": 2},
    }
    asked = raw(SPEAKER, b"{}", asked="mine")
    ours, usage = relay(SPEAKER, asked, json.dumps(whole).encode(), head=WHOLE)
    assert json.loads(ours) == {**whole, "model": "mine"}
    assert usage == Usage(3, 2)
    with pytest.raises(UpstreamFailed):
        SPEAKER.relay(raw(SPEAKER, b'{"stream":true}'), CLAUDE, WHOLE)
    assert SPEAKER.relay(asked, CLAUDE, STREAM) is not None
