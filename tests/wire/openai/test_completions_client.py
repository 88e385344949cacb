"""Completions spoken to a server."""

from __future__ import annotations

import functools
import json
from typing import Any

import msgspec
import pydantic
import pytest
from openai.types.completion_create_params import (
    CompletionCreateParamsNonStreaming,
    CompletionCreateParamsStreaming,
)

from tests.wire.client_support import ALL, STREAM, WHOLE, Sum, chat, raw, read, relay, terms
from tests.wire.openai.support import GOLDEN
from trunkline.core.errors import RateLimited, Unsupported, UpstreamFailed
from trunkline.core.types import (
    Grammar,
    InfillInput,
    Input,
    Json,
    MixedInput,
    Request,
    SamplingParams,
    TextInput,
    TokensInput,
    Usage,
)
from trunkline.wire.client import Terms
from trunkline.wire.openai.completions import decode_completion
from trunkline.wire.openai.completions_client import CompletionsSpeaker

SPEAKER = CompletionsSpeaker()


@functools.cache
def adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    """What checks a body; making one takes long."""
    return pydantic.TypeAdapter(kind)


def prompt(given: Input | None = None, **more: Any) -> Request:
    return Request(id="r", model="m", input=given or TextInput("Hi"), **more)


def sent(request: Request, on: Terms = ALL) -> Json:
    """The body that goes out; checked against the official client's types."""
    outgoing = SPEAKER.encode(request, on)
    assert (outgoing.method, outgoing.path) == ("POST", "/v1/completions")
    body: Json = json.loads(outgoing.body)
    streams = body.get("stream", False)
    kind: Any = CompletionCreateParamsStreaming if streams else CompletionCreateParamsNonStreaming
    adapter(kind).validate_python(body)
    return body


def test_prompts() -> None:
    assert sent(prompt()) == {
        "model": "upstream",
        "prompt": "Hi",
        "max_tokens": None,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    assert sent(prompt(TokensInput((1, 2))))["prompt"] == [1, 2]
    assert sent(prompt(TextInput("x", add_special_tokens=False)))["add_special_tokens"] is False


def test_as_long_as_the_context_leaves() -> None:
    small = msgspec.structs.replace(ALL, context_length=100)
    assert sent(prompt(TextInput("é" * 10)), small)["max_tokens"] == 100 - 20 - 8
    assert sent(prompt(TokensInput((1, 2))), small)["max_tokens"] == 98
    assert sent(prompt(TextInput("x" * 200)), small)["max_tokens"] is None
    assert sent(prompt(sampling=SamplingParams(max_tokens=5)), small)["max_tokens"] == 5


@pytest.mark.parametrize(
    ("given", "param"),
    [
        (TokensInput((1,)), "prompt"),
        (MixedInput(("a", (1,))), "prompt"),
        (InfillInput(("a",), ("b",)), "prompt"),
        (TextInput("x", add_special_tokens=False), "add_special_tokens"),
        (TextInput("x", parse_special_tokens=False), "parse_special_tokens"),
    ],
)
def test_prompts_that_a_server_does_not_take(given: Input, param: str) -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(prompt(given), terms())
    assert caught.value.param == param


def test_conversations_are_refused() -> None:
    with pytest.raises(Unsupported) as caught:
        SPEAKER.encode(chat(), ALL)
    assert caught.value.param == "messages"


def test_what_goes_out_our_own_codec_understands() -> None:
    sampling = SamplingParams(
        temperature=0.5, top_k=5, seed=7, max_tokens=20, logprobs=2, logit_bias=((3, 1.0),)
    )
    request = prompt(sampling=sampling, n=2, stop=("a",), grammar=Grammar("choice", '["a","b"]'))
    (again,) = decode_completion(SPEAKER.encode(request, ALL).body).requests("r", "m", "")
    assert again == request


def test_left_out_by_name() -> None:
    drops = msgspec.structs.replace(terms(), unsupported="drop")
    request = prompt(n=2, sampling=SamplingParams(seed=1, max_tokens=3), prompt_logprobs=1)
    outgoing = SPEAKER.encode(request, drops)
    assert outgoing.dropped == ("seed", "n", "prompt_logprobs")
    assert json.loads(outgoing.body) == {"model": "upstream", "prompt": "Hi", "max_tokens": 3}


def sse(*chunks: Json) -> bytes:
    parts = [json.dumps(chunk) for chunk in chunks] + ["[DONE]"]
    return "".join(f"data: {part}\n\n" for part in parts).encode()


def chunk(text: str, finish: str | None = None, **more: Any) -> Json:
    return {"model": "up", "choices": [{"index": 0, "text": text, "finish_reason": finish, **more}]}


def test_openais_published_answer_and_chunk() -> None:
    whole = (GOLDEN / "completion.json").read_bytes()
    got = Sum(read(SPEAKER, prompt(), whole, head=WHOLE))
    assert got.text == {0: "\n\nThis is indeed a test"}
    assert got.ends == {0: ("length", None)}
    assert got.usage == Usage(5, 7)
    one = json.loads((GOLDEN / "completion_chunk.json").read_text())
    for size in (1, 9, None):
        got = Sum(read(SPEAKER, prompt(), sse(one, chunk("", "stop")), size=size))
        assert got.text == {0: one["choices"][0]["text"]}


def test_log_probabilities_with_gaps() -> None:
    logprobs = {
        "tokens": ["a", "b"],
        "token_logprobs": [None, -0.5],
        "top_logprobs": [None, {"c": -0.75, "b": -0.5}],
        "text_offset": [0, 1],
    }
    body = sse(chunk("ab", logprobs=logprobs), chunk("", "stop"))
    got = Sum(read(SPEAKER, prompt(sampling=SamplingParams(logprobs=2)), body))
    (one,) = got.logprobs
    assert (one.token, one.logprob, [top[0] for top in one.top]) == ("b", -0.5, ["b", "c"])
    assert Sum(read(SPEAKER, prompt(), body)).logprobs == []


@pytest.mark.parametrize("body", [b"", sse(chunk("a")), sse(chunk("a", "abort")), b"data: x\n\n"])
def test_what_is_no_answer(body: bytes) -> None:
    with pytest.raises(UpstreamFailed):
        read(SPEAKER, prompt(), body)


def test_errors_within_a_stream() -> None:
    body = sse(chunk("a"), {"error": {"type": "rate_limit_error", "message": "x"}})
    with pytest.raises(RateLimited):
        read(SPEAKER, prompt(), body)


def test_passing_on() -> None:
    asked = raw(SPEAKER, b'{"model":"m","stream":true,"prompt":"x"}', asked="m")
    assert json.loads(SPEAKER.patch(asked, ALL).body) == {
        "model": "upstream",
        "stream": True,
        "prompt": "x",
        "stream_options": {"include_usage": True},
    }
    usage = {"model": "up", "choices": [], "usage": {"prompt_tokens": 1, "completion_tokens": 2}}
    body = sse(chunk("a"), chunk("", "stop"), usage)
    expected = sse(chunk("a"), chunk("", "stop")).replace(b'"model": "up"', b'"model":"m"')
    assert relay(SPEAKER, asked, body, size=11) == (expected, Usage(1, 2))
    assert SPEAKER.error(STREAM, b"").kind == "upstream_failed"
